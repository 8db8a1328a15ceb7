"""Masks against what their definitions say, pair by pair, in every form that a kernel takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from sensorium.nn.layers import flex
from sensorium.nn.layers.attention import attend
from sensorium.nn.layers.masks import (
    Layout,
    Mask,
    causal,
    everything,
    interleaved,
    packed,
    padding,
    prefix,
    sequences,
)

B, T = 3, 20
REAL = torch.arange(T) < torch.tensor([20, 13, 1])[:, None]
SEGMENTS = torch.tensor([[0] * 7 + [1] * 9 + [2] * 4, [0] * 20, [5] * 1 + [4] * 10 + [-1] * 9])
PREFIX = torch.tensor([0, 6, 20])
PARTS = torch.tensor([7, 1, 12])
PLACES = torch.stack([torch.randperm(T, generator=torch.Generator().manual_seed(b)) for b in range(B)])


def _part(place: int) -> int:
    return int((place >= PARTS.cumsum(0)).sum())


def layout() -> Layout:
    """Segments of every kind: context, targets, turns, hidden, padding."""
    generator = torch.Generator().manual_seed(0)
    segment = torch.arange(T).div(5, rounding_mode="floor").expand(B, T).clone()
    segment[1, 13:], segment[2, 1:] = -1, -1
    target = segment == 2
    block = torch.where(target, torch.arange(T), segment)
    turn = torch.randint(0, 3, (B, 4), generator=generator).gather(1, segment.clamp(min=0))
    return Layout(segment, block, turn, target, (segment == 1) & (turn == 0))


def _interleaved(b: int, q: int, k: int) -> bool:
    at = layout()
    mine, theirs = ({n: getattr(at, n)[b, p].item() for n in vars(at)} for p in (q, k))
    if theirs["segment"] < 0 or mine["segment"] < 0:
        return theirs["segment"] < 0 and mine["segment"] < 0 and _open(mine, theirs)
    return _open(mine, theirs)


def _open(mine: dict, theirs: dict) -> bool:
    if mine["segment"] < 0 and theirs["segment"] < 0:
        return True
    if theirs["block"] > mine["block"]:
        return False
    if (mine["hidden"] or theirs["hidden"]) and mine["segment"] != theirs["segment"]:
        return False
    return mine["turn"] == theirs["turn"] or (theirs["turn"] == 0 and not theirs["target"])


CASES: dict[str, tuple[Mask, Callable[[int, int, int], bool]]] = {
    "padding": (padding(REAL), lambda b, q, k: bool(REAL[b, k])),
    "window": (Mask(near=4), lambda b, q, k: abs(q - k) < 4),
    "window, causal": (causal().within(4), lambda b, q, k: 0 <= q - k < 4),
    "window, padding": (padding(REAL).within(30), lambda b, q, k: bool(REAL[b, k])),
    "sequences": (sequences(PARTS), lambda b, q, k: k <= q and _part(q) == _part(k)),
    "sequences, window": (
        sequences(PARTS).within(3),
        lambda b, q, k: 0 <= q - k < 3 and _part(q) == _part(k),
    ),
    "places": (Mask(causal=True, places=PLACES), lambda b, q, k: k <= int(PLACES[b, q])),
    "places, window": (
        Mask(causal=True, places=PLACES, near=4),
        lambda b, q, k: 0 <= int(PLACES[b, q]) - k < 4,
    ),
    "prefix": (prefix(PREFIX, T), lambda b, q, k: k < PREFIX[b] or k <= q),
    "packed": (packed(SEGMENTS), lambda b, q, k: bool(SEGMENTS[b, q] == SEGMENTS[b, k])),
    "packed, causal": (
        packed(SEGMENTS, causal=True),
        lambda b, q, k: k <= q and bool(SEGMENTS[b, q] == SEGMENTS[b, k]),
    ),
    "also": (
        Mask(causal=True, near=4, also=packed(SEGMENTS).rule),
        lambda b, q, k: 0 <= q - k < 4 or bool(SEGMENTS[b, q] == SEGMENTS[b, k]),
    ),
    "interleaved": (interleaved(layout(), layout()), _interleaved),
}


def naive(may: Callable[[int, int, int], bool], queries: int = T, keys: int = T) -> torch.Tensor:
    rows = [[[bool(may(b, q, k)) for k in range(keys)] for q in range(queries)] for b in range(B)]
    return torch.tensor(rows)


@pytest.mark.parametrize("name", CASES)
def test_dense(name: str):
    mask, may = CASES[name]
    allowed = mask.joined(T, T, torch.device("cpu"))
    assert allowed is not None
    assert torch.equal(allowed.dense.expand(B, -1, -1), naive(may))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_blocks_are_the_same_rule(name: str, biased: bool):
    """Also with grouped heads and a bias."""
    mask, _ = CASES[name]
    torch.manual_seed(0)
    q = torch.randn(B, 4, T, 8, dtype=torch.float64)
    k, v = torch.randn(2, B, 2, T, 8, dtype=torch.float64)
    bias = torch.randn(4, T, T, dtype=torch.float64) if biased else None
    expected = attend(q, k, v, mask, bias=bias, scale=0.3)
    found = flex.attend_blocks(q, k, v, mask, bias=bias, scale=0.3, kernel=flex_attention)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch has the backward pass of blocks on GPUs alone"
)
@pytest.mark.parametrize("biased", [False, True])
def test_gradients_of_blocks(biased: bool):
    torch.manual_seed(0)
    segments = (torch.arange(1100, device="cuda") // 90).expand(2, -1)
    q, k, v = (torch.randn(2, heads, 1100, 32, device="cuda", requires_grad=True) for heads in (4, 2, 2))
    bias = torch.randn(4, 1100, 1100, device="cuda", requires_grad=True) if biased else None
    wanted = [q, k, v] if bias is None else [q, k, v, bias]
    assert flex.pays(q, k, packed(segments), 0.0)
    found = attend(q, k, v, packed(segments, causal=True), bias=bias)
    expected = F.scaled_dot_product_attention(
        q, k, v, attn_mask=packed(segments, causal=True).dense(1100, 1100, q, bias)[0], enable_gqa=True
    )
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    weights = torch.randn_like(found)
    for mine, theirs in zip(
        torch.autograd.grad(found, wanted, weights),
        torch.autograd.grad(expected, wanted, weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=2e-2, rtol=0)


def test_blocks_are_for_large_masks_on_a_gpu():
    q = torch.randn(1, 1, 1024, 8)
    mask = Mask(near=4)
    assert not flex.pays(q, q, mask, 0.0)
    there = _OnGPU(q)
    assert flex.pays(there, there, mask, 0.0)
    assert not flex.pays(there, there, mask, 0.1)
    assert not flex.pays(there, there, everything(), 0.0)
    assert not flex.pays(_OnGPU(q[:, :, :99]), there, mask, 0.0)


class _OnGPU:
    """A tensor as it would look there."""

    is_cuda = True

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape = tensor.shape


@pytest.mark.parametrize("queries", [1, 3, 7])
@pytest.mark.parametrize("biased", [False, True])
def test_causality_with_a_past(queries: int, biased: bool):
    """The queries are the last of the keys, whatever torch's own flag means."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, 2, 7, 4, dtype=torch.float64)
    bias = torch.randn(2, 7, 7, dtype=torch.float64) if biased else None
    past = torch.ones(7, 7, dtype=torch.bool).tril()
    masked = torch.where(past, 0.0 if bias is None else bias, float("-inf"))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=masked.to(q.dtype))[:, :, -queries:]
    part = None if bias is None else bias[:, -queries:]
    found = attend(q[:, :, -queries:], k, v, causal(), bias=part)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_window_with_a_past():
    mask, device = causal().within(3), torch.device("cpu")
    whole, last = mask.joined(9, 9, device), mask.joined(2, 9, device)
    assert whole is not None
    assert last is not None
    assert torch.equal(last.dense, whole.dense[:, -2:])
    assert mask.joined(2, 3, device) is None


def test_no_mask_where_none_is_needed():
    x = torch.zeros(1, 1, 4, 4)
    assert padding(torch.ones(2, 4, dtype=torch.bool)).dense(4, 4, x) == (None, False)
    assert everything().dense(4, 4, x) == (None, False)
    assert causal().dense(4, 4, x) == (None, True)
    assert causal().dense(1, 4, x) == (None, False)


def test_biases_add_up():
    x = torch.zeros(1, 1, 2, 3)
    one, two = torch.randn(2, 1, 2, 3, dtype=torch.float64)
    found, own = Mask(bias=one).dense(2, 3, x, two)
    assert not own
    assert torch.equal(found, (one + two).float())
