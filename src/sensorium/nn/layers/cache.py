"""Keys and values of the tokens already processed, so that decoding computes only the new one.

Legend: b sequences, g heads of keys and values, t new tokens, s tokens held, e width of a head.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

_STEP = 64


class KVCache:
    """One attention layer's past, in memory that is taken ahead of need: for ``room`` tokens at first.

    Every sequence is filled from the left, each to a length of its own; what lies beyond it is written over. Without
    ``keeps``, all tokens come at once, and none is kept: training, where a layer is told something through its cache.
    """

    def __init__(self, room: int = 0, *, keeps: bool = True) -> None:
        self.room, self.keeps, self.length = room, keeps, 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def extend(
        self,
        keys: Float[Tensor, "b g t e"],
        values: Float[Tensor, "b g t e"],
        places: Int[Tensor, "b t"] | None = None,
        reach: int = 0,
    ) -> tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]]:
        """Put new keys and values behind what is held, or at ``places`` below ``reach``; returns all of them."""
        if not self.keeps:
            return keys, values
        start = self.length
        self.length = start + keys.shape[2] if places is None else max(start, reach)
        held = self._held(keys), self._held(values, keys=False)
        for whole, new in zip(held, (keys, values), strict=True):
            if places is None:
                whole[:, :, start : self.length] = new
            else:
                whole.scatter_(2, places[:, None, :, None].expand_as(new), new)
        return held[0][:, :, : self.length], held[1][:, :, : self.length]

    def select(self, rows: Int[Tensor, "k"]) -> None:
        """Keep, repeat or reorder sequences."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows], self._values[rows]

    def cut(self, length: int) -> None:
        """Forget what lies beyond the first ``length`` tokens."""
        self.length = min(self.length, length)

    def _held(self, like: Float[Tensor, "b g t e"], keys: bool = True) -> Tensor:
        held = self._keys if keys else self._values
        if held is None or held.shape[2] < self.length:
            size = max(self.room, 2 * self.length if held is not None else self.length)
            grown = like.new_zeros(*like.shape[:2], -(-size // _STEP) * _STEP, like.shape[3])
            if held is not None:
                grown[:, :, : held.shape[2]] = held
            held = grown
            if keys:
                self._keys = held
            else:
                self._values = held
        return held
