from __future__ import annotations

import io
import math
import pickle

import numpy as np
import pytest
import soundfile
import torch

from sensorium.core import CheckpointError, ConfigError, DataError
from sensorium.modalities import Audio, Sound

AUDIO = Audio()


def noise(seconds=0.5, rate=16_000, channels=1, seed=0):
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def encoded(samples, rate=16_000, kind="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_reads_every_format(kind, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    content = encoded(tone, 22_050, kind)
    file = tmp_path / "a.raw"  # the content decides, not the name
    file.write_bytes(content)
    for source in (content, file, str(file)):
        raw = AUDIO.load_value(source)
        assert raw.rate == 22_050
        assert raw.samples.dtype == np.float32
        assert len(raw.samples) == pytest.approx(22_050, abs=2_400)  # MP3 pads
        assert np.abs(raw.samples).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_wav_encodings(subtype):
    samples = noise(0.1)
    raw = AUDIO.load_value(encoded(samples, subtype=subtype))
    assert np.abs(raw.samples - samples).max() < 0.02


def test_channels_are_averaged():
    samples = noise(channels=3)
    raw = AUDIO.load_value(encoded(samples, subtype="FLOAT"))
    assert np.allclose(raw.samples, samples.mean(1), atol=1e-6)
    for source in ((samples, 16_000), (samples.T, 16_000), (torch.from_numpy(samples), 16_000)):
        assert np.allclose(AUDIO.load_value(source).samples, raw.samples, atol=1e-6)


def test_integers_are_scaled_by_their_type():
    for kind, values in (
        (np.int16, [-32768, 0, 16384]),
        (np.int32, [-(2**31), 0, 2**30]),
        (np.uint8, [0, 128, 192]),
    ):
        raw = AUDIO.load_value((np.array(values, kind), 8_000))
        assert np.allclose(raw.samples, [-1, 0, 0.5])
    sound = Sound(noise(), 16_000)
    assert AUDIO.load_value(sound) is sound


def test_prepares_frames_of_mels():
    values = AUDIO.prepare(Sound(noise(1.0), 16_000))
    assert values.shape == (63, 64)
    assert values.dtype == torch.float32
    assert AUDIO.prepare(Sound(noise(1.0, 8_000), 8_000)).shape == (63, 64)
    assert AUDIO.prepare(Sound(noise(1.0, 44_100), 44_100)).shape == (63, 64)
    assert AUDIO.prepare(Sound(noise()[:1], 16_000)).shape == (1, 64)
    assert Audio(max_seconds=0.32).prepare(Sound(noise(1.0), 16_000)).shape == (20, 64)


def test_the_rate_of_the_file_hardly_matters():
    times = [np.arange(rate) / rate for rate in (16_000, 44_100)]
    low, high = (sum(np.sin(2 * np.pi * f * t) for f in (200, 900, 3_000)) * 0.2 for t in times)
    found = [
        AUDIO.prepare(AUDIO.load_value((samples, rate))) for samples, rate in ((low, 16_000), (high, 44_100))
    ]
    loud = found[0][2:-2] > 0.5
    assert loud.sum() > 100
    assert (found[0] - found[1])[2:-2][loud].abs().max() < 0.02


def test_loudness_is_kept():
    samples = noise(1.0)
    loud, quiet = (AUDIO.prepare(Sound(gain * samples, 16_000)) for gain in (1, 0.1))
    assert (loud - quiet).mean().item() == pytest.approx(math.log(100) / 4, abs=0.01)


def test_fit_learns_the_moments_and_saves_them(tmp_path):
    modality = Audio()
    sounds = [Sound(noise(0.3, seed=seed), 16_000) for seed in range(5)]
    modality.fit(sounds)
    values = torch.cat([modality.prepare(sound) for sound in sounds])
    assert values.mean().item() == pytest.approx(0, abs=1e-4)
    assert values.std().item() == pytest.approx(1, abs=1e-3)
    modality.save(tmp_path)
    again = Audio()
    again.load(tmp_path)
    assert torch.equal(again.prepare(sounds[0]), modality.prepare(sounds[0]))
    copy = pickle.loads(pickle.dumps(modality))
    assert torch.equal(copy.prepare(sounds[0]), modality.prepare(sounds[0]))
    with pytest.raises(DataError, match="no training data"):
        Audio().fit([])
    with pytest.raises(CheckpointError, match=r"audio\.json"):
        again.load(tmp_path / "none")


def test_given_constants_are_not_relearnt():
    modality = Audio(mean=-4.0, std=2.0)
    sound = Sound(noise(), 16_000)
    before = modality.prepare(sound)
    modality.fit([sound])
    assert torch.equal(modality.prepare(sound), before)


def test_augmentation_depends_on_the_generator_only():
    modality = Audio(shift_seconds=0.1, mask_frequency=10, mask_time=5)
    sound = Sound(noise(), 16_000)

    def draw(seed):
        return modality.prepare(sound, torch.Generator().manual_seed(seed))

    assert all(torch.equal(draw(seed), draw(seed)) for seed in range(5))
    assert len({draw(seed).numpy().tobytes() for seed in range(20)}) > 15
    assert torch.equal(modality.prepare(sound), AUDIO.prepare(sound))


def test_masks_are_bands_of_the_mean():
    modality = Audio(mask_frequency=10, mask_time=5)
    sound = Sound(noise(), 16_000)
    plain = AUDIO.prepare(sound)
    bands, times = set(), set()
    for seed in range(100):
        values = modality.prepare(sound, torch.Generator().manual_seed(seed))
        masked = values == 0
        assert torch.equal(values[~masked], plain[~masked])
        bands.add(int(masked.all(0).sum()))
        times.add(int(masked.all(1).sum()))
    assert bands == set(range(11))
    assert times == set(range(6))


def test_shift_moves_the_sound_by_whole_samples_at_most_so_far():
    modality = Audio(shift_seconds=0.064)
    click = np.zeros(8_192, np.float32)
    click[4_096] = 1
    frames = [
        int(modality.prepare(Sound(click, 16_000), torch.Generator().manual_seed(seed)).sum(1).argmax())
        for seed in range(100)
    ]
    assert min(frames) == 12
    assert max(frames) == 20
    short = modality.prepare(Sound(click[:2], 16_000), torch.Generator().manual_seed(0))
    assert short.shape == (1, 64)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"this is text, not a sound", "not a WAV, FLAC, OGG, MP3 or AIFF file.*b'this is text"),
        (b"RIFF\0\0\0\0WAVE", "damaged"),
        (b"fLaC" + bytes(40), "damaged"),
        (b"\xff", "not a WAV"),
        (encoded(np.zeros(0, np.float32)), "no samples"),
        ((np.zeros(0), 16_000), "no samples"),
        ((np.zeros((2, 0)), 16_000), "no samples"),
        ((np.zeros(5), 0), "from 1 to 1,000,000 Hz, found 0"),
        ((np.zeros(5), 2_000_000), "found 2,000,000"),
        ((np.zeros((65, 99)), 16_000), "1 to 64 channels, found 65"),
        ((np.zeros((2, 3, 4)), 16_000), r"the shape \[2, 3, 4\]"),
        ((np.array(["a"]), 16_000), "as numbers"),
        ((np.zeros(5), "fast"), "sampling rate in Hz"),
        (([[1], [2, 3]], 16_000), "as numbers"),
        ((np.array([0, np.nan]), 16_000), "not finite"),
        ((np.array([0, 1e300]), 16_000), "not finite"),
        ((np.array([0.0, 20_000.0]), 16_000), "about -1 to 1, found 20000"),
        (encoded(np.array([0, np.inf], np.float32), subtype="FLOAT"), "not finite"),
        ((np.zeros(7_201), 2), r"lasts 3,600\.5 s, the limit is 3600 s"),
        (3.5, "found float"),
        (None, "found NoneType"),
    ],
)
def test_refuses(source, reason):
    with pytest.raises(DataError, match=reason) as error:
        AUDIO.load_value(source)
    assert "0x7" not in str(error.value)


def test_long_files_are_refused_from_the_header():
    content = encoded(noise(3.0))
    with pytest.raises(DataError, match=r"lasts 3\.0 s, the limit is 2 s"):
        Audio(limit_seconds=2.0).read(content)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_files(kind, share):
    content = encoded(noise(2.0), kind=kind)
    with pytest.raises(DataError, match=r"cut short|damaged"):
        AUDIO.load_value(content[: int(len(content) * share)])


def test_streamed_wavs_of_unknown_length_are_read():
    content = bytearray(encoded(noise(0.5)))
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    assert len(AUDIO.load_value(bytes(content)).samples) == 8_000


def test_a_file_of_many_blocks(monkeypatch):
    samples = noise(1.0, channels=2)
    monkeypatch.setattr("sensorium.modalities.sound_file._BLOCK", 1_000)
    raw = AUDIO.load_value(encoded(samples, subtype="FLOAT"))
    assert np.allclose(raw.samples, samples.mean(1), atol=1e-6)


def test_size_and_show():
    sound = Sound(noise(0.5, 44_100), 44_100)
    assert AUDIO.size(sound) == (0.5, "s")
    shown = AUDIO.show(sound)
    assert "data:audio/wav;base64," in shown
    assert "data:image/png;base64," in shown
    assert "<audio controls" in shown


def test_blank_is_like_a_prepared_sound():
    prepared = AUDIO.prepare(Sound(noise()[:1], 16_000))
    assert AUDIO.blank().shape == prepared.shape
    assert AUDIO.blank().dtype == prepared.dtype


def test_wrong_settings():
    for settings in (
        {"max_frequency": 9_000.0},
        {"min_frequency": -1.0},
        {"hop": 0.0},
        {"max_seconds": 0.0},
        {"mask_frequency": 64},
        {"mean": 1.0},
        {"mean": 1.0, "std": 0.0},
    ):
        with pytest.raises(ConfigError, match="Audio"):
            Audio(**settings)


def test_real_speech(shared_data):
    raw = AUDIO.load_value(shared_data / "media" / "jfk.flac")
    assert raw.rate == 44_100
    assert AUDIO.size(raw)[0] == pytest.approx(11.0, abs=0.01)
    values = AUDIO.prepare(raw)
    assert values.shape == (688, 64)
    assert 0.5 < values.std() < 2


def test_real_digits(shared_data):
    for digit in range(10):
        raw = AUDIO.load_value(shared_data / "digits" / "spoken" / f"{digit}_george_0.wav")
        assert raw.rate == 8_000
        assert 0.1 < AUDIO.size(raw)[0] < 3
