"""Small base models: logistic regression and the multilayer perceptron of the paper."""

import flax.linen as nn


class Logistic(nn.Module):
  """x f32[b, *S] -> logits f32[b, num_outputs], one dense layer."""

  num_outputs: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    return nn.Dense(self.num_outputs)(x.reshape(x.shape[0], -1))


class MLP(nn.Module):
  """d-200-100-C with ReLU: the Base-MLP of "Learning a Code" (178,110 parameters at d = 784, C = 10)."""

  num_outputs: int
  hidden: tuple[int, ...] = (200, 100)

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    x = x.reshape(x.shape[0], -1)
    for width in self.hidden:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.num_outputs)(x)
