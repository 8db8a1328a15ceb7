"""What a model receives: a Batch of Streams, one per modality, each with its owners and lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """The segments of one modality in a batch, padded along their first axis. ``n`` segments, ``t`` longest.

    A modality absent from the whole batch is a stream of no rows, so that every part of a model runs on
    every rank. ``seed`` drives whatever the model draws for a segment (masked patches), so that a
    sample's draw depends on nothing but itself; ``corrupt`` says whether the segment is to be masked.
    """

    values: Float[Tensor, "n t ..."] | Int[Tensor, "n t"]
    lengths: Int[Tensor, "n"]
    owner: Int[Tensor, "n"]  # which sample of the batch
    order: Int[Tensor, "n"]  # which segment of that sample, from 0
    ordinal: Int[Tensor, "n"]  # which of its modality within its turn, from 0
    turn: Int[Tensor, "n"]  # 0: seen by every turn
    content: Bool[Tensor, "n"]  # describes the thing itself, hence contrasted
    target: Bool[Tensor, "n"]  # to be produced by the language head
    hidden: Bool[Tensor, "n"]  # withheld from the rest of its sample
    corrupt: Bool[Tensor, "n"]  # to be masked and reconstructed
    seed: Int[Tensor, "n"]
    layout: Int[Tensor, "n k"] | None = None  # what the number of a segment's pieces does not tell
    learnt: Bool[Tensor, "n t"] | None = (
        None  # which tokens are produced; None: all of a target but the first
    )
    branch: Int[Tensor, "n t"] | None = None  # 0: seen by all branches of a sequence, which see no other
    asked: Int[Tensor, "n k"] | None = None  # tokens of what is asked about a segment, -1 behind them

    def __len__(self) -> int:
        return self.values.shape[0]

    def padding(self) -> Bool[Tensor, "n t"]:
        """True where a position is real."""
        return torch.arange(self.values.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def pairs(self) -> Int[Tensor, "n"]:
        """Which pair of answers each segment is of, from 0; -1 for none. A pair are the first two segments of this
        modality within a turn, if both are targets: ``ordinal`` 0 was preferred to ``ordinal`` 1.
        """
        place = torch.stack([self.owner, self.turn], 1)
        first, second = (self.target & (self.ordinal == ordinal) for ordinal in (0, 1))
        both = (place[:, None] == place[None]).all(2) & first[:, None] & second[None]  # [first, second]
        number = both.any(1).cumsum(0) - 1
        found = torch.where(both.any(1), number, -1)
        return torch.where(both.any(0), (both * (number + 1)[:, None]).sum(0) - 1, found)

    def rivals(self) -> Int[Tensor, "n t"]:
        """Of which answer each token is, where segments have branches: twice the number of its pair, and one more in
        the answer that was rejected; -1 for none. A pair are the branches of a segment that has just two: the first
        was preferred.
        """
        assert self.branch is not None
        both = self.branch.amax(1) == 2
        pair = torch.where(both, both.cumsum(0) - 1, -1)[:, None]
        return torch.where((pair >= 0) & (self.branch > 0), 2 * pair + self.branch - 1, -1)

    def to(self, device: torch.device | str) -> Stream:
        return self._each(lambda part: part.to(device, non_blocking=True))

    def select(self, rows: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> Stream:
        """The stream of some of its segments."""
        return self._each(lambda part: part[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Stream:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(part) for name, part in parts.items() if part is not None})


@dataclass(frozen=True)
class Batch:
    """Streams by modality name, for ``len(keys)`` samples.

    ``concept`` is equal for samples that mean the same (same class or same caption): they are not
    each other's negatives.
    """

    streams: Mapping[str, Stream]
    keys: tuple[str, ...]
    concept: Int[Tensor, "b"]

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        streams = {name: stream.to(device) for name, stream in self.streams.items()}
        return replace(self, streams=streams, concept=self.concept.to(device))
