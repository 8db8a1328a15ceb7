"""Pictures are compared with transformers in ``test_public_tiles``; clips, whose processor needs torchvision, are
compared here with what that processor of pictures makes of each frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from transformers import Qwen2VLImageProcessorPil

from sensorium.core import CapabilityError, ConfigError, DataError
from sensorium.modalities import Clip, Image, Video
from sensorium.modalities.merged_patches import MergedPatches
from sensorium.modalities.sampling import Evenly, Paced

SETTINGS = {"patch": 4, "merge": 2, "least": 200, "most": 2000}


def frames(count, height=30, width=50):
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def theirs(picture):
    """Patches of one picture, [patches, 4, 4, 3], and the grid."""
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 200, "longest_edge": 2000}, patch_size=4, merge_size=2, temporal_patch_size=1
    )
    found = processor(Pillow.fromarray(picture), do_rescale=False, do_normalize=False)
    return np.moveaxis(found["pixel_values"].reshape(-1, 3, 4, 4), 1, -1), found["image_grid_thw"][0].tolist()


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_a_clip_is_its_frames_in_pairs(count):
    step = MergedPatches(**SETTINGS)
    shown = frames(count)
    each = [theirs(frame) for frame in shown]
    _, rows, columns = each[0][1]
    times = -(-count // 2)
    patches = step.clip(shown).reshape(times, rows * columns, 2, 4, 4, 3)
    assert step.clip_layout(count, 30, 50) == (times, rows, columns)
    for place in range(2 * times):
        assert np.array_equal(patches[place // 2, :, place % 2], each[min(place, count - 1)][0])


def test_a_picture_is_a_clip_that_stands_still():
    step = MergedPatches(**SETTINGS)
    (still,) = frames(1)
    assert np.array_equal(step(still), step.clip(np.stack([still, still])))
    assert step.layout(30, 50) == step.clip_layout(2, 30, 50) == step.clip_layout(1, 30, 50)


def test_frames_share_a_context():
    """By hand: 0.9 * 30 tokens of 8 x 8 pixels, twice for pairs, over the frames; at least 1.05 * 200."""
    step = MergedPatches(**SETTINGS, tokens=30)
    assert step.clip_layout(1, 40, 40) == (1, 10, 10)
    assert step.clip_layout(4, 40, 40) == (2, 6, 6)  # 864 pixels: 29 x 29, down to 24
    assert step.clip_layout(100, 40, 40) == (50, 2, 2)  # 210 pixels: 14 x 14, down to 8
    assert step.layout(40, 40) == (1, 10, 10)


def test_modalities_of_patches():
    video = Video(geometry=MergedPatches(**SETTINGS), sampling=Paced(rate=2.0, least=2, most=6), mean=None)
    raw = video.load_value((frames(40), 10.0))
    values = video.prepare(raw)
    assert video.layout(raw) == (3, 8, 12)  # 4 s make 8 frames, at most 6
    assert (values.shape, values.dtype) == ((3 * 8 * 12, 2 * 4 * 4 * 3), torch.uint8)
    chosen = raw.frames[[0, 6, 13, 20, 26, 33]]
    assert np.array_equal(values.numpy(), MergedPatches(**SETTINGS).clip(chosen))
    assert (video.blank().shape, video.blank().dtype) == ((4, 96), torch.uint8)
    image = Image(geometry=MergedPatches(**SETTINGS), mean=None)
    assert image.blank().shape == (4, 96)
    for modality in (video, image):
        with pytest.raises(CapabilityError, match="cannot be looked at"):
            modality.undo(modality.blank())


def test_wholes_have_no_layout():
    video = Video(size=8, sampling=Evenly(frames=3, at="ends"), mean=None)
    assert video.layout(Clip(frames(9), 1.0)) is None
    assert np.array_equal(
        video.prepare(Clip(frames(9), 1.0)),
        Video(size=8, frames=3, mean=None).prepare(Clip(frames(9)[[0, 4, 8]], 1.0)),
    )


def test_limits():
    step = MergedPatches(least=1 << 24, most=1 << 25)
    with pytest.raises(DataError, match=r"the 60 frames would become .* the limit is 2,048 MiB in all"):
        step.clip(np.zeros((60, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="1 x 201 pixels is too long and thin"):
        MergedPatches()(np.zeros((201, 1, 3), np.uint8))
    assert len(MergedPatches()(np.zeros((200, 1, 3), np.uint8)))
    for settings in ({"patch": 0}, {"least": 9, "most": 8}, {"tokens": 0}, {"resample": "cubic"}):
        with pytest.raises(ConfigError, match="MergedPatches"):
            MergedPatches(**settings)
    with pytest.raises(ConfigError, match="sampling or fill"):
        Video(sampling=Evenly(), fill=True)


def test_a_step_of_time():
    """Two frames at three a second, in nanoseconds, rounded up; a picture has none."""
    step = MergedPatches(**SETTINGS, timed=True)
    assert step.clip_layout(4, 40, 40, 3.0) == (
        *MergedPatches(**SETTINGS).clip_layout(4, 40, 40),
        666_666_667,
    )
    assert step.clip_layout(4, 40, 40)[3] == 2_000_000_000
    assert len(step.layout(40, 40)) == 3
    video = Video(mean=None, geometry=step, sampling=Paced(rate=2.0))
    clip = video.read((np.zeros((12, 40, 40, 3), np.uint8), 3.0))
    assert video.layout(clip) == step.clip_layout(8, 40, 40, 2.0)
