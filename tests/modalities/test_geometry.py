from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sensorium.core import ConfigError, Spec
from sensorium.modalities import Image, Video
from sensorium.modalities.geometry import (
    RESAMPLE,
    CentralSquare,
    CentreCrop,
    NativePatches,
    Resize,
    ShortestEdge,
)
from sensorium.nn.encoders.pixels import split_places
from sensorium.testing import check_modality


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_filters_are_in_pillows_order():
    assert [Pillow.Resampling[name.upper()] for name in RESAMPLE] == list(range(6))


def test_the_central_square_is_what_it_was():
    """The recipes of this package were trained with these values."""
    for height, width in ((40, 70), (71, 40), (33, 33), (16, 16), (300, 500), (1, 9)):
        raw = picture(height, width)
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        expected = Pillow.fromarray(raw).resize(
            (16, 16), Pillow.Resampling.BICUBIC, box=box, reducing_gap=3.0
        )
        assert np.array_equal(CentralSquare(size=16)(raw), np.asarray(expected))
        numbers = torch.tensor(np.asarray(expected)).float() * torch.tensor(1 / 127.5) - 1
        assert torch.equal(Image(size=16).prepare(raw), numbers)


def test_edges_are_cut_to_whole_pixels():
    assert ShortestEdge(size=7)(picture(100, 75)).shape == (9, 7, 3)
    assert ShortestEdge(size=7)(picture(75, 100)).shape == (7, 9, 3)
    assert ShortestEdge(size=224)(picture(427, 640)).shape == (224, 335, 3)


def test_the_middle():
    raw = picture(5, 8)
    assert np.array_equal(CentreCrop(height=3, width=3)(raw), raw[1:4, 2:5])
    assert np.array_equal(CentreCrop(height=2, width=8)(raw), raw[1:3])
    wide = CentreCrop(height=8, width=4)(raw)  # 3 rows are missing: 2 above, 1 below
    assert np.array_equal(wide[2:7], raw[:, 2:6])
    assert not wide[:2].any()
    assert not wide[7:].any()


def test_patches_know_their_places():
    step = NativePatches(patch=2, most=20, resample="nearest")
    raw = picture(6, 10)
    assert step.size(6, 10) == (6, 10)
    pixels, places = split_places(torch.tensor(step(raw))[None], 2)
    assert pixels.shape == (1, 15, 2, 2, 3)
    for patch, (row, column) in zip(pixels[0], places[0].tolist(), strict=True):
        assert np.array_equal(patch.numpy(), raw[2 * row : 2 * row + 2, 2 * column : 2 * column + 2])
    far = NativePatches(patch=1, most=1024)(picture(1, 4000))
    assert split_places(torch.tensor(far)[None], 1)[1][0, -1].tolist() == [0, 1023]


def test_bytes_are_left_to_the_network():
    raw = picture(30, 40)
    for geometry in (
        None,
        Spec(Resize, height=12, width=9),
        [Spec(ShortestEdge, size=12), Spec(CentreCrop, height=12, width=9)],
    ):
        spec = Spec(Image, mean=None, geometry=geometry, flip=True, shift=3)
        modality = spec.build()
        values = modality.prepare(raw)
        assert values.dtype == modality.blank().dtype == torch.uint8
        assert values.shape == modality.blank().shape
        plain = Spec(Image, mean=0.0, std=1 / 255, geometry=geometry, flip=True, shift=3).build()
        assert torch.allclose(values.float(), plain.prepare(raw), atol=1e-3)
        draws = [torch.Generator().manual_seed(3) for _ in range(2)]
        assert torch.allclose(
            modality.prepare(raw, draws[0]).float(), plain.prepare(raw, draws[1]), atol=1e-3
        )


@pytest.mark.parametrize(
    "geometry",
    [
        Resize(height=9, width=12),
        [ShortestEdge(size=10, resample="lanczos"), CentreCrop(height=12, width=8)],
        NativePatches(patch=4, most=6),
    ],
)
def test_they_are_modalities_like_others(geometry):
    buffer = io.BytesIO()
    Pillow.fromarray(picture(21, 13)).save(buffer, "PNG")
    values = [picture(20, 30), picture(7, 7), Pillow.fromarray(picture(5, 40)), buffer.getvalue()]
    check_modality(
        Image(geometry=geometry, mean=None), values, broken=[b"GIF", np.zeros((0, 3, 3), np.uint8)]
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"size": 0}, "Image.size must be at least 1"),
        ({"size": 8, "geometry": Resize(height=8, width=8)}, "size or geometry, not both"),
        ({"geometry": []}, "makes all pictures alike.*found no step"),
        ({"geometry": ShortestEdge(size=8)}, "makes all pictures alike.*found ShortestEdge"),
        ({"geometry": [NativePatches(), Resize(height=8, width=8)]}, "nothing can follow NativePatches"),
        ({"geometry": NativePatches(), "flip": True}, "flip and shift need whole pictures"),
        ({"geometry": Resize(height=8, width=4), "shift": 4}, "shift must be from 0 to 3"),
        ({"colours": "shine"}, "there is no rule 'shine'.*'shown'"),
    ],
)
def test_wrong_settings(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        Image(**settings)


def test_wrong_steps():
    for make in (
        lambda: Resize(height=0, width=3),
        lambda: CentreCrop(height=3, width=-1),
        lambda: ShortestEdge(size=0),
        lambda: NativePatches(patch=0),
        lambda: NativePatches(most=100_000),
        lambda: Resize(height=1, width=1, resample="cubic"),
        lambda: Video(geometry=NativePatches()),
    ):
        with pytest.raises(ConfigError):
            make()


def test_colours():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., 0] = 200
    deep = Pillow.fromarray(np.full((4, 4), 0x1234, np.uint16))
    found = {rule: Image(size=4, colours=rule) for rule in ("shown", "clipped", "opaque")}
    assert [m.load_value(Pillow.fromarray(clear))[0, 0].tolist() for m in found.values()] == [
        [255, 255, 255], [255, 255, 255], [200, 0, 0]
    ]  # fmt: skip
    assert [m.load_value(deep)[0, 0, 0] for m in found.values()] == [0x12, 255, 255]
