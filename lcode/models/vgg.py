"""VGG-11 (Simonyan and Zisserman, arXiv:1409.1556, configuration A) in the form used for small images.

Batch normalisation after each convolution, and one dense layer on the 512 features instead of three.
"""

import flax.linen as nn

from lcode.models.fast_conv import Conv

CHANNELS = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)  # None is a pooling


class VGG(nn.Module):
  """x f32[b, H, W, c] -> logits f32[b, num_outputs]; batch statistics over `axis_name` too where it is given."""

  num_outputs: int
  channels: tuple[int | None, ...] = CHANNELS
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool = False):
    for channels in self.channels:
      if channels is None:
        x = nn.max_pool(x, (2, 2), (2, 2), padding='SAME')  # odd sides (28 -> 14 -> 7 -> 4) lose no pixel
      else:
        x = Conv(channels, (3, 3), padding=1, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9,
                                 axis_name=self.axis_name if train else None)(x))
    return nn.Dense(self.num_outputs)(x.mean(axis=(1, 2)))
