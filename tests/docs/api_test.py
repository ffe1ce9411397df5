"""The API pages of the documentation: every public name is on one of them, and every example runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import lcode

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / 'docs' / 'api').glob('*.md'))}
DOCUMENTED = [name for text in PAGES.values() for name in re.findall(r'^\.\. (?:auto|py:)\w+:: ([\w.]+)', text, re.M)]
# This one starts Ray.
LONG = {'lcode.serving.service.Service': [
    pytest.mark.long, pytest.mark.filterwarnings('ignore:os.fork:RuntimeWarning', 'ignore::FutureWarning')]}


def found(dotted):
  """The object of a dotted name, as an importer of its longest part that is a module finds it."""
  module, _, name = dotted.rpartition('.')
  try:
    return getattr(importlib.import_module(module), name)
  except ModuleNotFoundError:
    return getattr(found(module), name)


def page_examples(name):
  """What stands in a page's fences, as one text: the lines of an example that the next one builds upon."""
  return '\n'.join(re.findall(r'```pycon\n(>>> .*?)```', PAGES[name], re.S))


def run(text, name, variables):
  test = doctest.DocTestParser().get_doctest(text, variables, name, None, 0)
  said = []
  doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
      test, out=said.append, clear_globs=False)
  assert not said, ''.join(said)
  return test.globs


@pytest.fixture(scope='module')
def start():
  """What the examples start from, as the first page says it."""
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    return run(page_examples('index'), 'index', {'__name__': __name__})


@pytest.fixture
def variables(start, tmp_path, monkeypatch, forgotten):
  """The names that an example knows; what it registers is forgotten afterwards, what it writes goes to a new folder."""
  (tmp_path / 'checkpoints').symlink_to(ROOT / 'checkpoints')
  monkeypatch.chdir(tmp_path)
  return dict(start)


def test_every_public_name_is_on_one_page():
  assert len(DOCUMENTED) == len(set(DOCUMENTED)), 'a name is on two pages'
  assert {f'lcode.{name}' for name in lcode._NAMES} <= set(DOCUMENTED)
  for name in DOCUMENTED:
    assert name == 'lcode.RECIPES' or found(name).__doc__, f'{name} says nothing'


def test_every_argument_is_explained():
  for name in DOCUMENTED:
    if name == 'lcode.RECIPES' or inspect.isclass(found(name)) and issubclass(found(name), Exception):
      continue
    missing = [argument for argument in inspect.signature(found(name)).parameters
               if not re.search(rf'^ +[\w, *]*\b{argument}\b[\w, ]*: |`{argument}`', found(name).__doc__, re.M)]
    assert not missing, f'{name} does not say what {missing} are'


@pytest.mark.parametrize('name', [pytest.param(name, marks=LONG.get(name, ()))
                                  for name in DOCUMENTED if name != 'lcode.RECIPES'])
def test_examples_run(name, variables):
  text = found(name).__doc__
  assert '>>> ' in text or not (name.count('.') == 1), f'{name} has no example'
  run(text, name, variables)


@pytest.mark.parametrize('page', [page for page in PAGES if page != 'index' and '>>> ' in PAGES[page]])
def test_examples_of_pages_run(page, variables):
  run(page_examples(page), page, variables)
