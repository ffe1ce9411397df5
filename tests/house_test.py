"""How the house is built: who imports whom, what an import costs, what the packaging says."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    ('errors',), ('code', 'losses', 'metrics', 'models', 'coders', 'recipes'), ('parity',), ('scheme',),
    ('sources', 'data', 'train', 'parallel', 'costs'), ('loop', 'splits'),
    ('fitting', 'checkpoint', 'records', 'plots', 'progress'), ('evaluate', 'configs'), ('bases', 'families'),
    ('runs',), ('comparison',), ('reproduce',),
]
ONLY_IN = {'tensorflow_datasets': 'sources', 'sklearn': 'data', 'orbax': 'checkpoint', 'matplotlib': 'plots',
           'tensorboardX': 'progress', 'rich': 'progress'}


def modules():
  for path in sorted((ROOT / 'lcode').rglob('*.py')):
    name = path.relative_to(ROOT / 'lcode').with_suffix('').parts[0]
    if name != '__init__':
      yield name, path


def imports(path):
  """Dotted names that a file imports, wherever in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def layer_of(name):
  return next(level for level, names in enumerate(LAYERS) if name in names)


def test_imports_point_one_way():
  known = {name for names in LAYERS for name in names}
  for name, path in modules():
    for imported in imports(path):
      parts = imported.split('.')
      if parts[0] == 'lcode' and len(parts) > 1 and parts[1] in known and parts[1] != name:
        assert layer_of(parts[1]) <= layer_of(name), f'{path.name} imports {imported}'
      assert parts[0] != 'experiments', f'{path.name} imports {imported}'
      if name == 'coders':
        assert imported != 'lcode.models', 'coders are handed base_apply'


def test_what_is_heavy_is_imported_in_one_file():
  for name, path in modules():
    for imported in imports(path):
      package = imported.split('.')[0]
      assert name == ONLY_IN.get(package, name), f'{path.name} imports {imported}'
      assert not imported.startswith('absl.flags') and imported != 'absl.app', f'{path.name} imports {imported}'


def test_importing_lcode_starts_no_backend_and_little_else():
  code = ('import sys, lcode; lcode.Code, lcode.make_scheme, lcode.fit; from jax._src import xla_bridge; '
          'assert not xla_bridge._backends; '
          'print([m for m in ("orbax", "tensorflow_datasets", "matplotlib", "sklearn") if m in sys.modules])')
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == '[]'


def test_every_public_name_is_there():
  import lcode
  for name in lcode.__all__:
    assert getattr(lcode, name) is not None
  assert callable(lcode.fit) and set(lcode.__all__) <= set(dir(lcode))
  with pytest.raises(AttributeError, match='nonsense'):
    lcode.nonsense


def test_requirements_and_setup_agree():
  lines = [line.strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()]
  required = {line.replace('[cuda12]', '') for line in lines if line and not line.startswith('#')}
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  assert {line for line in setup['options']['install_requires'].splitlines() if line} == required
  assert 'jax[cuda12]' in (ROOT / 'requirements.txt').read_text()
  assert all('<' in line and '>=' in line for line in required)


def test_functions_and_files_stay_short():
  for path in [*(ROOT / 'lcode').rglob('*.py'), *(ROOT / 'experiments').glob('*.py')]:
    source = path.read_text()
    assert source.count('\n') <= 300, f'{path} is long'
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.FunctionDef):
        docstring = node.body[0] if ast.get_docstring(node) else None
        lines = node.end_lineno - node.lineno + 1
        lines -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
        assert lines <= 60, f'{path}: {node.name} has {lines} lines'


def test_readme_names_commands_and_flags_that_exist():
  text = (ROOT / 'README.md').read_text()
  for module in set(re.findall(r'python -m experiments\.(\w+)', text)):
    source = (ROOT / 'experiments' / f'{module}.py').read_text() + (ROOT / 'experiments' / 'common.py').read_text()
    commands = re.findall(rf'python -m experiments\.{module}((?:[^\n`]|\\\n)*)', text)
    for flag in re.findall(r'--(\w+)', ' '.join(commands)):
      assert f"'{flag}'" in source or flag == 'help', f'experiments.{module} has no --{flag}'
