"""Recordings as images: the bands against another formulation, the spectrogram against tones, no recording twice."""

import numpy as np
import pytest
from scipy import signal

from lcode.data import speech
from lcode.data.speech import LogMel, RATE, images, log_mel, mel_bands
from lcode.errors import InputError


def tone(hertz, seconds=0.5, loudness=1000.0):
  return loudness * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def centres(features):
  """Hz, by the natural logarithm: 1127 ln(1 + f / 700) is the same scale to five digits."""
  low, high = (1127 * np.log(1 + hertz / 700) for hertz in (features.lowest, RATE / 2))
  return 700 * np.expm1(np.linspace(low, high, features.bands + 2) / 1127)


def test_a_thousand_hertz_are_a_thousand_mel():
  np.testing.assert_allclose(speech.mel([0, 1000, 4000]), [0, 1000, 2146], atol=0.1)


@pytest.mark.parametrize('features', [LogMel(), LogMel(bands=12, fft=1024, lowest=0.0)])
def test_bands_are_triangles_between_their_neighbours_centres(features):
  bands, hertz = mel_bands(features), np.arange(features.fft // 2 + 1) * RATE / features.fft
  points = centres(features)
  expected = [np.interp(hertz, points[i:i + 3], [0, 1, 0]) for i in range(features.bands)]
  np.testing.assert_allclose(bands, expected, atol=1e-3)
  inside = (hertz >= points[1]) & (hertz <= points[-2])
  np.testing.assert_allclose(bands[:, inside].sum(0), 1, rtol=1e-12)  # each Hz is shared out between two neighbours
  assert (bands.sum(1) > 0).all()


@pytest.mark.parametrize('features', [LogMel(), LogMel(window=200, hop=80, fft=256)])
def test_the_spectrogram_is_scipys(features, rng):
  audio = rng.normal(size=3000)
  transform = signal.ShortTimeFFT(signal.windows.hann(features.window, sym=False), features.hop, RATE,
                                  mfft=features.fft)
  expected = transform.spectrogram(audio, p0=0, p1=3000 // features.hop + 1)
  np.testing.assert_allclose(speech.spectrogram(audio, features), expected, atol=1e-8)


@pytest.mark.parametrize('hertz', [250, 440, 1000, 1760, 3000])
def test_a_tone_is_loudest_in_the_band_around_it(hertz):
  image = log_mel(tone(hertz))[..., 0]
  nearest = np.abs(centres(LogMel())[1:-1] - hertz).argmin()
  sounding = image[:, image.any(0)]
  assert sounding.shape[1] > 20 and (sounding[:, 1:-1].argmax(0) == nearest).all()
  far = np.abs(np.arange(32) - nearest) > 4
  assert sounding[far, 2:-2].max() < 0.4 * 255  # the window's side lobes


def test_a_step_of_the_image_is_the_same_in_decibels():
  """Of two tones the weaker is as many decibels below as it was made."""
  image = log_mel(tone(500) + tone(2500, loudness=1000 * 10 ** (-24 / 20))).astype(float)[:, 16, 0]
  bands, hertz = mel_bands(), np.arange(257) * RATE / 512
  # A band holds more of a tone the nearer its centre is, so both are corrected by what their band makes of them.
  share = {at: 10 * np.log10(bands[:, np.abs(hertz - at).argmin()].max()) for at in (500, 2500)}
  at = {f: np.abs(centres(LogMel())[1:-1] - f).argmin() for f in (500, 2500)}
  measured = (image[at[500]] - image[at[2500]]) * 60 / 255
  assert abs(measured - (24 + share[500] - share[2500])) < 1.5


def test_loudness_and_silence_around_drop_out(rng):
  word = rng.normal(size=3000) * np.hanning(3000)
  plain = log_mel(1000 * word)
  np.testing.assert_array_equal(log_mel(30 * word), plain)
  hops = np.zeros(LogMel().hop * 9)
  np.testing.assert_array_equal(log_mel(1000 * np.concatenate([hops, word, hops])), plain)


def test_an_image_has_one_shape_and_the_recording_in_its_middle(rng):
  for samples in (1, 255, 800, 4000, 20000):
    image = log_mel(rng.normal(size=samples))
    assert image.shape == (32, 32, 1) and image.dtype == np.uint8 and image.max() == 255
  assert not log_mel(np.zeros(4000, np.int16)).any()
  columns = np.flatnonzero(log_mel(rng.normal(size=1600)).any((0, 2)))
  assert abs(columns.mean() - 15.5) <= 0.5 and 8 <= len(columns) <= 13
  late = np.concatenate([tone(500, 1.0), tone(3000, 1.0)])  # longer than the image, which shows the middle
  image = log_mel(late)[..., 0]
  assert image[:, 2].argmax() < 16 < image[:, 29].argmax()


@pytest.mark.parametrize('audio', [[], [[1, 2]], [np.nan, 1], ['a']])
def test_what_is_no_recording_is_a_sentence(audio):
  with pytest.raises(InputError, match='give finite numbers'):
    log_mel(np.array(audio))


def recordings(rng, indices=range(12), speakers=('jo', 'kim')):
  return {f'{label}_{speaker}_{index}': (1000 * rng.normal(size=900)).astype(np.int16)
          for label in range(3) for speaker in speakers for index in indices}


def test_splits_are_by_index_and_hold_every_recording_once(rng):
  given = recordings(rng)
  arrays = images(given)
  name_of = {log_mel(audio).tobytes(): name for name, audio in given.items()}
  assert len(name_of) == len(given)
  split = {part: [name_of[image.tobytes()] for image in arrays[f'{part}_images']] for part in ('train', 'test')}
  assert sorted(split['train'] + split['test']) == sorted(given)
  for part, names in split.items():
    assert [int(name[0]) for name in names] == arrays[f'{part}_labels'].tolist()
  index = {part: [int(name.split('_')[2]) for name in names] for part, names in split.items()}
  assert set(index['test']) == {0, 1, 2, 3, 4} and min(index['train']) == 5
  assert index['train'] == sorted(index['train'], reverse=True)  # so the last ones, held out, are 5 and up
  labels = [int(name[0]) for name in split['test']]
  assert labels != sorted(labels) and len({tuple(labels[i:i + 2]) for i in range(0, 30, 2)}) > 5


def test_the_order_is_the_names_alone(rng):
  given = recordings(rng)
  again = images(dict(reversed(given.items())))
  for key, array in images(given).items():
    np.testing.assert_array_equal(again[key], array)


@pytest.mark.parametrize('name', ['7_jackson', 'x_jackson_1', '7_jackson_-1', '17_jackson_1'])
def test_a_name_of_another_form_is_a_sentence(rng, name):
  with pytest.raises(InputError, match=f'{name}.*7_jackson_32'):
    images(recordings(rng) | {name: np.ones(900)})


@pytest.mark.parametrize('indices, split', [(range(5), 'train'), (range(5, 9), 'test')])
def test_a_part_of_the_data_set_is_a_sentence(rng, indices, split):
  with pytest.raises(InputError, match=f'none has an index of the {split} split'):
    images(recordings(rng, indices))
