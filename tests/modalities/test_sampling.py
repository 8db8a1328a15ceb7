from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers.video_utils import VideoMetadata, default_sample_indices_fn

from sensorium.core import ConfigError
from sensorium.modalities.sampling import Evenly, Paced


def test_the_middles_of_equal_parts():
    def places(count, wanted):
        return Evenly(frames=wanted).places(count)

    assert places(3, 4) == [0, 1, 2]
    assert places(4, 4) == [0, 1, 2, 3]
    assert places(12, 4) == [1, 4, 7, 10]
    assert places(5, 4) == [0, 1, 3, 4]
    assert places(1000, 1) == [500]


def test_filled():
    def places(count, wanted):
        return Evenly(frames=wanted, fill=True).places(count)

    assert places(1, 3) == [0, 0, 0]
    assert places(3, 4) == [0, 1, 1, 2]
    assert places(4, 4) == [0, 1, 2, 3]


def test_middles_are_those_of_internvl_and_video_chatgpt():
    for count in range(8, 300):
        internvl = torch.arange(count / 8 / 2, count, count / 8, dtype=torch.float64).int().tolist()
        assert Evenly(frames=8).places(count) == internvl


def test_starts_are_those_of_transformers():
    for count in (*range(8, 200), 5000, 99_999):
        for wanted in (1, 5, 8):
            metadata = VideoMetadata(total_num_frames=count, fps=25)
            theirs = default_sample_indices_fn(metadata, num_frames=wanted).tolist()
            assert Evenly(frames=wanted, at="starts").places(count) == theirs


def test_ends_are_the_first_and_the_last():
    for count in range(8, 300):
        found = Evenly(frames=8, at="ends").places(count)
        assert found[0] == 0
        assert found[-1] == count - 1
        assert np.abs(np.array(found) - np.linspace(0, count - 1, 8)).max() < 1
    assert Evenly(frames=1, at="ends").places(9) == [0]


def paced(total, fps, rate, least, most, multiple):
    """As the video processor of Qwen2-VL (transformers 5.23) counts, which needs torchvision to be run."""
    most = math.floor(min(most, total) / multiple) * multiple
    frames = min(max(total / fps * rate, least), most, total)
    frames = math.floor(frames / multiple) * multiple
    return torch.arange(0, total, total / frames).int().tolist()


def test_paced_as_the_reference():
    for total in (4, 5, 17, 100, 250, 301, 5000):
        for fps in (1.0, 2.0, 10.0, 23.976, 25.0, 29.97, 60.0):
            for most in (8, 768):
                rule = Paced(rate=2.0, least=4, most=most, multiple=2)
                assert rule.places(total, fps) == paced(total, fps, 2.0, 4, most, 2)


def test_what_was_chosen_is_chosen_again():
    rules = [
        Evenly(frames=5),
        Evenly(frames=5, at="starts"),
        Evenly(frames=5, at="ends"),
        Paced(),
        Paced(most=6),
    ]
    for rule in rules:
        for count in (1, 2, 3, 4, 5, 6, 30, 61, 100, 999):
            for rate in (0.5, 1.0, 2.0, 7.0, 29.97, 30.0):
                kept = len(rule.places(count, rate))
                assert 1 <= kept <= rule.most
                assert rule.places(kept, rate * kept / count) == list(range(kept))


@pytest.mark.parametrize(
    ("rule", "settings", "reason"),
    [
        (Evenly, {"frames": 0}, "Evenly.frames"),
        (Evenly, {"at": "midles"}, "did you mean 'middles'"),
        (Paced, {"rate": 0.0}, "Paced.rate"),
        (Paced, {"rate": float("nan")}, "Paced.rate"),
        (Paced, {"least": 9, "most": 8}, "at most 8"),
        (Paced, {"multiple": 0}, "multiple"),
    ],
)
def test_wrong_settings(rule, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        rule(**settings)
