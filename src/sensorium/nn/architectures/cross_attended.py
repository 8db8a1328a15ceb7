"""A language model whose words look at other media through layers of their own: media are not put among the words.

Flamingo (Alayrac et al. 2022, arXiv:2204.14198); IDEFICS (Laurençon et al. 2023, arXiv:2306.16527).

Legend: b sequences, t tokens of the longest, s rows of media of the longest, m packed rows, d width, c that of media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import ConfigError, DataError
from ..connectors.connector import Connector, Rows
from ..decoders.language_model import LanguageModel
from ..decoders.places import Sequences, apart
from ..decoders.writing import Writing
from ..encoders.tower import Tower
from ..layers.cache import KVCache
from ..layers.gated_cross import CrossedBlock, Crossing, Sight
from ..layers.masks import causal
from ..layers.packing import packing, ragged_positions
from .multimodal_lm import MultimodalLM, Spliced
from .same import Same


@dataclass(frozen=True)
class Accompanied(Spliced):
    """Words, and beside them the rows of the media of each sequence in the order of their places, padded, with the
    ``number`` of the medium that each is of, from 0; -1 for padding.
    """

    media: Float[Tensor, "b s c"]
    number: Int[Tensor, "b s"]


class CrossAttended(MultimodalLM):
    """``decoder`` has a ``CrossedBlock`` here and there, whose words look at rows of media. For each medium of another
    modality than words, one token holds its place: that in ``placeholders``.

    A word looks at the last ``reach`` media at or before it, or with None at all of them; none sees media before the
    last token ``end``, which ends a document. Words that see none are left as they are. Raises ConfigError for parts
    that do not fit.
    """

    def __init__(
        self,
        *,
        language: str,
        decoder: LanguageModel,
        towers: Mapping[str, Tower | Same] | None = None,
        connectors: Mapping[str, Connector | Same] | None = None,
        placeholders: Mapping[str, int] | None = None,
        reach: int | None = 1,
        end: int | None = None,
    ) -> None:
        super().__init__(
            language=language,
            decoder=decoder,
            towers=towers,
            connectors=connectors,
            placeholders=placeholders,
        )
        if len(set(self.placeholders.values())) < len(self.placeholders):
            raise ConfigError(f"two modalities have the same placeholder: {self.placeholders}")
        if reach is not None and reach < 1:
            raise ConfigError(f"words must look at the last medium at least, found a reach of {reach}")
        self.reach, self.end = reach, end
        self.media_width = self._media_width(decoder)

    def splice(self, batch: Batch, media: Mapping[str, Rows]) -> Accompanied:
        """The words of a batch, and their ``media``. Raises DataError naming the sample that holds more or fewer places
        than there are media.
        """
        known = self._sequences(batch)
        if known.branch is not None:
            _, known = apart(known)
        rows = self.decoder.embedding(known.ids[known.real])
        shown = self._shown(known, batch, media)
        numbers = [
            torch.arange(len(one), device=rows.device).repeat_interleave(
                torch.tensor([len(part) for part in one], dtype=torch.long, device=rows.device)
            )
            for one in shown
        ]
        longest = max(map(len, numbers))
        # Also without any media, all that makes them has a gradient.
        none = [rows.new_zeros(0, self.media_width), *(one.rows[:0] for one in media.values())]
        whole = [torch.cat([*none, *one]).to(rows.dtype) for one in shown]
        return Accompanied(
            rows,
            packing(known.real),
            known,
            torch.stack([F.pad(one, (0, 0, 0, longest - len(one))) for one in whole]),
            torch.stack([F.pad(one, (0, longest - len(one)), value=-1) for one in numbers]),
        )

    def features(self, found: Spliced) -> Float[Tensor, "m d"]:
        """What the decoder makes of whole sequences, without a cache."""
        places = ragged_positions(found.sequences.lengths)
        return self.decoder(found.rows, found.packing, causal(), places, self._caches(found, None))

    def begin(
        self,
        batch: Batch,
        room: int = 0,
        media: Mapping[str, Rows] | None = None,
        past: Writing | None = None,
    ) -> Writing:
        """Read a batch of prompts; ``room`` is how many tokens may follow, which see what the last of a prompt saw.

        ``media`` are rows that are known already. Of ``past`` nothing is used again.
        """
        return super().begin(batch, room, media)

    def _media_width(self, decoder: LanguageModel) -> int:
        crossed = [block for block in decoder.trunk.blocks if isinstance(block, CrossedBlock)]
        if not crossed:
            raise ConfigError("no block of this language model looks at other rows: it needs a CrossedBlock")
        return crossed[0].cross.attention.kv.weight.shape[1]

    def _caches(self, found: Spliced, room: int | None) -> Sequence[KVCache]:
        """One for each block; with None for ``room``, nothing is to follow and nothing is kept."""
        assert isinstance(found, Accompanied)
        known = found.sequences
        sight, after, size = Sight(self._allowed(found)), None, 0
        if room is not None:
            last = sight.allowed[torch.arange(len(known.lengths)), known.lengths - 1]
            after, size = Sight(last[:, None]), found.packing.length + room
        return [
            Crossing(block.cross.read(found.media), sight, after, room=size)
            if isinstance(block, CrossedBlock)
            else KVCache(size, keeps=room is not None)
            for block in self.decoder.trunk.blocks
        ]

    def _allowed(self, found: Accompanied) -> Bool[Tensor, "b t s"]:
        """Which rows of media each word sees."""
        known = found.sequences
        until = (known.media > 0).cumsum(1)
        since = torch.zeros_like(until)
        if self.end is not None:
            ended = torch.where(known.ids == self.end, until, 0).cummax(1).values
            since = F.pad(ended[:, :-1], (1, 0))
        if self.reach is not None:
            since = torch.maximum(since, until - self.reach)
        number = found.number[:, None]
        return (number >= since[..., None]) & (number < until[..., None])

    def _shown(
        self, known: Sequences, batch: Batch, media: Mapping[str, Rows]
    ) -> list[list[Float[Tensor, "k c"]]]:
        """Of each sequence, the rows of each medium, in the order of their places."""
        segments = {name: media[name].rows.split(media[name].lengths.tolist()) for name in self.placeholders}
        owners = {name: batch.streams[name].owner.tolist() for name in self.placeholders}
        found = []
        for owner, kinds in zip(known.owner.tolist(), known.media.tolist(), strict=True):
            held = {}
            for kind, (name, token) in enumerate(self.placeholders.items(), 1):
                mine = [part for part, one in zip(segments[name], owners[name], strict=True) if one == owner]
                if len(mine) != (wanted := kinds.count(kind)):
                    raise DataError(
                        f"its words hold {wanted} places for {name} (token {token}), found {len(mine)}",
                        key=batch.keys[owner],
                    )
                held[kind] = iter(mine)
            found.append([next(held[kind]) for kind in kinds if kind])
        return found
