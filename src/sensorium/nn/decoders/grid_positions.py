"""Where words and the squares of pictures and clips among them stand: in time, rows and columns.

Legend: b sequences, t tokens of the longest, n segments of a kind, m of their tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ...core.errors import ConfigError
from ..layers.packing import ragged_positions
from .places import Positions, Sequences

_SECOND = 1_000_000_000  # nanoseconds


class GridPositions(Positions):
    """M-RoPE: words stand one further than what is before, on all axes; a segment begins there, and each of its tokens
    is as much further as it lies in time, rows and columns; what follows goes on behind the longer of rows and columns
    (Qwen2-VL, Wang et al. 2024, arXiv:2409.12191).

    Layouts are time, rows and columns of patches, of which ``merge`` x ``merge`` are one token. With a ``rate``, a
    second is that many places (Qwen2.5-VL, Bai et al. 2025, arXiv:2502.13923): a fourth number in a layout says how
    many nanoseconds a step of time is, one second if there is none. Raises ConfigError where layouts are not those of
    the tokens.
    """

    axes = 3

    def __init__(self, *, merge: int = 2, rate: int | None = None) -> None:
        if merge < 1 or (rate is not None and rate < 1):
            raise ConfigError(f"GridPositions: expected numbers of at least 1, found {merge} and {rate}")
        self.merge, self.rate = merge, rate

    def __call__(self, sequences: Sequences) -> Int[Tensor, "b t axes"]:
        media = sequences.media
        advance = sequences.real.long()  # how much further the next token stands
        behind = torch.zeros_like(media)  # how far the first of its segment stands behind that
        offsets = media.new_zeros(*media.shape, 3)
        for kind, (name, layout) in enumerate(sequences.layouts.items(), 1):
            held = media == kind
            if not bool(held.any()):
                continue
            if layout is None or layout.shape[1] < 3:
                raise ConfigError(f"{name} needs a layout of time, rows and columns of patches, found none")
            grid = self._in_sequences(name, layout, held.sum(1), sequences.owner)
            counts, extent = self._counts(grid), grid[:, 1:3].amax(1) // self.merge
            token = ragged_positions(counts)
            extent = extent.repeat_interleave(counts)
            advance[held] = torch.where(token == 0, extent, 0)
            behind[held] = torch.where(token == 0, 0, extent)
            offsets[held] = self._offsets(token, grid.repeat_interleave(counts, dim=0))
        start = advance.cumsum(1) - advance - behind
        return start[..., None] + offsets

    def _counts(self, grid: Int[Tensor, "n k"]) -> Int[Tensor, "n"]:
        return grid[:, :3].prod(1) // self.merge**2

    def _offsets(self, token: Int[Tensor, "m"], grid: Int[Tensor, "m k"]) -> Int[Tensor, "m 3"]:
        """How far each token is from the beginning of its segment."""
        rows, columns = grid[:, 1] // self.merge, grid[:, 2] // self.merge
        time = token // (rows * columns)
        if self.rate is not None:
            step = grid[:, 3] if grid.shape[1] > 3 else torch.full_like(time, _SECOND)
            time = time * self.rate * step // _SECOND
        return torch.stack([time, token // columns % rows, token % columns], dim=1)

    def _in_sequences(
        self, name: str, layout: Int[Tensor, "n k"], held: Int[Tensor, "b"], owner: Int[Tensor, "b"]
    ) -> Int[Tensor, "s k"]:
        """The layouts in the order of tokens: several sequences of one sample have its segments one after the other."""
        counts = self._counts(layout).tolist()
        starts: dict[int, int] = {}
        chosen: list[int] = []
        end = 0
        for sample, wanted in zip(owner.tolist(), held.tolist(), strict=True):
            segment = starts.setdefault(sample, end)
            while wanted > 0 and segment < len(counts):
                wanted -= counts[segment]
                chosen.append(segment)
                segment += 1
            if wanted:
                raise ConfigError(f"the tokens of {name} are not those of the layouts {layout.tolist()}")
            end = max(end, segment)
        return layout[torch.tensor(chosen, dtype=torch.long, device=layout.device)]
