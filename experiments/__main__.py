"""Lists the experiments: python -m experiments."""

import ast
from pathlib import Path

for path in sorted(Path(__file__).parent.rglob('*.py')):
  source = path.read_text()
  if any(line.startswith('if __name__') for line in source.splitlines()):
    name = '.'.join(path.relative_to(Path(__file__).parent.parent).with_suffix('').parts)
    print(f'python -m {name:<32}{ast.get_docstring(ast.parse(source)).splitlines()[0]}')
