"""Where the tokens of a sequence stand and which of them see each other, where that is not simply from left to right.

Legend: b sequences, t tokens of the longest.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..layers.masks import Mask, Rule


@dataclass(frozen=True)
class Sequences:
    """Tokens padded on the right. ``media`` says at which places what is no text was put, by the number of the kind of
    it and one (0: text), in the order of ``layouts``, whose rows are those of the segments one after the other.
    ``learnt`` are the tokens of answers; None while one is to be written. ``branch`` is 0 for what all branches of a
    sequence see, and the number of its branch for other tokens; None where there are no branches. ``rivals`` says of
    which of two answers tokens are, as ``Stream.rivals``.
    """

    ids: Int[Tensor, "b t"]
    real: Bool[Tensor, "b t"]
    lengths: Int[Tensor, "b"]
    media: Int[Tensor, "b t"]
    learnt: Bool[Tensor, "b t"] | None
    layouts: Mapping[str, Int[Tensor, "n k"] | None]
    owner: Int[Tensor, "b"]
    branch: Int[Tensor, "b t"] | None = None
    rivals: Int[Tensor, "b t"] | None = None


def branching(sequences: Sequences) -> Mask:
    """Causal attention in which each branch goes on from the common beginning, and counts its places from there."""
    branch = sequences.branch
    assert branch is not None
    rule = Rule(
        lambda b, q, k: (branch[b, k] == 0) | (branch[b, k] == branch[b, q]),
        len(branch),
        branch.shape[1],
        branch.shape[1],
        branch.device,
    )
    return Mask(rule=rule, causal=True, positions=branch_places(branch))


def branch_places(branch: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Where each token stands in the sequence that is its branch alone."""
    place = torch.arange(branch.shape[1], device=branch.device)
    common = _common(branch)
    begin = torch.where(_begins(branch), place, 0).cummax(1).values
    return torch.where(branch == 0, place, common + place - begin)


def before(sequences: Sequences) -> Int[Tensor, "b t"]:
    """The place of the token before each one, in its own branch; the first has itself."""
    place = torch.arange(sequences.ids.shape[1], device=sequences.ids.device)
    last = (place - 1).clamp(min=0).expand(sequences.ids.shape)
    if sequences.branch is None:
        return last
    common = _common(sequences.branch)
    return torch.where(_begins(sequences.branch), (common - 1).clamp(min=0), last)


def _common(branch: Int[Tensor, "b t"]) -> Int[Tensor, "b 1"]:
    """How many tokens come before the first branch."""
    return (branch.cummax(1).values == 0).sum(1, keepdim=True)


def _begins(branch: Int[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """True at the first token of each branch."""
    begins = branch > 0
    begins[:, 1:] &= branch[:, 1:] != branch[:, :-1]
    return begins


def apart(sequences: Sequences) -> tuple[Int[Tensor, "m"], Sequences]:
    """Each branch as a sequence of its own, and which of the packed rows of the others it is made of."""
    branch = sequences.branch
    assert branch is not None
    chosen = [
        (row, ((branch[row] == 0) | (branch[row] == one)) & sequences.real[row])
        for row, most in enumerate(branch.amax(1).tolist())
        for one in range(min(most, 1), most + 1)
    ]
    rows = torch.tensor([row for row, _ in chosen], device=branch.device)
    packed = torch.full_like(branch, -1).masked_scatter(
        sequences.real, torch.arange(int(sequences.real.sum()), device=branch.device)
    )
    lengths = torch.stack([mask.sum() for _, mask in chosen])
    longest = int(lengths.max())

    def gathered(values: Tensor) -> Tensor:
        made = values.new_zeros(len(chosen), longest)
        for place, (row, mask) in enumerate(chosen):
            made[place, : int(lengths[place])] = values[row, mask]
        return made

    real = torch.arange(longest, device=branch.device) < lengths[:, None]
    alone = Sequences(
        ids=gathered(sequences.ids),
        real=real,
        lengths=lengths,
        media=gathered(sequences.media),
        learnt=None if sequences.learnt is None else gathered(sequences.learnt),
        layouts=sequences.layouts,
        owner=sequences.owner[rows],
        rivals=None if sequences.rivals is None else gathered(sequences.rivals),
    )
    return gathered(packed)[real], alone


class Visibility(abc.ABC):
    """Which tokens see each other."""

    @abc.abstractmethod
    def __call__(self, sequences: Sequences) -> Mask: ...


class Positions(abc.ABC):
    """What turns queries and keys, where it does not count tokens: coordinates on ``axes``."""

    axes: int

    @abc.abstractmethod
    def __call__(self, sequences: Sequences) -> Int[Tensor, "b t axes"]: ...
