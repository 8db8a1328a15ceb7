"""Whether an encoder fits any trunk: independent of its batch, blind under its masks, and never without gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core import ConfigError, Modality
from ..data.collate import pad
from ..nn.encoders.encoded import Encoded, Encoder
from .claims import claim, close

_PROBES = 64  # places of a value that are changed, one at a time
_SEEDS = 16


def check_encoder(encoder: Encoder, values: Sequence[Any], *, modality: Modality | None = None) -> None:
    """Raise AssertionError for the first promise of ``sensorium.nn.encoders.encoded.Encoder`` that is broken.

    ``values`` are prepared tensors of several lengths or, with ``modality``, whatever it reads. The encoder itself is
    left as it is. Raises ConfigError if there are no ``values``.
    """
    if not values:
        raise ConfigError("check_encoder needs at least one value")
    if modality is not None:
        values = [modality.prepare(modality.load_value(value)) for value in values]
    subject = copy.deepcopy(encoder).eval()
    for corrupt in (False, True):
        _check_shapes(subject, values, corrupt)
        _check_alone(subject, values, corrupt)
    _check_gradients(subject, values)
    _check_no_rows(subject, values)
    _check_masks(subject, values)
    if subject.causal:
        _check_causality(subject, max(values, key=len))
    if _masks(subject, values):
        _check_hiding(subject, max(values, key=len))


def _encode(encoder: Encoder, values: Sequence[Tensor], corrupt: bool, seeds: Sequence[int]) -> Encoded:
    padded, lengths = pad(values, values[0])
    return encoder(padded, lengths, torch.full((len(values),), corrupt), torch.tensor(seeds))


def _check_shapes(encoder: Encoder, values: Sequence[Tensor], corrupt: bool) -> None:
    """Tokens, lengths, masks and truth fit each other and the encoder's ``width`` and ``patch_width``."""
    found = _encode(encoder, values, corrupt, range(len(values)))
    claim(isinstance(found, Encoded), f"forward returns a {type(found).__name__}: return an Encoded")
    rows, tokens = len(values), found.tokens.shape[1]
    claim(
        found.tokens.shape == (rows, tokens, encoder.width) and found.tokens.is_floating_point(),
        f"tokens are {list(found.tokens.shape)}: expected [{rows}, t, {encoder.width}], the last being self.width",
    )
    claim(
        found.lengths.shape == (rows,) and found.lengths.dtype == torch.int64,
        f"lengths are {found.lengths.dtype} {list(found.lengths.shape)}: expected int64 [{rows}]",
    )
    claim(
        bool((found.lengths >= 1).all()) and bool((found.lengths <= tokens).all()),
        f"lengths are {found.lengths.tolist()}: each segment has from 1 to {tokens} tokens here",
    )
    claim(
        found.masked.shape == (rows, tokens) and found.masked.dtype == torch.bool,
        f"masked is {found.masked.dtype} {list(found.masked.shape)}: expected bool [{rows}, {tokens}]",
    )
    if not values[0].is_floating_point():
        expected: tuple[int, ...] = (rows, tokens)
    elif encoder.patch_width is not None:
        expected = (rows, tokens, encoder.patch_width)
    else:
        return
    claim(
        found.truth.shape == expected,
        f"truth is {list(found.truth.shape)}: expected {list(expected)}: what stood at each token",
    )


def _check_alone(encoder: Encoder, values: Sequence[Tensor], corrupt: bool) -> None:
    """A segment's tokens, mask and truth are the same alone and in a batch of longer ones."""
    whole = _encode(encoder, values, corrupt, range(len(values)))
    for row, value in enumerate(values):
        alone = _encode(encoder, [value], corrupt, [row])
        claim(
            int(alone.lengths[0]) == int(whole.lengths[row]),
            f"values[{row}] has {int(alone.lengths[0])} tokens alone and {int(whole.lengths[row])} in a batch: "
            "compute lengths from the lengths given, not from the padded shape",
        )
        length = int(alone.lengths[0])
        for part in ("tokens", "masked", "truth"):
            same = close(getattr(alone, part)[0, :length], getattr(whole, part)[row, :length])
            claim(
                same,
                f"the {part} of values[{row}] differ alone and in a batch: let nothing depend on padding or on "
                "neighbours (no batch norm), and draw masks with sensorium.core.random.uniform from seed",
            )


def _check_gradients(encoder: Encoder, values: Sequence[Tensor]) -> None:
    """Every parameter gets a finite gradient."""
    found = _gradients(encoder, _encode(encoder, values, True, range(len(values))))
    for name, gradient in found.items():
        claim(gradient is not None, f"the parameter {name} gets no gradient: use it in forward, or remove it")
        claim(
            bool(gradient.isfinite().all()),
            f"the gradient of {name} is not finite: guard divisions and roots",
        )


def _check_no_rows(encoder: Encoder, values: Sequence[Tensor]) -> None:
    """A batch without this modality passes through and still gives every parameter a (zero) gradient."""
    try:
        none = torch.zeros(0, dtype=torch.int64)
        found = encoder(values[0][None][:0], none, none.bool(), none)
    except (RuntimeError, ValueError, IndexError) as error:
        raise AssertionError(
            f"a batch of no rows fails ({error}): let every operation run on 0 rows"
        ) from error
    claim(
        found.tokens.shape[0] == 0 and found.lengths.shape == (0,),
        f"no rows give tokens {list(found.tokens.shape)} and lengths {list(found.lengths.shape)}: expected 0 rows",
    )
    for name, gradient in _gradients(encoder, found).items():
        claim(
            gradient is not None,
            f"with no rows the parameter {name} gets no gradient, and training on several processes would hang: "
            "do not skip it; run it on the 0 rows",
        )


def _check_masks(encoder: Encoder, values: Sequence[Tensor]) -> None:
    """Masks are on real tokens of corrupt segments only, and an encoder that reconstructs does mask."""
    count = len(values)
    clean = _encode(encoder, values, False, range(count))
    claim(not bool(clean.masked.any()), "tokens are masked without corrupt: mask where corrupt is True only")
    found = _encode(encoder, values, True, range(count))
    real = torch.arange(found.masked.shape[1]) < found.lengths[:, None]
    claim(not bool((found.masked & ~real).any()), "padding is masked: combine the mask with the real tokens")
    reconstructs = not values[0].is_floating_point() or encoder.patch_width is not None
    if reconstructs:
        claim(
            _masks(encoder, values),
            "corrupt masks nothing: mask some tokens, or leave patch_width at None if there is nothing to rebuild",
        )
    else:
        claim(
            not _masks(encoder, values),
            "tokens are masked although patch_width is None: set it to the size of one patch of truth",
        )


def _check_hiding(encoder: Encoder, value: Tensor) -> None:
    """No token depends on what stands under a mask, and ``truth`` holds it."""
    seed = max(range(_SEEDS), key=lambda seed: int(_encode(encoder, [value], True, [seed]).masked.sum()))
    base, changed, moved = _probe(encoder, value, True, seed)
    under = (changed & base.masked).any(1)
    claim(
        bool(under.any()),
        "truth does not tell what stands under the masks: return the values as they were before masking",
    )
    claim(
        not bool((under & moved.any(1)).any()),
        "tokens change with what stands under a mask: replace the masked values before anything looks at them",
    )


def _check_causality(encoder: Encoder, value: Tensor) -> None:
    """A causal encoder's tokens do not depend on later ones."""
    _, changed, moved = _probe(encoder, value, False, 0)
    first = torch.where(changed, torch.arange(changed.shape[1]), changed.shape[1]).amin(1)
    early = moved & (torch.arange(moved.shape[1]) < first[:, None])
    claim(
        not bool(early.any()),
        "causal is True, but a token changes with a later one: look back only, or leave causal at False",
    )


def _probe(encoder: Encoder, value: Tensor, corrupt: bool, seed: int) -> tuple[Encoded, Tensor, Tensor]:
    """What changing one place of a value at a time does.

    Returns the unchanged encoding, and for each probe and token whether its truth and whether its tokens change.
    """
    places = torch.linspace(0, value.numel() - 1, min(_PROBES, value.numel())).long().unique()
    rows = value.flatten().repeat(len(places) + 1, 1)
    probes = torch.arange(len(places))
    if value.is_floating_point():
        rows[probes + 1, places] += 1.0
    else:  # another token of the same value
        rows[probes + 1, places] = value.flatten().roll(1)[places]
    found = _encode(encoder, list(rows.view(-1, *value.shape)), corrupt, [seed] * len(rows))
    base = Encoded(found.tokens[:1], found.lengths[:1], found.masked[:1], found.truth[:1])
    changed = (found.truth[1:] != base.truth).reshape(len(places), found.tokens.shape[1], -1).any(2)
    scale = base.tokens.abs().max()
    moved = ((found.tokens[1:] - base.tokens).abs() > 1e-5 * scale).any(2)
    return base, changed, moved


def _masks(encoder: Encoder, values: Sequence[Tensor]) -> bool:
    """Whether any of several draws masks anything."""
    return any(
        bool(_encode(encoder, values, True, range(first, first + len(values))).masked.any())
        for first in range(0, _SEEDS * len(values), len(values))
    )


def _gradients(encoder: Encoder, found: Encoded) -> dict[str, Any]:
    encoder.zero_grad(set_to_none=True)
    parameters = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    if found.tokens.requires_grad:
        found.tokens.square().sum().backward()
    return {name: parameter.grad for name, parameter in parameters.items()}
