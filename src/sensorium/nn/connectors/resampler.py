"""A fixed number of rows from any number of tokens: learned latents that look at them.

Legend: n segments, m tokens in all, s tokens of the longest, l latents, d width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from ..encoders.tower import Features
from ..layers.attention import CrossAttention
from ..layers.feed_forward import MLP
from ..layers.masks import Mask, padding
from ..layers.norms import LayerNorm
from ..layers.packing import packing, real_places
from .connector import Connector, Rows


class ResamplerBlock(nn.Module):
    """Latents look at the context and at one another, then through a feed-forward. ``norm`` is built thrice."""

    def __init__(self, *, norm: Spec, attention: CrossAttention, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm_context, self.norm_latents, self.norm_feed_forward = (norm.build() for _ in range(3))
        self.attention, self.feed_forward = attention, feed_forward

    def forward(
        self, x: Float[Tensor, "n l d"], context: Float[Tensor, "n s d"], mask: Mask
    ) -> Float[Tensor, "n l d"]:
        latents = self.norm_latents(x)
        x = x + self.attention(latents, torch.cat([self.norm_context(context), latents], dim=1), mask)
        return x + self.feed_forward(self.norm_feed_forward(x))


class Resampler(Connector):
    """The perceiver resampler of Flamingo (Alayrac et al. 2022, arXiv:2204.14198), also that of IDEFICS (Laurençon et
    al. 2023, arXiv:2306.16527): ``latents`` rows for every segment, after ``depth`` blocks made from one Spec.

    ``width`` is that of the tokens and latents; ``projector``, if any, changes it at the end. Raises ConfigError for
    no latents.
    """

    def __init__(
        self,
        *,
        width: int,
        latents: int,
        depth: int,
        block: Spec,
        norm_out: nn.Module,
        projector: Connector | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or depth < 1:
            raise ConfigError(f"a resampler needs latents and a depth, found {latents} and {depth}")
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.blocks = nn.ModuleList(block.build() for _ in range(depth))
        self.norm_out, self.projector = norm_out, projector
        self.width = width if projector is None else projector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        lengths, many = features.lengths, len(self.latents)
        real = real_places(lengths, int(lengths.max()) if len(lengths) else 0)
        context = packing(real).pad(features.rows)
        mask = padding(torch.cat([real, real.new_ones(len(real), many)], dim=1), queries=many)
        x = self.latents.expand(len(lengths), -1, -1)
        for block in self.blocks:
            x = block(x, context, mask)
        found = Rows(self.norm_out(x).flatten(0, 1), torch.full_like(lengths, many))
        if self.projector is None:
            return found
        return self.projector(replace(features, rows=found.rows, lengths=found.lengths), layout)


def resampler_block(
    *,
    width: int,
    heads: int,
    head_width: int | None = None,
    hidden: int | None = None,
    activation: str = "gelu",
    eps: float = 1e-5,
    norm_heads: bool = False,
) -> Spec:
    """The Spec of the usual block: LayerNorm, no biases, and a feed-forward of ``hidden``, by default four times the
    ``width``. ``norm_heads`` normalises the queries and keys of each head.
    """
    each = Spec(LayerNorm, width=width // heads if head_width is None else head_width, eps=eps)
    return Spec(
        ResamplerBlock,
        norm=Spec(LayerNorm, width=width, eps=eps),
        attention=Spec(
            CrossAttention,
            width=width,
            context_width=width,
            heads=heads,
            head_width=head_width,
            biases="",
            norm_query=each if norm_heads else None,
            norm_key=each if norm_heads else None,
        ),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=4 * width if hidden is None else hidden,
            activation=activation,
            bias=False,
        ),
    )
