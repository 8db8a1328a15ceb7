"""Rotary positions: queries and keys are turned, so that their products depend on how far apart they are.

Legend: b sequences, t tokens, h heads of queries, g heads of keys, e width of a head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError


class Rotary(nn.Module):
    """Turns the first ``turned`` channels of each head, in pairs, by angles that grow with the token's place (RoPE,
    Su et al. 2021, arXiv:2104.09864).

    A pair is one channel of each half (LLaMA) or two ``neighbours`` (GLM). Pair i of n turns by
    ``base ** (-i / n)`` radians per place. Where a place has several coordinates, each of its ``axes`` has an equal
    share of the pairs with the same angles (Qwen2-VL, arXiv:2409.12191). Angles are in single precision at
    least: that is what public models were trained with. Raises ConfigError where pairs cannot be shared equally.
    """

    def __init__(
        self, *, turned: int, base: float = 10_000.0, axes: int = 1, neighbours: bool = False
    ) -> None:
        super().__init__()
        if turned < 1 or axes < 1 or turned % (2 * axes):
            raise ConfigError(
                f"Rotary: expected turned channels that are pairs for each of {axes} axes, found {turned}"
            )
        self.turned, self.base, self.axes, self.neighbours = turned, base, axes, neighbours

    def forward(
        self,
        q_bhte: Float[Tensor, "b h t e"],
        k_bgte: Float[Tensor, "b g t e"],
        positions: Int[Tensor, "#b t *axes"],
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b g t e"]]:
        """Queries and keys that stand at the same ``positions``, whose last axis is the coordinate if ``axes`` > 1."""
        angles = self._angles(positions if self.axes > 1 else positions[..., None])[:, None]
        cos, sin = angles.cos().to(q_bhte.dtype), angles.sin().to(q_bhte.dtype)
        return self._turn(q_bhte, cos, sin), self._turn(k_bgte, cos, sin)

    def _angles(self, places: Int[Tensor, "#b t a"]) -> Float[Tensor, "#b t pairs"]:
        if places.shape[-1] != self.axes:
            raise ConfigError(f"Rotary: expected places of {self.axes} axes, found {list(places.shape)}")
        return (
            places[..., None].float() * frequencies(self.turned // self.axes, self.base, places.device)
        ).flatten(-2)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned, rest = x[..., : self.turned], x[..., self.turned :]
        if self.neighbours:
            first, second = turned.unflatten(-1, (-1, 2)).unbind(-1)
        else:
            first, second = turned.chunk(2, dim=-1)
        parts = first * cos - second * sin, second * cos + first * sin
        turned = torch.stack(parts, dim=-1).flatten(-2) if self.neighbours else torch.cat(parts, dim=-1)
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def frequencies(width: int, base: float, device: torch.device | None = None) -> Float[Tensor, "pairs"]:
    """Radians per place of each pair of ``width`` channels, single precision."""
    return 1.0 / base ** (torch.arange(0, width, 2, device=device).float() / width)


def grid_places(grid: tuple[int, ...], device: torch.device | None = None) -> Int[Tensor, "t a"]:
    """The coordinates of each place of a grid in row-major order."""
    axes = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    return torch.stack(axes, dim=-1).flatten(0, -2)
