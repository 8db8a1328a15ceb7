"""From separate streams to whole samples: where each token goes, and who may look at whom.

Legend: b samples, n segments of one modality, m their real tokens, l tokens of the longest sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ...core.batch import Stream
from ..layers.masks import Layout
from ..layers.packing import Packing, ragged_positions


@dataclass(frozen=True)
class Interleaved:
    """Where the tokens of all streams, one stream after the other, stand in whole samples."""

    packing: Packing
    layout: Layout
    kind: Int[Tensor, "m"]


def interleave(streams: Sequence[Stream], lengths: Sequence[Int[Tensor, "n"]], samples: int) -> Interleaved:
    """Put the segments of each sample one after the other in their order, padded on the right.

    ``lengths`` are the token counts of the segments of each stream. The kind of a token is its stream's number.
    """
    length = torch.cat(list(lengths))
    start, longest = _starts(
        torch.cat([stream.owner for stream in streams]),
        torch.cat([stream.order for stream in streams]),
        length,
        samples,
    )
    index = start.repeat_interleave(length) + ragged_positions(length)
    packing = Packing(index, samples, longest)

    def per_token(values: Sequence[Tensor], fill: int) -> Tensor:
        rows = torch.cat(list(values)).repeat_interleave(length)
        return rows.new_full((samples * longest,), fill).index_copy(0, index, rows).view(samples, longest)

    layout = Layout(
        segment=per_token([stream.order for stream in streams], -1),
        # A target token opens a block of its own unless it is masked, which is learnt from both sides.
        block=per_token([(stream.target & ~stream.corrupt).long() for stream in streams], 0).cumsum(1),
        turn=per_token([stream.turn for stream in streams], 0),
        target=per_token([stream.target for stream in streams], 0),
        hidden=per_token([stream.hidden for stream in streams], 0),
    )
    kinds = [torch.full_like(stream.order, kind) for kind, stream in enumerate(streams)]
    return Interleaved(packing, layout, torch.cat(kinds).repeat_interleave(length))


def _starts(
    owner: Int[Tensor, "n"], order: Int[Tensor, "n"], length: Int[Tensor, "n"], samples: int
) -> tuple[Int[Tensor, "n"], int]:
    """The place at which each segment starts, and the length of the longest sample."""
    total = torch.zeros(samples, dtype=length.dtype, device=length.device).index_add(0, owner, length)
    longest = int(total.max()) if samples else 0
    rank = torch.argsort(owner * (order.max() + 1 if len(order) else 1) + order)
    before = torch.zeros_like(length)
    before[rank] = length[rank].cumsum(0) - length[rank]  # tokens before it in the ragged concatenation
    first = total.cumsum(0) - total
    return before - first[owner] + owner * longest, longest
