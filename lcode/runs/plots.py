"""Pictures, without a display: groups with their parities; schemes as points and lines."""

import itertools
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)
from matplotlib.transforms import Bbox  # noqa: E402


def save_groups(path: Path, images: np.ndarray, parities: np.ndarray, true: np.ndarray, reconstructed: np.ndarray,
                title: str) -> Path:
  """One row a group: its k queries, its r parities, and for each query F's probabilities and the reconstruction's.

  Args:
    path: a .png file.
    images: [g, k, H, W, c], uint8 or float.
    parities: f32[g, r, H, W, c].
    true: f32[g, k, C], softmax of F(x).
    reconstructed: f32[g, k, C], softmax of the reconstruction, each query missing in turn.
    title: above it all.
  """
  groups, k = images.shape[:2]
  r, num_outputs = parities.shape[1], true.shape[-1]
  widths = [1] * (k + r) + [1.6] * k
  figure, axes = plt.subplots(groups, k + r + k, figsize=(1.5 * sum(widths), 1.5 * groups + 0.8), squeeze=False,
                              gridspec_kw={'width_ratios': widths}, layout='constrained')
  bars = np.arange(num_outputs)
  for row in range(groups):
    pictures = [*images[row], *parities[row]]
    for column, picture in enumerate(pictures):
      axis = axes[row, column]
      axis.imshow(_shown(picture), cmap='gray')
      axis.set_xticks([])
      axis.set_yticks([])
      if row == 0:
        axis.set_title(f'query {column + 1}' if column < k else f'parity {column - k + 1}', fontsize=9)
    for query in range(k):
      axis = axes[row, k + r + query]
      axis.bar(bars - 0.2, true[row, query], 0.4, label='F(x)', color='tab:blue')
      axis.bar(bars + 0.2, reconstructed[row, query], 0.4, label='reconstructed', color='tab:orange')
      axis.set_ylim(0, 1)
      axis.set_yticks([])
      axis.set_xticks(bars, [str(b) for b in bars] if num_outputs <= 20 else [''] * num_outputs, fontsize=6)
      if row == 0:
        axis.set_title(f'query {query + 1} missing', fontsize=9)
  figure.suptitle(title, fontsize=10)
  figure.legend(*axes[0, -1].get_legend_handles_labels(), fontsize=8, loc='outside lower right', ncols=2)
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def save_points(path: Path, title: str, names: list[str], labels: list[str], panels: dict[str, list[float]],
                heights: list[float], ylabel: str, xscale: str = 'symlog') -> Path:
  """A panel for each of `panels` (its x axis and values); a colour for each name, its points labelled."""
  figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 5), sharey=True, squeeze=False,
                              layout='constrained')
  for axis, (xlabel, xs) in zip(axes[0], panels.items()):
    for name, style in zip(dict.fromkeys(names), _styles()):
      chosen = [i for i, other in enumerate(names) if other == name]
      axis.plot([xs[i] for i in chosen], [heights[i] for i in chosen], linestyle='', label=name, **style)
      for i in chosen:
        axis.annotate(labels[i], (xs[i], heights[i]), fontsize=6, xytext=(3, 3), textcoords='offset points')
    axis.set_xscale(xscale, **({'linthresh': 1e-3} if xscale == 'symlog' else {}))
    axis.set_xlabel(xlabel)
    axis.grid(alpha=0.3)
  axes[0, 0].set_ylabel(ylabel)
  return _finish(figure, axes[0, 0], title, path)


def save_lines(path: Path, title: str, lines: dict[str, list[tuple[float, float]]], xlabel: str, ylabel: str,
               yscale: str = 'linear', xscale: str = 'linear') -> Path:
  """A line for each name."""
  figure, axis = plt.subplots(figsize=(8, 5), layout='constrained')
  for (name, points), style in zip(lines.items(), _styles()):
    axis.plot(*zip(*points), label=name, **style | ({'marker': ''} if len(points) > 20 else {}))
  axis.set_xlabel(xlabel)
  axis.set_ylabel(ylabel)
  axis.set_xscale(xscale)
  axis.set_yscale(yscale)
  axis.grid(alpha=0.3)
  return _finish(figure, axis, title, path)


class Sized(NamedTuple):
  """A point of `save_sized`: `size` is shown as the marker's area, 0 as a cross; points of a kind have a colour."""

  x: float
  y: float
  size: float
  label: str
  kind: str


AREA, CROSS = 150.0, 30.0  # in square points: of a marker of size 1, and of a cross
TICKS = 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200


def save_sized(path: Path, title: str, panels: dict[str, list[Sized]], xlabel: str, ylabel: str,
               sizelabel: str) -> Path:
  """A panel for each title of `panels`; labels stand beside their points where nothing else stands.

  x is logarithmic; y is linear from -1 to 1 and logarithmic beyond. Both are the same in all panels.
  """
  kinds = list(dict.fromkeys(point.kind for points in panels.values() for point in points))
  figure, axes = plt.subplots(1, len(panels), figsize=(6.2 * len(panels), 6.2), sharex=True, sharey=True,
                              squeeze=False, layout='constrained')
  for axis, (name, points) in zip(axes[0], panels.items()):
    for i, kind in enumerate(kinds):
      _scatter(axis, [point for point in points if point.kind == kind], f'C{i}', kind)
    axis.set_title(name, fontsize=10)
    axis.set_xscale('log')
    axis.set_yscale('symlog', linthresh=1, linscale=0.7)
    axis.set_xlabel(xlabel)
    axis.margins(0.12)
    for along, ticks in ((axis.xaxis, TICKS), (axis.yaxis, (*(-tick for tick in TICKS), 0, *TICKS))):
      low, high = along.get_view_interval()
      along.set_ticks(inside := [tick for tick in ticks if low <= tick <= high], [f'{tick:g}' for tick in inside])
      along.set_ticks([], minor=True)
    axis.grid(alpha=0.3)
  figure.suptitle(title, fontsize=11)
  axes[0, 0].set_ylabel(ylabel)
  sizes = sorted({1.0, 0.5, 0.125})
  handles = [plt.Line2D([], [], linestyle='', marker='o', color=f'C{i}') for i in range(len(kinds))]
  handles += [plt.Line2D([], [], linestyle='', marker='x', color='grey')]
  handles += [plt.Line2D([], [], linestyle='', marker='o', color='grey', alpha=0.6, markersize=(AREA * size) ** 0.5)
              for size in sizes]
  figure.legend(handles, [*kinds, f'{sizelabel}: 0', *(f'{size:g}' for size in sizes)], fontsize=8,
                loc='outside lower center', ncols=len(handles))
  figure.draw_without_rendering()
  figure.set_layout_engine('none')  # labels are placed where the axes are now
  for axis, points in zip(axes[0], panels.values()):
    place_labels(axis, points)
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def _scatter(axis, points: list[Sized], color: str, kind: str) -> None:
  for chosen, style in (([p for p in points if p.size], {'marker': 'o', 'edgecolors': 'white', 'linewidths': 0.7}),
                        ([p for p in points if not p.size], {'marker': 'x'})):
    axis.scatter([p.x for p in chosen], [p.y for p in chosen], color=color, alpha=0.8, label=kind,
                 s=[AREA * p.size or CROSS for p in chosen], **style)


def place_labels(axis, points: list[Sized], fontsize: float = 8) -> list:
  """Writes each label as near to its point as it overlaps neither labels nor points, and within the axis.

  A label that has to stand away gets a line; one for which there is no room is left out.

  Returns:
    the labels.
  """
  renderer = axis.figure.canvas.get_renderer()
  taken, written = [_marker(axis, point) for point in points], []
  frame = axis.get_window_extent()
  for point in points:
    for away, (dx, dy) in itertools.product((2, 12, 24, 38) if point.label else (), DIRECTIONS):
      far = away + _radius(point)
      text = axis.annotate(
          point.label, (point.x, point.y), (dx * far, dy * far), textcoords='offset points', fontsize=fontsize,
          ha=('right', 'center', 'left')[round(dx) + 1], va=('top', 'center', 'bottom')[round(dy) + 1],
          arrowprops={'arrowstyle': '-', 'color': 'grey', 'linewidth': 0.5, 'shrinkA': 0} if away > 2 else None)
      text.update_positions(renderer)
      box = text.get_window_extent(renderer) if away <= 2 else matplotlib.text.Text.get_window_extent(text, renderer)
      inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
      if inside and not any(box.overlaps(other) for other in taken):
        taken.append(box)
        written.append(text)
        break
      text.remove()
  return written


DIRECTIONS = (1, 0), (-1, 0), (0, -1), (0, 1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)


def _radius(point: Sized) -> float:
  """In points."""
  return (AREA * point.size or CROSS) ** 0.5 / 2


def _marker(axis, point: Sized) -> Bbox:
  """What the marker covers, in pixels."""
  x, y = axis.transData.transform((point.x, point.y))
  half = _radius(point) * axis.figure.dpi / 72
  return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _styles():
  """As many looks as are asked for: ten colours, then the same with another marker."""
  return ({'color': f'C{i % 10}', 'marker': 'os^vDPX*'[i // 10 % 8], 'markersize': 5} for i in itertools.count())


def _finish(figure, axis, title, path):
  if len(figure.axes) > 1:
    figure.suptitle(title, fontsize=10)
  else:
    axis.set_title(title, fontsize=10)
  figure.legend(*axis.get_legend_handles_labels(), fontsize=7, loc='outside right upper')
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def _shown(picture: np.ndarray) -> np.ndarray:
  """Stretched to [0, 1]: a parity is not confined to the range of a pixel."""
  picture = np.asarray(picture, np.float32)
  low, high = picture.min(), picture.max()
  picture = (picture - low) / max(high - low, 1e-9)
  return picture[..., 0] if picture.shape[-1] == 1 else picture
