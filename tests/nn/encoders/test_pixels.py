from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sensorium.core import ConfigError
from sensorium.nn.encoders.pixels import Pixels, split_places

MEAN, STD = [0.48, 0.45, 0.40], [0.26, 0.27, 0.28]


def picture():
    return torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(values, mean=MEAN, std=STD, rescale=1 / 255):
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return (values.double() * rescale - mean) / std


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_bytes_become_numbers_of_the_modules_type(dtype, tolerance):
    for settings in ({"mean": MEAN, "std": STD}, {"mean": [0.5] * 3, "std": [0.5] * 3, "rescale": 1 / 127.5}):
        found = Pixels(**settings).to(dtype)(picture())
        assert found.dtype == dtype
        assert (found.double() - normalised(picture(), **settings)).abs().max() < tolerance


def test_one_number_stands_for_all_channels():
    one = Pixels(mean=0.5, std=STD)(picture())
    assert torch.equal(one, Pixels(mean=[0.5] * 3, std=STD)(picture()))
    assert (Pixels()(picture()) - normalised(picture(), 0.0, 1.0)).abs().max() < 1e-6
    grey = picture()[..., :1]
    assert (Pixels(mean=0.5, std=0.25)(grey) - normalised(grey, 0.5, 0.25)).abs().max() < 1e-6


def test_numbers_pass_unchanged():
    for dtype in (torch.float32, torch.float64, torch.float16):
        values = torch.randn(2, 3, 3).to(dtype)
        assert Pixels(mean=MEAN, std=STD)(values) is values


def test_there_is_nothing_to_save_or_to_lose():
    module = Pixels(mean=MEAN, std=STD)
    assert not module.state_dict()
    assert not list(module.parameters())
    with torch.device("meta"):
        absent = nn.Sequential(Pixels(mean=MEAN, std=STD), nn.Linear(3, 2))
    assert absent[0](picture().to("meta")).shape == picture().shape
    assert torch.equal(absent[0](picture()), module(picture()))  # though nobody gave it memory
    present = absent.to_empty(device="cpu")
    assert torch.equal(present[0](picture()), module(picture()))
    twice = copy.deepcopy(module).half().double()
    assert (twice(picture()) - normalised(picture())).abs().max() < 1e-14  # a cast forgets nothing


def test_compiled():
    module = Pixels(mean=MEAN, std=STD)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(picture()), module(picture()))


@pytest.mark.parametrize(
    "settings",
    [
        {"std": 0.0},
        {"std": [1.0, 0.0, 1.0]},
        {"mean": [1.0, 2.0], "std": STD},
        {"rescale": 0.0},
        {"mean": float("nan")},
    ],
)
def test_wrong_settings(settings):
    with pytest.raises(ConfigError, match="Pixels"):
        Pixels(**settings)


def test_places_are_two_numbers_of_16_bits():
    values = torch.zeros(1, 2, 2 * 2 * 3 + 4, dtype=torch.uint8)
    values[0, 1, :12] = torch.arange(12)
    values[0, 1, 12:] = torch.tensor([1, 2, 255, 255])
    pixels, places = split_places(values, 2)
    assert pixels[0, 1].tolist() == torch.arange(12).reshape(2, 2, 3).tolist()
    assert places.tolist() == [[[0, 0], [513, 65535]]]


def test_numbers_become_bytes_again():
    pixels = Pixels(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.1])
    given = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 3)
    assert torch.equal(pixels.undo(pixels(given)), given)
    assert pixels.undo(torch.tensor([[1e4, -1e4, float("inf")]])).tolist() == [[255, 0, 255]]
