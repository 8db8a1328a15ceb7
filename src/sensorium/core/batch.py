"""What a model receives: a Batch of Streams, one per modality, each with its owners and lengths."""

from __future__ import annotations

from collections.abc import Mapping
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

    def __len__(self) -> int:
        return self.values.shape[0]

    def padding(self) -> Bool[Tensor, "n t"]:
        """True where a position is real."""
        return torch.arange(self.values.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def to(self, device: torch.device | str) -> Stream:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return replace(self, **moved)

    def select(self, rows: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> Stream:
        """The stream of some of its segments."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})


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
