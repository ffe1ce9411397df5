"""Pages of results: every command is one that its entry point would take, and tables say what the records say."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.studies import suites, summary
from lcode.runs.presets import get_preset

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'docs' / 'results'
PAGES = sorted(RESULTS.rglob('*.md'))
COMMAND = 'python -m experiments'
STALE = 'there are newer records: run python -m experiments.summary'


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
    rest = flags.FLAGS([module, *arguments])[1:]
    assert not rest, f'{rest} are no flags of {module}'
    for name in ('scheme', 'schemes'):
      value = flags.FLAGS[name].value if name in flags.FLAGS else None
      for scheme in [value] if isinstance(value, str) else value or []:
        assert scheme == 'all' or get_preset(scheme)


@pytest.mark.parametrize('module', sorted({module for _, module, _ in found()}))
def test_every_command_parses(module):
  asked = [(page.name, arguments) for page, its, arguments in found() if its == module]
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


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(RESULTS).as_posix())
def test_anchors_are_headings(page):
  for path, anchor in re.findall(r'\]\(([^)\s#:]*)#([^)\s]+)\)', page.read_text()):
    headings = re.findall(r'^#+ (.*)', (page.parent / path if path else page).read_text(), re.M)
    assert anchor in [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings], anchor


def test_the_first_page_is_short_and_shows_what_the_records_say():
  text = (RESULTS / 'README.md').read_text()
  assert len(text.splitlines()) <= 120
  assert summary.table(summary.points(RESULTS)) in text, STALE
  assert summary.costs(RESULTS) in (RESULTS / 'costs.md').read_text(), STALE


@pytest.mark.parametrize('name', suites.SUITES)
def test_tables_of_suites_are_the_records(name):
  assert (RESULTS / f'{name}.md').read_text() == summary.suite(name, RESULTS), STALE


def test_every_page_of_results_is_linked_from_the_first():
  text = (RESULTS / 'README.md').read_text()
  for page in RESULTS.glob('*.md'):
    assert page.name in text or page.name == 'README.md', f'{page.name} cannot be found'
