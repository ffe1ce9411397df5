"""What `pip install` brings: the library on what it needs, its experiments' extra, and a wheel that works elsewhere."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Where a package is called otherwise than what is imported of it.
DISTRIBUTIONS = {'orbax': 'orbax-checkpoint', 'tensorflow_datasets': 'tensorflow-datasets', 'absl': 'absl-py',
                 'PIL': 'pillow', 'sklearn': 'scikit-learn', 'jaxlib': 'jax', 'scipy': 'jax',
                 'prometheus_client': 'prometheus-client'}


def setup_lines(section, option):
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  return [line for line in setup[section][option].splitlines() if line]


def names(lines):
  return {re.match(r'[\w-]+', line)[0] for line in lines}


def third_party(folder):
  """Distributions that the files below `folder` import, wherever in them."""
  nodes = [node for path in (ROOT / folder).rglob('*.py') for node in ast.walk(ast.parse(path.read_text()))]
  imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
  imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
  imported = {name.split('.')[0] for name in imported} - {'lcode', 'experiments', 'examples'}
  return {DISTRIBUTIONS.get(name, name) for name in imported - set(sys.stdlib_module_names)}


def run(*command, **options):
  """The command's standard output, out of the checkout's reach; what it said where it failed."""
  environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
  result = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, **options)
  assert result.returncode == 0, f'{command}\n{result.stdout}\n{result.stderr}'
  return result.stdout


def test_requirements_are_what_the_library_and_its_experiments_need():
  lines = [line.strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()]
  required = [line.replace('[cuda12]', '') for line in lines if line and not line.startswith('#')]
  library, extra = setup_lines('options', 'install_requires'), setup_lines('options.extras_require', 'experiments')
  assert required == library + extra and not names(library) & names(extra)
  assert 'jax[cuda12]' in (ROOT / 'requirements.txt').read_text()
  assert all('<' in line and '>=' in line for line in required)


def test_what_is_imported_is_required():
  library = names(setup_lines('options', 'install_requires'))
  extra = names(setup_lines('options.extras_require', 'experiments'))
  serving = names(setup_lines('options.extras_require', 'serving'))
  without = {'scikit-learn', 'tensorboardX', 'matplotlib'}  # which lcode can do without, see below
  assert third_party('lcode') <= library | serving | without
  assert third_party('experiments') <= library | extra | serving
  assert third_party('examples') <= library | names(setup_lines('options.extras_require', 'examples'))
  # Not imported, but TFDS reads and prepares its directories with it.
  assert library - third_party('lcode') == {'importlib_resources'}


@pytest.mark.parametrize('goal', ['demo', 'test', 'docs'])
def test_make_installs_the_package_itself(goal, tmp_path):
  said = subprocess.run(['make', '--dry-run', goal, f'VENV={tmp_path}/venv'], cwd=ROOT, capture_output=True, text=True)
  assert said.returncode == 0, said.stderr
  assert re.search(r'-m pip install .*-e \.', said.stdout), said.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  """The wheel, built of a copy: a build in the checkout would leave files there, and pack those of builds before."""
  folder = tmp_path_factory.mktemp('wheel')
  probe = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '-d', folder / 'probe', 'setuptools>=68']
  if subprocess.run(probe, capture_output=True).returncode:
    pytest.skip('pip reaches no package index, of which a new environment would be filled')
  for name in ['lcode', 'experiments', 'tests']:
    shutil.copytree(ROOT / name, folder / 'source' / name, ignore=shutil.ignore_patterns('__pycache__'))
  for name in ['setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE']:
    shutil.copy(ROOT / name, folder / 'source')
  run(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '-w', folder, folder / 'source')
  return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory):
  """The interpreter of a new environment with the wheel in it, without extras."""
  folder = tmp_path_factory.mktemp('environment')
  run(sys.executable, '-m', 'venv', folder)
  run(folder / 'bin' / 'python', '-m', 'pip', 'install', '--quiet', wheel)
  return folder / 'bin' / 'python'


@pytest.mark.long
def test_the_wheel_holds_lcode_alone_and_all_of_it(wheel):
  packed = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
  assert packed == {path.relative_to(ROOT).as_posix() for path in (ROOT / 'lcode').rglob('*.py')}


@pytest.mark.long
def test_the_library_stands_without_extras(python, tmp_path):
  run(python, '-m', 'pip', 'check')
  code = ('import lcode, lcode.data, lcode.runs.code_run\n'
          'assert "site-packages" in lcode.__file__, lcode.__file__\n'
          '[getattr(lcode, name) for name in lcode.__all__]\n'
          'try:\n  lcode.data.load("digits")\n'
          'except lcode.InputError as error:\n  print(error)')
  assert 'pip install "lcode[experiments]"' in run(python, '-c', code, cwd=tmp_path)


@pytest.mark.long
def test_the_library_alone_reads_a_tfds_directory(python, tmp_path):
  """Prepared from upstream files of a few images, and read: array_record, importlib_resources and pillow are there."""
  run(python, '-c', PREPARE_AND_READ, cwd=tmp_path)


PREPARE_AND_READ = '''
import pathlib
import numpy as np
from lcode.data import tfds, upstream

images = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
tfds.fetch = lambda *_: {}
upstream.idx_examples = lambda files, split: (images[..., None], np.array([2, 0, 1], np.uint8))
tfds.prepare('mnist', pathlib.Path('data'))
arrays = tfds.read(tfds.locate('mnist', 'data'))
for split in 'train', 'test':
  order = np.argsort([2, 0, 1])[arrays[f'{split}_labels']]
  np.testing.assert_array_equal(arrays[f'{split}_images'][..., 0], images[order])
'''


@pytest.mark.long
def test_readmes_example_runs_on_the_wheel(python, wheel, tmp_path):
  example = re.search(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)[1]
  if re.search(r'sklearn|digits|matplotlib', example):
    run(python, '-m', 'pip', 'install', '--quiet', f'{wheel}[experiments]')
  (tmp_path / 'example.py').write_text(example)
  assert re.search(r'\d', run(python, 'example.py', cwd=tmp_path)), 'README\'s example prints no figure'
