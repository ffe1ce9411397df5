"""README and docs say what is so: their Python runs and prints what they say, their commands and links are there."""

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from lcode.runs.presets import get_preset

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / 'docs').rglob('*.md')))]
LONG = ('serving', 'your_model')  # pages whose Python takes more than some seconds
MARK = '--- the end of a block ---'
COMMAND = 'python -m experiments'
HALF_TRAINED = 8.0  # points, of codes in a notebook that stops long before their recipes do
MARGIN = 3.5  # percentage points, of what is trained on another machine: 180 to 360 predictions
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(path):
  return [(kind, text) for kind, text in FENCE.findall(path.read_text())]


def name_of(path):
  return str(path.relative_to(ROOT))


def with_python(long):
  return [page for page in PAGES if any(kind == 'python' for kind, _ in blocks(page)) and (page.stem in LONG) == long]


@pytest.mark.parametrize('page', with_python(long=False), ids=name_of)
def test_a_pages_python_runs_and_prints_what_it_says(page, capsys, monkeypatch, forgotten):
  """All of a page's Python is one program, run in its order; a text block says what the one before has printed."""
  monkeypatch.chdir(ROOT)
  names = {'__name__': 'page'}
  with jax.numpy_rank_promotion('allow'):  # as users have it
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
      _compare(out, said, HALF_TRAINED if page.stem == 'every_code' else MARGIN)


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


def _compare(printed, said, margin=MARGIN):
  number = r'\d+(?:\.\d+)?(?=%)'
  assert re.sub(number, '', printed).split() == re.sub(number, '', said).split()
  figures, claimed = ([float(figure) for figure in re.findall(number, text)] for text in (printed, said))
  np.testing.assert_allclose(figures, claimed, atol=margin)


def commands(text):
  """(module, arguments) of each command, in blocks and in prose."""
  blocks = re.findall(r'^```\w*\n(.*?)^```', text, re.S | re.M)
  lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
  lines += [' '.join(span.split()) for span in re.findall(r'`(python -m [^`]*)`', re.sub(r'^```.*?^```', '', text,
                                                                                         flags=re.S | re.M))]
  shared = {}
  for line in lines:
    if named := re.match(r"(\w+)='(.*)'", line):
      shared[named[1]] = named[2]
      continue
    for name, value in shared.items():
      line = line.replace(f'${name}', value)
    for part in re.split(r'&&|;|\bdo\b', re.sub(r'\s#.*', '', line)):
      if COMMAND in part:
        module, *arguments = shlex.split(part[part.index(COMMAND) + len('python -m '):])
        yield module, [argument for argument in arguments if argument != '...']


def found():
  return [(page, *command) for page in PAGES for command in commands(page.read_text())]


def parse(module, arguments):
  """Flags as the entry point defines them; raises absl's error for what is none."""
  with flagsaver.flagsaver():  # what is defined here is gone afterwards
    importlib.import_module(module).define_flags()
    own_parts = [argument for argument in arguments if argument.startswith('--import=')]  # every entry point has it
    rest = flags.FLAGS([module, *(argument for argument in arguments if argument not in own_parts)])[1:]
    assert not rest, f'{rest} are no flags of {module}'
    for name in ('scheme', 'schemes'):
      value = flags.FLAGS[name].value if name in flags.FLAGS and not own_parts else None
      for scheme in [value] if isinstance(value, str) else value or []:
        assert scheme == 'all' or get_preset(scheme)


@pytest.mark.parametrize('module', sorted({module for _, module, _ in found()}))
def test_every_command_parses(module):
  asked = [(name_of(page), arguments) for page, its, arguments in found() if its == module]
  for page, arguments in asked:
    try:
      parse(module, arguments)
    except flags.Error as error:
      pytest.fail(f'{page}: {module} {" ".join(arguments)}: {error}')


def test_what_is_no_flag_is_noticed():
  text = "```\ntwo='python -m experiments.compare --k=2'\n$two --scheme=bundle   # none\n```"
  ((module, arguments),) = commands(text)
  assert arguments == ['--k=2', '--scheme=bundle']
  with pytest.raises(flags.Error):
    parse(module, arguments)
  parse(module, ['--k=2', '--schemes=bundle'])


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_a_pages_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    target = link.split('#')[0]
    if target and not re.match(r'https?:|mailto:|\.\./\.\./actions/', link):
      assert (page.parent / target).exists(), f'{link} leads nowhere'


# The figures of results take hours.
GUIDE = [page for page in PAGES if not {'results', 'api'} & set(page.relative_to(ROOT).parts)]
SHORTER = {'seconds': '3', 'seconds_a_row': '0.2', 'budget_minutes': '0.02', 'queries': '2000', 'kill_every': '1'}
FEW = ['--schemes=mosaic,approxifer,backup']
QUICK = {'train_base': ['--max_steps=3'], 'train_code': ['--max_steps=3', '--notime_costs'],
         'compare': ['--notime_costs', *FEW],
         'choose': ['--notime_costs', *FEW], 'benchmark': ['--steps=1', '--repeats=1']}
ELSEWHERE = '--address=', '--base_model=resnet18'  # asks for a cluster; takes minutes
DATA = os.environ.get('TFDS_DATA_DIR')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where a reader would stand: beside the checkpoints, with the files that pages tell to save."""
  path = tmp_path_factory.mktemp('reader')
  (path / 'checkpoints').symlink_to(ROOT / 'checkpoints')
  for page in GUIDE:
    for name, text in re.findall(r'```python\n# (\w+\.py)\n(.*?)```', page.read_text(), re.DOTALL):
      (path / name).write_text(text)
  return path


def shown(page):
  """The commands of a page's blocks, each as quick as it gets: fewer steps, seconds or queries."""
  for module, arguments in commands('\n'.join(f'```\n{text}```' for kind, text in blocks(page) if kind == 'bash')):
    module = module.removeprefix('experiments.')
    if not any(argument.startswith(ELSEWHERE) for argument in arguments):
      pairs = (argument.replace('=DIR', f'={DATA}').partition('=') for argument in arguments)
      yield module, QUICK.get(module, []) + [name + is_ + SHORTER.get(name[2:], value) for name, is_, value in pairs]


@pytest.mark.long
@pytest.mark.parametrize('page', [page for page in GUIDE if list(shown(page))], ids=name_of)
def test_a_pages_commands_run(page, folder):
  """One after the other, as a reader would, in one folder; what serves is stopped by Ctrl-C when it is ready."""
  if DATA is None and 'DIR' in page.read_text():
    pytest.skip('TFDS_DATA_DIR is not set')
  for module, arguments in shown(page):
    process = subprocess.Popen(
        [sys.executable, '-m', f'experiments.{module}', *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {'PYTHONPATH': str(ROOT)})
    try:
      if module == 'serve':
        assert any('serving on' in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
      _, errors = process.communicate(timeout=300)
    finally:
      process.kill()
    assert process.returncode == 0, f'{module} {" ".join(arguments)}: {errors[-2000:]}'
