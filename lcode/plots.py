"""Pictures, without a display: groups with their parities, and true beside reconstructed outputs."""

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


def _shown(picture: np.ndarray) -> np.ndarray:
  """Stretched to [0, 1]: a parity is not confined to the range of a pixel."""
  picture = np.asarray(picture, np.float32)
  low, high = picture.min(), picture.max()
  picture = (picture - low) / max(high - low, 1e-9)
  return picture[..., 0] if picture.shape[-1] == 1 else picture
