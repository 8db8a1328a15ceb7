"""One trunk for every modality: alone first, then together.

The lower blocks read each segment alone, which gives embeddings that can be compared; the upper blocks read
all segments of a sample interleaved, bidirectional over context and causal over targets, which gives
captions, answers and reconstructions. One pass serves every objective (the split follows CoCa, Yu et al. 2022,
arXiv:2205.01917; the shared trunk follows BEiT-3, Wang et al. 2022, arXiv:2208.10442).

Legend: b samples, n segments of one modality, t tokens of the longest, m real tokens in all, d width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import ConfigError
from ...core.outputs import Embedding, Outputs, PatchPrediction, Restoration, TokenPrediction
from ..encoders.encoded import Encoded, Encoder
from ..encoders.grid import GridEncoder
from ..encoders.stems import assembled
from ..encoders.tokens import TokenEncoder
from ..encoders.tower import Features
from ..heads.contrastive import ContrastiveHead
from ..heads.language import LanguageHead
from ..heads.patches import PatchHead
from ..layers.cache import KVCache
from ..layers.masks import Layout, causal, everything, interleaved, padding
from ..layers.packing import Packing, dense, packing, ragged_positions
from ..layers.transformer import Transformer
from .interleave import interleave
from .network import Network


@dataclass(frozen=True)
class Read:
    """One modality after the lower blocks: the features of its real tokens, one segment after the other."""

    stream: Stream
    encoded: Encoded
    packing: Packing
    rows: Float[Tensor, "m d"]


class Unified(Network):
    """Encoders into one shared trunk, with contrastive, language and patch heads.

    ``alone`` blocks of the trunk read each segment by itself, the others read the interleaved sample.
    ``language`` names the encoder whose tokens the language head predicts. ``ordinals`` is how many segments
    of one modality within a turn can be told apart. Raises ConfigError where the parts do not fit.
    """

    def __init__(
        self,
        *,
        encoders: dict[str, Encoder],
        trunk: Transformer,
        alone: int,
        embedding: int,
        language: str,
        ordinals: int = 64,
    ) -> None:
        super().__init__()
        if not 0 < alone < trunk.depth:
            raise ConfigError(
                f"alone must lie between 1 and {trunk.depth - 1} (trunk.depth - 1), found {alone}"
            )
        if not isinstance(encoders.get(language), TokenEncoder):
            raise ConfigError(
                f"language names {language!r}, which is no token encoder among {sorted(encoders)}"
            )
        for name, encoder in encoders.items():
            if encoder.width != trunk.width:
                raise ConfigError(f"the {name} encoder has width {encoder.width}, the trunk {trunk.width}")
        self.encoders = nn.ModuleDict(encoders)
        self.trunk, self.alone = trunk, alone
        self.language: str = language
        self.kinds = {name: index for index, name in enumerate(encoders)}
        self.ordinal = nn.Embedding(ordinals, trunk.width)
        nn.init.zeros_(self.ordinal.weight)
        self.contrastive_head = ContrastiveHead(width=trunk.width, embedding=embedding, names=list(encoders))
        self.language_head = LanguageHead(width=trunk.width)
        self.patch_heads = nn.ModuleDict(
            {
                name: PatchHead(width=trunk.width, patch_width=encoder.patch_width)
                for name, encoder in encoders.items()
                if encoder.patch_width is not None
            }
        )

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature."""
        return self.contrastive_head.scale

    @property
    def _words(self) -> TokenEncoder:
        """The encoder whose tokens are written."""
        return cast(TokenEncoder, self.encoders[self.language])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """Everything the batch has data for; a part without data runs on no rows, so that all ranks agree.

        ``embed_only`` stops after the lower blocks: embeddings without captions or reconstructions.
        """
        reads = {name: self._alone(name, batch.streams[name]) for name in self.encoders}
        embeddings = {name: self._embedding(name, read) for name, read in reads.items()}
        if embed_only:
            return Outputs(embeddings=embeddings, scale=self.scale)
        rows, _ = self._together(reads, len(batch))
        return Outputs(
            embeddings=embeddings,
            scale=self.scale,
            language=self._next_tokens(reads[self.language], rows[self.language]),
            masked_tokens={self.language: self._masked_tokens(reads[self.language], rows[self.language])},
            masked_patches={
                name: self._masked_patches(name, reads[name], rows[name]) for name in self.patch_heads
            },
        )

    def read(self, name: str, stream: Stream) -> Features:
        """Token features after the lower blocks, and the embedding, of all segments of one modality."""
        read = self._alone(name, stream)
        lengths = read.encoded.lengths
        return Features(read.rows, lengths, self.contrastive_head(name, read.rows, lengths))

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n e"]:
        """Unit-length vectors of all segments of one modality."""
        return self.read(name, stream).pooled

    def restore(self, name: str, batch: Batch) -> Restoration:
        encoder = dict(self.encoders.items()).get(name)
        if not isinstance(encoder, GridEncoder):
            return super().restore(name, batch)
        stream = batch.streams[name]
        stream = replace(stream, corrupt=torch.ones_like(stream.corrupt))
        reads = {
            other: self._alone(other, stream if other == name else batch.streams[other])
            for other in self.encoders
        }
        rows, _ = self._together(reads, len(batch))
        masked, truth = reads[name].encoded.masked, reads[name].encoded.truth
        found = self._masked_patches(name, reads[name], rows[name]).values
        patch, sizes = encoder.patch, stream.values.shape[1:-1]
        grid = [-(-size // p) for size, p in zip(sizes, patch, strict=True)]
        hidden = masked[..., None].expand(*masked.shape, math.prod(patch))
        whole = (slice(None), *map(slice, sizes))
        return Restoration(
            stream.values,
            assembled(hidden, grid, patch)[whole][..., 0],
            assembled(truth.masked_scatter(masked[..., None], found.to(truth.dtype)), grid, patch)[whole],
        )

    def _alone(self, name: str, stream: Stream) -> Read:
        """One modality through its encoder and the lower blocks."""
        encoder = self.encoders[name]
        encoded = encoder(stream.values, stream.lengths, stream.corrupt, stream.seed)
        real = torch.arange(encoded.tokens.shape[1], device=encoded.lengths.device) < encoded.lengths[:, None]
        place = packing(real)
        mask = causal() if encoder.causal else padding(real)
        rows = self.trunk(place.pack(encoded.tokens), place, mask, kind=self.kinds[name], stop=self.alone)
        return Read(stream, encoded, place, rows)

    def begin(
        self,
        batch: Batch,
        segment: Int[Tensor, "b"],
        turn: Int[Tensor, "b"],
        ordinal: Int[Tensor, "b"],
        ids: Int[Tensor, "b"],
    ) -> SegmentWriting:
        """Read a batch of context and begin a segment in each sample: as ``segment`` of turn ``turn``, the so-many-th
        (``ordinal``) of its modality there, with ``ids`` as first tokens.
        """
        reads = {name: self._alone(name, batch.streams[name]) for name in self.encoders}
        together = self.trunk.caches()
        _, layout = self._together(reads, len(batch), together)
        state = SegmentWriting(self, layout, segment, turn, ordinal, together)
        state.extend(ids)
        state.history = ids[:, None].tolist()
        return state

    def _continue(self, state: SegmentWriting, ids: Int[Tensor, "b"]) -> Float[Tensor, "b v"]:
        """Logits of the tokens that follow ``ids``, the newest tokens of the segments being written."""
        kind, place = self.kinds[self.language], dense(len(ids), 1)
        x = self._words.embed(ids[:, None], start=state.length).flatten(0, 1)
        x = self.trunk(x, place, everything(), kind=kind, stop=self.alone, caches=state.alone)
        query = state.grow()
        mask = interleaved(query, state.layout)
        x = x + self.ordinal(state.ordinal)
        x = self.trunk(x, place, mask, kind=kind, start=self.alone, caches=state.together)
        return self._logits(x)

    def _together(
        self, reads: Mapping[str, Read], samples: int, caches: Sequence[KVCache] | None = None
    ) -> tuple[dict[str, Float[Tensor, "m d"]], Layout]:
        """The upper blocks over whole samples: the rows of each modality, and the layout."""
        lengths = [read.encoded.lengths for read in reads.values()]
        whole = interleave([read.stream for read in reads.values()], lengths, samples)
        ordinals = torch.cat([read.stream.ordinal for read in reads.values()]).repeat_interleave(
            torch.cat(lengths)
        )
        x = torch.cat([read.rows for read in reads.values()]) + self.ordinal(ordinals)
        mask = interleaved(whole.layout, whole.layout)
        x = self.trunk(x, whole.packing, mask, kind=whole.kind, start=self.alone, caches=caches)
        parts = x.split([len(read.rows) for read in reads.values()])
        return dict(zip(reads, parts, strict=True)), whole.layout

    def _embedding(self, name: str, read: Read) -> Embedding:
        chosen = read.stream.content & ~read.stream.corrupt
        lengths = read.encoded.lengths
        rows = read.rows[chosen.repeat_interleave(lengths)]
        return Embedding(self.contrastive_head(name, rows, lengths[chosen]), read.stream.owner[chosen])

    def _logits(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m v"]:
        return self.language_head(features, self._words.embedding.weight)

    def _next_tokens(self, read: Read, rows: Float[Tensor, "m d"]) -> TokenPrediction:
        """Every token of a target but the first is predicted from the one before."""
        lengths = read.encoded.lengths
        learnt = (read.stream.target & ~read.stream.corrupt).repeat_interleave(lengths)
        position = ragged_positions(lengths)
        before = (learnt & (position < (lengths - 1).repeat_interleave(lengths))).nonzero()[:, 0]
        ids = read.packing.pack(read.encoded.truth)[before + 1]
        owner = read.stream.owner.repeat_interleave(lengths)[before]
        return TokenPrediction(
            self._logits(rows[before]), ids, owner, torch.ones_like(owner, dtype=rows.dtype)
        )

    def _masked_tokens(self, read: Read, rows: Float[Tensor, "m d"]) -> TokenPrediction:
        masked = read.packing.pack(read.encoded.masked)
        owner = read.stream.owner.repeat_interleave(read.encoded.lengths)[masked]
        ids = read.packing.pack(read.encoded.truth)[masked]
        return TokenPrediction(self._logits(rows[masked]), ids, owner, _share(read.encoded.masked))

    def _masked_patches(self, name: str, read: Read, rows: Float[Tensor, "m d"]) -> PatchPrediction:
        masked = read.packing.pack(read.encoded.masked)
        truth = read.packing.pack(read.encoded.truth)[masked]
        return PatchPrediction(self.patch_heads[name](rows[masked]), truth, _share(read.encoded.masked))


class SegmentWriting:
    """The state of generation: a segment that is being written in each sample, over the caches of what was read.

    ``logits`` are those of the next token. ``history`` holds the ids with which each segment was begun.
    """

    def __init__(
        self,
        network: Unified,
        layout: Layout,
        segment: Int[Tensor, "b"],
        turn: Int[Tensor, "b"],
        ordinal: Int[Tensor, "b"],
        together: list[KVCache],
    ) -> None:
        self.logits: Float[Tensor, "b v"] = torch.empty(len(segment), 0)
        self.history: list[list[int]] = []
        self.layout, self.ordinal = layout, ordinal
        self.alone, self.together = network.trunk.caches(), together
        self.length = 0
        self._network, self._segment, self._turn = network, segment, turn

    def extend(self, ids: Int[Tensor, "b"]) -> None:
        """Append one token to each segment."""
        self.logits = self._network._continue(self, ids)

    def select(self, rows: Int[Tensor, "k"]) -> None:
        """Keep, repeat or reorder samples."""
        self.logits, self.ordinal = self.logits[rows], self.ordinal[rows]
        self._segment, self._turn = self._segment[rows], self._turn[rows]
        self.history = [self.history[row] for row in rows.tolist()]
        self.layout = Layout(**{name: value[rows] for name, value in vars(self.layout).items()})
        for cache in (*self.alone, *self.together):
            cache.select(rows)

    def grow(self) -> Layout:
        """Place one token more; returns its own layout."""
        new = torch.ones_like(self._segment, dtype=torch.bool)[:, None]
        last = self.layout.block.max(1, keepdim=True).values
        query = Layout(self._segment[:, None], last + 1, self._turn[:, None], new, ~new)
        self.layout = self.layout.append(query)
        self.length += 1
        return query


def _share(masked: Bool[Tensor, "n t"]) -> Float[Tensor, "m"]:
    """Equal weights that sum to one over the masked positions of each segment."""
    return (1.0 / masked.sum(1).clamp(min=1))[:, None].expand(masked.shape)[masked]
