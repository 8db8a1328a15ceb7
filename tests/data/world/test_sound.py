"""Sounds tell what the scene says: pitch, loudness and timbre can be measured."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sensorium.data.world import sound
from sensorium.data.world.scene import COLOURS, SHAPES, SIZES, draw_scene


def loudest_pitch(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 15))
    return float(np.argmax(spectrum)) * sound.RATE / (1 << 15)


@pytest.mark.parametrize("shape", SHAPES)
def test_pitch_is_the_strongest_partial(shape):
    for colour in COLOURS:
        assert loudest_pitch(sound.note(shape, colour)) == pytest.approx(sound.PITCHES[colour], rel=0.03)


def test_pitches_span_two_octaves_in_clear_steps():
    pitches = list(sound.PITCHES.values())
    assert pitches[-1] / pitches[0] == pytest.approx(4)
    assert min(b / a for a, b in itertools.pairwise(pitches)) > 2 ** (3 / 12)
    highest = max(multiple for _, partials in sound.TIMBRES.values() for multiple, _ in partials)
    assert highest * pitches[-1] < sound.RATE / 2


def test_loudness_is_in_steps_of_nine_decibels():
    levels = [20 * np.log10(sound.LOUDNESS[size]) for size in SIZES]
    assert np.diff(levels) == pytest.approx([9, 9], abs=0.1)
    for shape, colour in itertools.product(SHAPES, COLOURS):
        note = sound.note(shape, colour)
        assert np.sqrt(np.mean(note**2)) == pytest.approx(1, abs=1e-3)
        assert np.abs(note).max() * sound.LOUDNESS["big"] < 0.95  # no clipping


def test_timbres_are_apart_in_the_spectrogram():
    def spectrogram(shape: str) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(sound.note(shape, "green"), 400)[
            ::160
        ] * np.hanning(400)
        power = np.abs(np.fft.rfft(windows)) ** 2
        return np.log10(power[:, :192].reshape(len(power), 64, 3).sum(axis=-1) + 1e-2)

    profiles = {shape: spectrogram(shape) for shape in SHAPES}
    for one, other in itertools.combinations(SHAPES, 2):
        assert np.sqrt(np.mean((profiles[one] - profiles[other]) ** 2)) > 0.5, (one, other)


def notes_of(wave: np.ndarray) -> list[np.ndarray]:
    """Cut where 12 ms are as quiet as the noise floor."""
    power = np.convolve(wave**2, np.ones(192) / 192, mode="same")
    loud = power > (3 * 0.0005) ** 2
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    return [wave[start:end] for start, end in edges.reshape(-1, 2) if end - start > 0.1 * sound.RATE]


def test_notes_play_from_left_to_right():
    steady = {"circle", "square", "moon"}  # envelopes without a pause or a silent start
    checked = 0
    for index in range(400):
        scene = draw_scene(2, "train", index)
        if {thing.shape for thing in scene.facts.things} <= steady:
            notes = notes_of(sound.waveform(scene))
            assert len(notes) == len(scene.facts.things)
            for thing, note in zip(scene.left_to_right, notes, strict=True):
                assert loudest_pitch(note) == pytest.approx(sound.PITCHES[thing.colour], rel=0.03)
                nearest = min(SIZES, key=lambda size: abs(np.log(np.std(note) / sound.LOUDNESS[size])))
                assert nearest == thing.size
            checked += 1
    assert checked > 40


def test_durations_and_noise():
    for index in range(100):
        scene = draw_scene(2, "train", index)
        wave = sound.waveform(scene)
        count = len(scene.facts.things)
        assert wave.dtype == np.float32
        assert 0.25 * count < len(wave) / sound.RATE < 0.25 * count + 0.035 * (count + 1) + 0.001
        assert np.abs(wave).max() < 1
        assert 0 < np.std(wave[:200]) < 0.001
        assert np.array_equal(wave, sound.waveform(scene))
    assert len({len(sound.waveform(draw_scene(2, "train", index))) for index in range(50)}) > 40
