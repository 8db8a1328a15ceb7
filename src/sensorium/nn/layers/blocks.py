"""How attention, feed-forward and norms are put together: four placements of the norms in the literature.

``norm`` and ``branch`` are Specs, built once for each place where one stands; ``branch`` (a LayerScale, say) changes
what is added to the stream. ``drop_path`` is how often that is left out, for whole sequences, in training.
"""

from __future__ import annotations

import abc
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from .attention import SelfAttention
from .cache import KVCache
from .drop_path import drop_path
from .feed_forward import MLP
from .masks import Mask
from .norms import LayerNorm
from .packing import Packing

Kind = Int[Tensor, "m"] | int


class Block(nn.Module, abc.ABC):
    """One layer of a transformer over packed rows. ``norms`` names the places of its norms."""

    norms: ClassVar[tuple[str, ...]]
    norm: nn.Module
    norm_attention: nn.Module
    norm_attended: nn.Module
    norm_feed_forward: nn.Module
    norm_fed: nn.Module

    def __init__(
        self,
        *,
        norm: Spec,
        attention: nn.Module,
        feed_forward: nn.Module,
        branch: Spec | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ConfigError(f"drop_path must be at least 0 and below 1, found {drop_path}")
        for place in self.norms:
            setattr(self, place, norm.build())
        self.attention, self.feed_forward = attention, feed_forward
        self.branch_attention = branch.build() if branch is not None else nn.Identity()
        self.branch_feed_forward = branch.build() if branch is not None else nn.Identity()
        self.rate = drop_path

    @abc.abstractmethod
    def forward(
        self,
        x: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        kind: Kind = 0,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "m d"]: ...

    def _added(self, branch: nn.Module, x: Float[Tensor, "m d"], packing: Packing) -> Float[Tensor, "m d"]:
        """What of a layer's result is added to the stream."""
        x = branch(x)
        return drop_path(x, packing, self.rate) if self.training and self.rate > 0 else x


class PreNorm(Block):
    """Each layer is normalised before and added to the stream: ViT, CLIP, GPT."""

    norms = ("norm_attention", "norm_feed_forward")

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        attended = self.attention(self.norm_attention(x), packing, mask, cache)
        x = x + self._added(self.branch_attention, attended, packing)
        fed = self.feed_forward(self.norm_feed_forward(x), kind)
        return x + self._added(self.branch_feed_forward, fed, packing)


class PostNorm(Block):
    """The stream is normalised after each layer was added (Vaswani et al. 2017, arXiv:1706.03762): BERT."""

    norms = ("norm_attention", "norm_feed_forward")

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        attended = self.attention(x, packing, mask, cache)
        x = self.norm_attention(x + self._added(self.branch_attention, attended, packing))
        fed = self.feed_forward(x, kind)
        return self.norm_feed_forward(x + self._added(self.branch_feed_forward, fed, packing))


class Sandwich(Block):
    """Each layer is normalised before and after, then added (CogView, Ding et al. 2021, arXiv:2105.13290): Gemma 3."""

    norms = ("norm_attention", "norm_attended", "norm_feed_forward", "norm_fed")

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        attended = self.norm_attended(self.attention(self.norm_attention(x), packing, mask, cache))
        x = x + self._added(self.branch_attention, attended, packing)
        fed = self.norm_fed(self.feed_forward(self.norm_feed_forward(x), kind))
        return x + self._added(self.branch_feed_forward, fed, packing)


class Parallel(Block):
    """Attention and feed-forward read the same normalised stream and are added together: GPT-J, PaLM, Cohere."""

    norms = ("norm",)

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        normed = self.norm(x)
        attended = self._added(self.branch_attention, self.attention(normed, packing, mask, cache), packing)
        return x + attended + self._added(self.branch_feed_forward, self.feed_forward(normed, kind), packing)


def block(
    *,
    width: int,
    heads: int,
    hidden: int,
    activation: str = "gelu",
    eps: float = 1e-5,
    biases: str = "qkvo",
    placement: type[Block] = PreNorm,
    branch: Spec | None = None,
    relative: Spec | None = None,
    dropout: float = 0.0,
) -> Spec:
    """The Spec of the usual block: LayerNorm, multi-head self-attention, a plain feed-forward of ``hidden``.

    ``dropout`` is that of the weights of attention.
    """
    return Spec(
        placement,
        norm=Spec(LayerNorm, width=width, eps=eps),
        attention=Spec(
            SelfAttention, width=width, heads=heads, biases=biases, relative=relative, dropout=dropout
        ),
        feed_forward=Spec(MLP, width=width, hidden=hidden, activation=activation),
        branch=branch,
    )
