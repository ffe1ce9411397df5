"""How the house is built: who imports whom, what an import costs, how long a function is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [('errors',), ('coding', 'models', 'data'), ('training',), ('runs',), ('serving',)]
ONLY_IN = {'tensorflow_datasets': 'lcode/data/tfds.py', 'sklearn': 'lcode/data/datasets.py',
           'orbax': 'lcode/training/checkpoint.py', 'tensorboardX': 'lcode/runs/progress.py',
           'rich': 'lcode/runs/progress.py', 'PIL': 'lcode/data/tfds.py',
           'matplotlib': 'lcode/runs/plots.py', 'ray': 'lcode/serving/cluster.py',
           'starlette': 'lcode/serving/http.py', 'prometheus_client': 'lcode/serving/metrics.py',
           'uvicorn': 'experiments/serve.py', 'onnxruntime': 'examples/magika/model.py'}


def modules(*folders):
  """(room or first folder, path relative to the root) of every file."""
  for folder in folders:
    for path in sorted((ROOT / folder).rglob('*.py')):
      parts = path.relative_to(ROOT).with_suffix('').parts
      yield parts[1] if parts[0] == 'lcode' else parts[0], path.relative_to(ROOT)


def imports(path):
  """Dotted names that a file imports, wherever in it."""
  for node in ast.walk(ast.parse((ROOT / path).read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} imports relatively'
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def floor_of(room):
  return next(floor for floor, rooms in enumerate(ROOMS) if room in rooms)


def test_rooms_import_one_way():
  """errors <- coding, models, data (which do not know each other) <- training <- runs <- serving, experiments."""
  for room, path in modules('lcode'):
    for imported in imports(path):
      parts = imported.split('.')
      assert parts[0] not in ('experiments', 'examples', 'tests'), f'{path} imports {imported}'
      if parts[0] != 'lcode' or room == '__init__':
        continue
      other = parts[1] if len(parts) > 1 else None
      assert other is None or other == room or floor_of(other) < floor_of(room), f'{path} imports {imported}'


def test_entry_points_are_imported_by_nobody():
  """What has a main of its own is imported by no other experiment; studies and bounds do not know each other."""
  paths = [path for _, path in modules('experiments')]
  entries = {'.'.join(path.with_suffix('').parts) for path in paths
             if "__name__ == '__main__'" in (ROOT / path).read_text()}
  assert {'experiments.demo', 'experiments.bounds.packed', 'experiments.bounds.preimage'} <= entries
  for path in paths:
    for imported in imports(path):
      assert imported not in entries, f'{path} imports {imported}'
      for one, other in [('studies', 'bounds'), ('bounds', 'studies')]:
        assert one not in path.parts or not imported.startswith(f'experiments.{other}'), f'{path} imports {imported}'


def test_nothing_stands_on_examples():
  for _, path in modules('experiments'):
    assert not any(imported.split('.')[0] in ('examples', 'tests') for imported in imports(path)), path


def test_every_room_is_a_package_that_says_what_it_holds():
  for folder in ['lcode', 'experiments', 'examples']:
    for package in {path.parent for _, path in modules(folder)}:
      init = ROOT / package / '__init__.py'
      assert init.exists() and ast.get_docstring(ast.parse(init.read_text())), f'{package} does not say what it is'


def test_tests_mirror_the_house():
  for _, path in modules('lcode'):
    if path.stem != '__init__' and len(path.parts) > 2:
      assert (ROOT / 'tests' / Path(*path.parts[1:-1])).is_dir(), f'tests of {path} have no folder'


def test_what_is_heavy_is_imported_in_one_file():
  for _, path in modules('lcode', 'experiments', 'examples'):
    for imported in imports(path):
      package = imported.split('.')[0]
      assert path.as_posix() == ONLY_IN.get(package, path.as_posix()), f'{path} imports {imported}'
      if path.parts[0] == 'lcode':
        assert not imported.startswith('absl.flags') and imported != 'absl.app', f'{path} imports {imported}'


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


def test_functions_and_files_stay_short():
  for path in (path for folder in ('lcode', 'experiments', 'examples') for path in (ROOT / folder).rglob('*.py')):
    source = path.read_text()
    assert source.count('\n') <= 300, f'{path} is long'
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.FunctionDef):
        docstring = node.body[0] if ast.get_docstring(node) else None
        lines = node.end_lineno - node.lineno + 1
        lines -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
        assert lines <= 60, f'{path}: {node.name} has {lines} lines'
