"""A vocabulary that nobody learnt."""

from __future__ import annotations

import torch

from sensorium.core.state import saved_tensors
from sensorium.nn.encoders.random_codes import RandomCodes


def test_words_follow_from_the_seed_alone():
    one, same, other = (RandomCodes(patch_width=12, entries=40, seed=seed) for seed in (0, 0, 1))
    cut = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    words = one(cut)
    assert torch.equal(words, same(cut))
    assert not torch.equal(words, other(cut))
    assert torch.equal(words, one(3 * cut))  # by direction
    assert (int(words.min()), int(words.max())) == (0, 39)
    assert len(words.unique()) > 30
    assert one.entries == 40
    assert torch.allclose(one.codes.norm(dim=-1), torch.ones(40))
    assert saved_tensors(one) == {}
    with torch.device("meta"):
        described = RandomCodes(patch_width=12, entries=40)
    assert torch.equal(described(cut), words)
    assert bool(RandomCodes(patch_width=192, entries=8192).codes.isfinite().all())


def test_alike_patches_share_a_word():
    codes = RandomCodes(patch_width=48, entries=64)
    cut = torch.randn(500, 48, generator=torch.Generator().manual_seed(1))
    near = cut + 0.01 * torch.randn(500, 48, generator=torch.Generator().manual_seed(2))
    assert (codes(cut) == codes(near)).float().mean() > 0.9
