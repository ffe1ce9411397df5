"""README and docs say what is so: their Python runs and prints what they say, their commands and links are there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / 'docs').rglob('*.md')))]
LONG = ('serving', 'your_model')  # pages whose Python takes more than some seconds
MARK = '--- the end of a block ---'
COMMON = (ROOT / 'experiments' / 'common.py').read_text()
MARGIN = 3.5  # percentage points, of what is trained on another machine: 180 to 360 predictions
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(path):
  return [(kind, text) for kind, text in FENCE.findall(path.read_text())]


def name_of(path):
  return str(path.relative_to(ROOT))


def with_python(long):
  return [page for page in PAGES if any(kind == 'python' for kind, _ in blocks(page)) and (page.stem in LONG) == long]


@pytest.mark.parametrize('page', with_python(long=False), ids=name_of)
def test_a_pages_python_runs_and_prints_what_it_says(page, capsys, monkeypatch):
  """All of a page's Python is one program, run in its order; a text block says what the one before has printed."""
  monkeypatch.chdir(ROOT)
  names = {'__name__': 'page'}
  for code, said in pairs(page):
    exec(compile(code, name_of(page), 'exec'), names)
    printed = capsys.readouterr().out
    if said is not None:
      _compare(printed, said)


@pytest.mark.long
@pytest.mark.parametrize('page', [*with_python(long=True), *sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))],
                         ids=name_of)
def test_long_pages_and_notebooks_do_so_too(page, tmp_path):
  """In a process of its own: Ray forks, which JAX does not like in one where it is at work."""
  parts = cells(page) if page.suffix == '.ipynb' else pairs(page)
  program = tmp_path / 'program.py'
  program.write_text(''.join(f'{code}\nprint({MARK!r})\n' for code, _ in parts))
  ran = subprocess.run([sys.executable, program], cwd=ROOT, text=True, capture_output=True, timeout=600,
                       env=os.environ | {'MPLBACKEND': 'Agg', 'PYTHONPATH': str(ROOT)})
  assert ran.returncode == 0, ran.stderr[-3000:]
  printed = ran.stdout.split(f'{MARK}\n')
  assert len(printed) == len(parts) + 1
  for out, (_, said) in zip(printed, parts):
    if said is not None:
      _compare(out, said)


def pairs(page):
  """A page's Python blocks, each with the text block after it, or None."""
  found = [block for block in blocks(page) if block[0] in ('python', 'text')]
  return [(text, found[i + 1][1] if found[i + 1:] and found[i + 1][0] == 'text' else None)
          for i, (kind, text) in enumerate(found) if kind == 'python']


def cells(notebook):
  """A notebook's code cells, each with what it has printed."""
  all_cells = json.loads(notebook.read_text())['cells']
  code = [cell for cell in all_cells if cell['cell_type'] == 'code']
  return [(''.join(cell['source']), ''.join(''.join(output.get('text', '')) for output in cell['outputs']))
          for cell in code]


def _compare(printed, said):
  number = r'\d+(?:\.\d+)?(?=%)'
  assert re.sub(number, '', printed).split() == re.sub(number, '', said).split()
  figures, claimed = ([float(figure) for figure in re.findall(number, text)] for text in (printed, said))
  np.testing.assert_allclose(figures, claimed, atol=MARGIN)


def commands(text):
  """Each `python -m experiments.X ...` of a page, as (module, arguments)."""
  fenced = ' \n '.join(text for kind, text in FENCE.findall(text) if kind in ('bash', ''))
  inline = ' \n '.join(' '.join(line.split()) for line in re.findall(r'(?<!`)`([^`]+)`(?!`)', FENCE.sub('', text)))
  for line in (fenced + '\n' + inline).replace('\\\n', ' ').splitlines():
    for command in re.split(r'[;&|]|\s#\s', line):
      words = shlex.split(command.replace("'", ' '), comments=True)
      start = words.index('-m') + 1 if '-m' in words[:-1] else len(words)
      if start < len(words) and words[start].startswith('experiments.'):
        yield words[start].removeprefix('experiments.'), words[start + 1:]


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_a_pages_commands_have_these_flags(page):
  for module, arguments in commands(page.read_text()):
    path = (ROOT / 'experiments').joinpath(*module.split('.')).with_suffix('.py')
    source = path.read_text() + COMMON
    for argument in arguments:
      name = re.match(r'--(?:no(?=time_costs))?(\w+)', argument)
      assert name, f'{module}: {argument!r} is no flag'
      assert f"'{name[1]}'" in source or name[1] == 'help', f'experiments.{module} has no --{name[1]}'


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_a_pages_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    target = link.split('#')[0]
    if target and not re.match(r'https?:|mailto:|\.\./\.\./actions/', link):
      assert (page.parent / target).exists(), f'{link} leads nowhere'
