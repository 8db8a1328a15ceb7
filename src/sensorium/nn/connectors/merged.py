"""Neighbouring tokens of segments that each have a grid of their own, as one token."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..encoders.tower import Features
from ..layers.packing import ragged_positions
from .connector import Connector, Rows


class Merged(Connector):
    """``norm`` of each token, squares of ``factor`` times ``factor`` tokens side by side, then ``projector`` (Qwen2-VL,
    Wang et al. 2024, arXiv:2409.12191; Qwen2.5-VL, Bai et al. 2025, arXiv:2502.13923).

    The layout of a segment is its rows and columns of tokens, after its frames if it has any. Tokens come row by row;
    with ``together``, those of a square follow one another already, and no layout is needed. Raises ConfigError where
    a layout is not that of the tokens, or does not consist of whole squares.
    """

    def __init__(self, *, factor: int, norm: nn.Module, projector: Connector, together: bool = False) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"a factor must be at least 1, found {factor}")
        self.factor, self.norm, self.projector, self.together = factor, norm, projector, together
        self.width = projector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        square = self.factor**2
        if self.together and bool((features.lengths % square).any()):
            raise ConfigError(f"{square} tokens become one, found segments of {features.lengths.tolist()}")
        x = self.norm(features.rows)
        if not self.together:
            x = x[self._squares(features.lengths, layout)]
        merged = x.unflatten(0, (-1, square)).flatten(1)
        return self.projector(replace(features, rows=merged, lengths=features.lengths // square), layout)

    def _squares(self, lengths: Int[Tensor, "n"], layout: Int[Tensor, "n k"] | None) -> Int[Tensor, "m"]:
        """Where the tokens stand, square by square. Frames need no thought: they are more rows."""
        side = self.factor
        if layout is None and not len(lengths):
            layout = lengths.new_zeros(0, 2)
        if layout is None or layout.shape[1] < 2:
            raise ConfigError("these segments need a layout of rows and columns of tokens, found none")
        if bool((layout.prod(1) != lengths).any() or (layout[:, -2:] % side).any()):
            raise ConfigError(
                f"rows and columns must be multiples of {side} and their product the number of tokens, "
                f"found the layouts {layout.tolist()} of {lengths.tolist()} tokens"
            )
        columns = layout[:, -1].repeat_interleave(lengths)
        start = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        token = ragged_positions(lengths)
        square, within = token // side**2, token % side**2
        row = square // (columns // side) * side + within // side
        column = square % (columns // side) * side + within % side
        return start + row * columns + column
