"""Rotary positions: queries and keys are turned, so that their products depend on how far apart they are.

Legend: b sequences, t tokens, h heads of queries, g heads of keys, e width of a head.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from .rotary_scaling import Scaling, frequencies
from .rotary_sections import Sections


class Turns(NamedTuple):
    """The cosines and sines of the angles by which the pairs of channels of each token turn."""

    cos: Float[Tensor, "#b 1 t pairs"]
    sin: Float[Tensor, "#b 1 t pairs"]


class Rotary(nn.Module):
    """Turns the first ``turned`` channels of each head, in pairs, by angles that grow with the token's place (RoPE,
    Su et al. 2021, arXiv:2104.09864).

    A pair is one channel of each half (LLaMA) or two ``neighbours`` (GLM). Pair i of n turns by ``base ** (-i / n)``
    radians per place, or as ``scaling`` says. Where a place has several coordinates, each of its ``axes`` has an equal
    share of the pairs with the same frequencies (the towers of Qwen2-VL, arXiv:2409.12191), or ``sections`` say which
    pairs are whose (its language model). Angles are in single precision at least: that is what public models were
    trained with. Raises ConfigError where pairs cannot be shared so.
    """

    def __init__(
        self,
        *,
        turned: int,
        base: float = 10_000.0,
        axes: int = 1,
        neighbours: bool = False,
        scaling: Scaling | None = None,
        sections: Sections | None = None,
    ) -> None:
        super().__init__()
        if turned < 1 or axes < 1 or turned % (2 * axes):
            raise ConfigError(
                f"Rotary: expected turned channels that are pairs for each of {axes} axes, found {turned}"
            )
        if sections is not None and (axes != 1 or 2 * sum(sections.sizes) != turned):
            raise ConfigError(
                f"Rotary: expected axes of 1 and sections of {turned // 2} pairs in all, found {axes} and "
                f"{list(sections.sizes)}"
            )
        if scaling is not None:
            scaling.check(turned // axes)
        self.turned, self.base, self.neighbours = turned, base, neighbours
        self.scaling, self.sections = scaling, sections
        self.axes = axes if sections is None else len(sections.sizes)

    @property
    def key(self) -> Hashable:
        """Equal for two that make the same ``turns``."""
        return self.turned, self.base, self.axes, self.scaling, self.sections

    def forward(
        self,
        q_bhte: Float[Tensor, "b h t e"],
        k_bgte: Float[Tensor, "b g t e"],
        positions: Int[Tensor, "#b t *axes"],
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b g t e"]]:
        """Queries and keys that stand at the same ``positions``: see ``turns``."""
        return self.turn(q_bhte, k_bgte, self.turns(positions, q_bhte.dtype))

    @property
    def by_length(self) -> bool:
        """Whether angles depend on how long a sequence is."""
        return self.scaling is not None and self.scaling.by_length

    def turns(
        self,
        positions: Int[Tensor, "#b t *axes"],
        dtype: torch.dtype,
        lengths: Int[Tensor, "#b #t"] | None = None,
    ) -> Turns:
        """What layers that are alike share: cosines and sines of places, whose last axis is the coordinate if there are
        several. With ``sections``, a place of one number has it on all axes. ``lengths`` are those of the sequence that
        each token is of; by default, one more than the largest place of its row.
        """
        angles = self._angles(self._places(positions), lengths)[:, None]
        factor = 1.0 if self.scaling is None else self.scaling.attention_factor
        return Turns((angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype))

    def turn(
        self, q_bhte: Float[Tensor, "b h t e"], k_bgte: Float[Tensor, "b g t e"], turns: Turns
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b g t e"]]:
        """Queries and keys, turned."""
        return self._turn(q_bhte, *turns), self._turn(k_bgte, *turns)

    def _places(self, positions: Int[Tensor, "#b t *axes"]) -> Int[Tensor, "#b t a"]:
        if positions.ndim == 2 and (self.axes == 1 or self.sections is not None):
            return positions[..., None].expand(*positions.shape, self.axes)
        if positions.ndim != 3 or positions.shape[-1] != self.axes:
            raise ConfigError(f"Rotary: expected places of {self.axes} axes, found {list(positions.shape)}")
        return positions

    def _angles(
        self, places: Int[Tensor, "#b t a"], lengths: Int[Tensor, "#b #t"] | None
    ) -> Float[Tensor, "#b t pairs"]:
        if self.sections is not None:
            return places[..., self.sections.axes()].float() * self._rates(places, lengths, self.turned)
        rates = self._rates(places, lengths, self.turned // self.axes)
        return (places[..., None].float() * rates[:, :, None]).flatten(-2)

    def _rates(
        self, places: Int[Tensor, "#b t a"], lengths: Int[Tensor, "#b #t"] | None, width: int
    ) -> Float[Tensor, "#b #t pairs"]:
        if self.scaling is None:
            return frequencies(width, self.base, places.device)[None, None]
        if lengths is None:
            lengths = places.amax((1, 2))[:, None] + 1 if places.numel() else places.new_ones(len(places), 1)
        rates = self.scaling.frequencies(width, self.base, lengths.flatten())
        return rates.unflatten(0, lengths.shape) if self.by_length else rates[None]

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned, rest = x[..., : self.turned], x[..., self.turned :]
        if self.neighbours:
            first, second = turned.unflatten(-1, (-1, 2)).unbind(-1)
        else:
            first, second = turned.chunk(2, dim=-1)
        parts = first * cos - second * sin, second * cos + first * sin
        turned = torch.stack(parts, dim=-1).flatten(-2) if self.neighbours else torch.cat(parts, dim=-1)
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def grid_places(grid: tuple[int, ...], device: torch.device | None = None) -> Int[Tensor, "t a"]:
    """The coordinates of each place of a grid in row-major order."""
    axes = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    return torch.stack(axes, dim=-1).flatten(0, -2)
