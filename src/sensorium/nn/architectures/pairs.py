"""Two texts of a sample read as one, in their order or exchanged.

Legend: n segments, b samples that have any, t tokens of the longest, m tokens of all segments, k of them read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ...core.batch import Stream
from ...core.random import uniform
from ..layers.packing import Packing, ragged_positions

_EXCHANGE = 3  # added to a segment's seed: the draws of masking come before


@dataclass(frozen=True)
class Texts:
    """What is read together: ``index`` says which of the packed tokens of the segments each packed token is.

    ``several``: more than one segment is read; ``exchanged``: the second before the first.
    """

    ids: Int[Tensor, "b t"]
    lengths: Int[Tensor, "b"]
    types: Int[Tensor, "b t"]
    index: Int[Tensor, "k"]
    owner: Int[Tensor, "b"]
    several: Bool[Tensor, "b"]
    exchanged: Bool[Tensor, "b"]


def pairs(stream: Stream, ids: Int[Tensor, "m"], types: int) -> Texts:
    """The segments of each sample in their order, all but the first without their leading token.

    The first two are exchanged in half of all samples, by a draw from the first one's seed. The type of a token is the
    number of its segment, below ``types``. ``ids`` are the packed tokens that are read in place of the stream's.
    """
    segment = torch.argsort(
        stream.owner * (stream.order.max() + 1) + stream.order if len(stream) else stream.owner
    )
    owner, count = stream.owner[segment].unique_consecutive(return_counts=True)
    place = ragged_positions(count)
    first = segment[count.cumsum(0) - count]
    exchanged = (uniform(stream.seed[first] + _EXCHANGE, 1)[:, 0] < 0.5) & (count > 1)
    place = torch.where(exchanged.repeat_interleave(count) & (place < 2), 1 - place, place)
    sample = torch.arange(len(owner), device=owner.device).repeat_interleave(count)
    order = torch.argsort(sample * (count.max() if len(count) else 0) + place)
    segment, place, sample = segment[order], place[order], sample[order]

    begin = stream.lengths.cumsum(0) - stream.lengths
    later = (place > 0).long()
    length = stream.lengths[segment] - later
    index = (begin[segment] + later).repeat_interleave(length) + ragged_positions(length)
    lengths = torch.zeros_like(owner).index_add(0, sample, length)
    longest = int(lengths.max()) if len(lengths) else 0
    row = torch.arange(len(owner), device=owner.device).repeat_interleave(lengths)
    packing = Packing(row * longest + ragged_positions(lengths), len(owner), longest)
    kind = place.clamp(max=max(types - 1, 0)).repeat_interleave(length)
    return Texts(packing.pad(ids[index]), lengths, packing.pad(kind), index, owner, count > 1, exchanged)
