"""check_encoder: the package's encoders pass, and each broken promise is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sensorium.core import ConfigError
from sensorium.core.random import uniform
from sensorium.modalities import Series
from sensorium.nn.encoders.encoded import Encoded, Encoder
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.stems import ConvStem, LinearStem
from sensorium.nn.encoders.tokens import TokenEncoder
from sensorium.testing import check_encoder

WIDTH = 8


def steps(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 2, generator=generator) for length in lengths]


def tokens(*lengths: int) -> list[Tensor]:
    return [torch.arange(4, 4 + length) for length in lengths]


class Windows(Encoder):
    """Windows of two steps of two channels through one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.patch_width = WIDTH, 4
        self.project = nn.Linear(4, WIDTH)

    def forward(self, values: Tensor, lengths: Tensor, corrupt: Tensor, seed: Tensor) -> Encoded:
        truth = pad(values, (0, 0, 0, values.shape[1] % 2)).unflatten(1, (-1, 2)).flatten(2)
        lengths = (lengths + 1) // 2
        real = torch.arange(truth.shape[1]) < lengths[:, None]
        masked = self.mask(seed, truth.shape[1]) & corrupt[:, None] & real
        return Encoded(self.project(self.hide(truth, masked)), lengths, masked, truth)

    def mask(self, seed: Tensor, count: int) -> Tensor:
        return uniform(seed, count) < 0.5

    def hide(self, truth: Tensor, masked: Tensor) -> Tensor:
        return truth.masked_fill(masked[..., None], 0.0)


class Changed(Windows):
    """Windows whose result is changed."""

    def forward(self, values: Tensor, lengths: Tensor, corrupt: Tensor, seed: Tensor) -> Encoded:
        return self.change(super().forward(values, lengths, corrupt, seed), values)

    def change(self, found: Encoded, values: Tensor) -> Any:
        raise NotImplementedError


class Bare(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return found.tokens


class Narrow(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, tokens=found.tokens[..., :4])


class FloatLengths(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, lengths=found.lengths.float())


class NoTokens(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, lengths=found.lengths - 1)


class FloatMask(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, masked=found.masked.float())


class WideTruth(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, truth=pad(found.truth, (0, 1)))


class PaddedLengths(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, lengths=torch.full_like(found.lengths, found.tokens.shape[1]))


class Neighbours(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, tokens=found.tokens - found.tokens.mean((0, 1)))


class Unused(Windows):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Steep(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, tokens=found.tokens + (self.project.bias * 0.0).sqrt())


class Longest(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, tokens=found.tokens + 0.0 * values.max())


class Skips(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return found if len(values) else replace(found, tokens=found.tokens.detach())


class AlwaysMasks(Windows):
    def forward(self, values: Tensor, lengths: Tensor, corrupt: Tensor, seed: Tensor) -> Encoded:
        return super().forward(values, lengths, torch.ones_like(corrupt), seed)


class MasksPadding(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        padding = torch.arange(found.masked.shape[1]) >= found.lengths[:, None]
        return replace(found, masked=found.masked | (padding & found.masked.any()))


class NeverMasks(Windows):
    def mask(self, seed: Tensor, count: int) -> Tensor:
        return uniform(seed, count) < 0.0


class Undeclared(Windows):
    def __init__(self) -> None:
        super().__init__()
        self.patch_width = None


class GlobalDraw(Windows):
    def mask(self, seed: Tensor, count: int) -> Tensor:
        return torch.rand(len(seed), count) < 0.5


class Sees(Windows):
    def hide(self, truth: Tensor, masked: Tensor) -> Tensor:
        return truth


class Smooths(Windows):
    """Looks at the step before the window ahead of masking."""

    def hide(self, truth: Tensor, masked: Tensor) -> Tensor:
        before = pad(truth, (0, 0, 1, 0))[:, :-1]
        return super().hide(truth, masked) + before


class HidesTruth(Changed):
    def change(self, found: Encoded, values: Tensor) -> Any:
        return replace(found, truth=found.truth.masked_fill(found.masked[..., None], 0.0))


class LooksAhead(TokenEncoder):
    def embed(self, ids: Tensor, start: int = 0) -> Tensor:
        plain = super().embed(ids, start)
        real = (ids > 0)[..., None]
        return plain + pad(plain * real, (0, 0, 0, 1))[:, 1:]


@pytest.mark.parametrize(
    ("encoder", "values"),
    [
        (Windows(), steps(5, 1, 8)),
        (GridEncoder(stem=LinearStem(patch=[2], channels=2, width=WIDTH)), steps(5, 1, 8)),
        (GridEncoder(stem=ConvStem(patch=[4], channels=2, width=WIDTH)), steps(5, 1, 16)),
        (GridEncoder(stem=ConvStem(patch=[2, 2], channels=3, width=WIDTH)), list(torch.rand(2, 4, 4, 3))),
        (TokenEncoder(vocabulary=20, width=WIDTH, mask_id=3), tokens(3, 9)),
    ],
)
def test_passes(encoder: Encoder, values: list[Tensor]):
    check_encoder(encoder, values)


def test_reads_with_a_modality():
    check_encoder(Windows(), [[[1, 2]], [[3, 4], [5, 6], [7, 8]]], modality=Series(channels=2))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Bare, "returns a Tensor: return an Encoded"),
        (Narrow, r"tokens are \[3, 4, 4\]: expected \[3, t, 8\]"),
        (FloatLengths, "expected int64"),
        (NoTokens, "each segment has from 1 to 4 tokens"),
        (FloatMask, "expected bool"),
        (WideTruth, r"truth is \[3, 4, 5\]: expected \[3, 4, 4\]"),
        (PaddedLengths, "compute lengths from the lengths given"),
        (Neighbours, "the tokens of .* differ alone and in a batch"),
        (GlobalDraw, "differ alone and in a batch"),
        (Unused, "spare.weight gets no gradient: use it in forward"),
        (Steep, "gradient of project.bias is not finite"),
        (Longest, "no rows fails"),
        (Skips, "with no rows the parameter project.weight gets no gradient"),
        (AlwaysMasks, "masked without corrupt"),
        (MasksPadding, "padding is masked"),
        (NeverMasks, "corrupt masks nothing"),
        (Undeclared, "patch_width is None: set it"),
        (Sees, "tokens change with what stands under a mask"),
        (Smooths, "tokens change with what stands under a mask"),
        (HidesTruth, "truth does not tell"),
    ],
)
def test_names_the_broken_promise(cls: type[Encoder], message: str):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message):
        check_encoder(cls(), steps(5, 1, 8))


def test_causality():
    encoder = LooksAhead(vocabulary=20, width=WIDTH, mask_id=3)
    with pytest.raises(AssertionError, match="causal is True, but a token changes with a later one"):
        check_encoder(encoder, tokens(3, 9))
    encoder.causal = False
    check_encoder(encoder, tokens(3, 9))


def test_without_values_there_is_nothing_to_check():
    with pytest.raises(ConfigError, match="at least one value"):
        check_encoder(Windows(), [])


def test_the_encoder_is_left_as_it_was():
    encoder = Windows().train()
    check_encoder(encoder, steps(5, 2))
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
