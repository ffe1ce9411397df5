"""Processes of this machine, by /proc alone."""

import collections
from pathlib import Path


def descendants(process):
  """The ids of a process's children, theirs, and so on."""
  children = collections.defaultdict(list)
  for status in Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = status.read_text().rsplit(')', 1)[1].split()
    except OSError:
      continue
    children[int(fields[1])].append(int(status.parent.name))
  found, look = set(), [process]
  while look:
    look += [child for child in children[look.pop()] if child not in found and not found.add(child)]
  return found


def alive(process):
  """Whether a process runs: not one that has ended and waits for its parent."""
  try:
    return Path(f'/proc/{process}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
  except OSError:
    return False
