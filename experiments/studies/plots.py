"""Pictures, without a display: groups with their parities; schemes as points and lines."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)


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
               yscale: str = 'linear') -> Path:
  """A line for each name."""
  figure, axis = plt.subplots(figsize=(8, 5), layout='constrained')
  for (name, points), style in zip(lines.items(), _styles()):
    axis.plot(*zip(*points), label=name, **style | ({'marker': ''} if len(points) > 20 else {}))
  axis.set_xlabel(xlabel)
  axis.set_ylabel(ylabel)
  axis.set_yscale(yscale)
  axis.grid(alpha=0.3)
  return _finish(figure, axis, title, path)


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
