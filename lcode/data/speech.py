"""Recordings as images: log-mel spectrograms of one shape, a byte a value."""

import dataclasses
import re

import numpy as np

from lcode.data.digest import sha256
from lcode.errors import InputError

RATE = 8000  # samples per second
TEST_INDICES = 5  # the first of a speaker's 50 recordings of a digit


@dataclasses.dataclass(frozen=True)
class LogMel:
  """How a recording becomes an image; lengths are in samples.

  Attributes:
    bands, frames: height and width of the image.
    window, hop: of the short-time Fourier transform, a Hann window.
    fft: points of a transform, `window` and zeros: finer bins than the lowest bands are wide.
    lowest: Hz, where the first band begins; the last ends at half the sampling rate.
    floor: dB below the loudest value of an image; what is quieter is 0, the loudest value 255.
    silence: dB below the loudest frame, under which frames before the first and after the last louder one are cut off.
  """

  bands: int = 32
  frames: int = 32
  window: int = 256
  hop: int = 160
  fft: int = 512
  lowest: float = 60.0
  floor: float = 60.0
  silence: float = 25.0


def mel(hertz):
  """Hz -> mel, 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987; as in HTK)."""
  return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_bands(features: LogMel = LogMel()) -> np.ndarray:
  """Triangular bands f64[bands, fft / 2 + 1] over the bins of a transform, each from its neighbours' centres.

  Centres and the two ends are equally far apart in mel, and a band is 1 at its centre (Davis and Mermelstein, IEEE
  Trans. ASSP 28, 1980).
  """
  points = np.linspace(mel(features.lowest), mel(RATE / 2), features.bands + 2)
  points = 700 * (10 ** (points / 2595) - 1)  # the inverse of `mel`
  low, centre, high = (points[i:i + features.bands, None] for i in range(3))
  bins = np.fft.rfftfreq(features.fft, 1 / RATE)
  return np.maximum(np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0)


def spectrogram(audio: np.ndarray, features: LogMel = LogMel()) -> np.ndarray:
  """Power f64[fft / 2 + 1, frames] of a recording [samples]; frames are centred on every `hop`-th sample."""
  half = features.window // 2
  frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, half), features.window)[::features.hop]
  hann = np.sin(np.pi * np.arange(features.window) / features.window) ** 2
  return np.abs(np.fft.rfft(frames * hann, features.fft)).T ** 2


def log_mel(audio: np.ndarray, features: LogMel = LogMel()) -> np.ndarray:
  """A recording [samples] -> image uint8[bands, frames, 1], low bands first, the speech in the middle.

  Loudness drops out: values are in dB below the loudest one. A byte's step is floor / 255 dB. What is longer than the
  image loses as much at either end, what is shorter is filled up with silence, which is 0.

  Raises:
    InputError: if the recording is empty or no series of finite numbers.
  """
  audio = _checked(audio)
  power = mel_bands(features) @ spectrogram(audio, features)
  power = power[:, _spoken(power.sum(0), features.silence)]
  decibels = 10 * np.log10(np.maximum(power / max(power.max(), 1e-30), 10 ** (-features.floor / 10)))
  image = np.zeros((features.bands, features.frames))
  wide = min(power.shape[1], features.frames)
  at, start = (features.frames - wide) // 2, (power.shape[1] - wide) // 2
  image[:, at:at + wide] = 1 + decibels[:, start:start + wide] / features.floor
  return np.round(255 * image).astype(np.uint8)[..., None]


def _checked(audio) -> np.ndarray:
  audio = np.asarray(audio)
  if audio.ndim != 1 or not audio.size or audio.dtype.kind not in 'uif' or not np.isfinite(audio).all():
    raise InputError(f'a recording is {audio.dtype}{list(audio.shape)}: give finite numbers [samples], at least one.')
  return audio.astype(np.float64)


def _spoken(energy, silence) -> slice:
  loud = np.flatnonzero(energy >= energy.max() * 10 ** (-silence / 10))
  return slice(loud[0], loud[-1] + 1)


def images(recordings: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The Free Spoken Digit Dataset's arrays, from its recordings [samples] by name, `{label}_{speaker}_{index}`.

  The test split is the data set's own: indices 0 to 4. All are in descending order of their indices, so that the
  training recordings held out for validation, the last ones, begin at 5; those of an index in the order of their names'
  SHA-256, so that groups of consecutive ones mix speakers and digits. Every speaker is in every split, no recording in
  two.

  Returns:
    `train_images`, `test_images` uint8[N, 32, 32, 1]; `train_labels`, `test_labels` int32[N].

  Raises:
    InputError: if a name is of another form, or a split would be empty.
  """
  indices = {name: _index(name) for name in recordings}
  ordered = sorted(recordings, key=lambda name: (-indices[name], sha256(name)))
  splits = {'train': [name for name in ordered if indices[name] >= TEST_INDICES],
            'test': [name for name in ordered if indices[name] < TEST_INDICES]}
  arrays = {}
  for split, names in splits.items():
    if not names:
      raise InputError(f'of {len(recordings)} recordings none has an index of the {split} split: give the whole data '
                       f'set, of which indices 0 to {TEST_INDICES - 1} are the test split.')
    arrays[f'{split}_images'] = np.stack([log_mel(recordings[name]) for name in names])
    arrays[f'{split}_labels'] = np.array([int(name[0]) for name in names], np.int32)
  return arrays


def _index(name) -> int:
  match = re.fullmatch('[0-9]_[a-z]+_([0-9]+)', name)
  if not match:
    raise InputError(f'the recording {name!r} is not named label_speaker_index, as in 7_jackson_32: give those of the '
                     'Free Spoken Digit Dataset.')
  return int(match[1])
