"""A language model that reads other media among its words: the decoder-only multimodal LLM.

A tower reads each medium, a connector brings its features to the width of the language model, and they are put where
the words hold places for them (LLaVA, Liu et al. 2023, arXiv:2304.08485; kin: PaLI-Gemma, InternVL, Qwen-VL).

Legend: b sequences, t tokens of the longest, m real tokens in all, n segments of a modality, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import CapabilityError, ConfigError, DataError
from ...core.outputs import Outputs, Preference, Routes, WordPrediction
from ..connectors.connector import Connector, Rows
from ..decoders.language_model import LanguageModel
from ..decoders.places import Positions, Sequences, Visibility, apart, before, branch_places, branching
from ..decoders.writing import Writing
from ..encoders.tower import Features, Tower
from ..layers.cache import KVCache
from ..layers.experts import routes
from ..layers.masks import Mask, causal, sequences
from ..layers.packing import Packing, dense, packing, ragged_positions
from .network import Network
from .same import Held, Same

#: How much more padding than tokens makes it worth to look at each sequence by itself.
_RAGGED = 1.25


@dataclass(frozen=True)
class Spliced:
    """Words with all media in their places: packed rows, and what is known of each sequence."""

    rows: Float[Tensor, "m d"]
    packing: Packing
    sequences: Sequences


class MultimodalLM(Network):
    """``decoder`` reads and writes the words of the modality ``language``. Every other modality has a tower, a
    connector, and in ``placeholders`` the id of the token that holds the place of each of its rows. A part may be that
    of another modality, ``Same``; with one id for several, places are taken in the order of the sample's segments.

    ``visibility`` says who sees whom (by default every token all before it), ``positions`` where tokens stand (by
    default they are counted). Without towers it is a language model. Raises ConfigError for parts that do not fit.
    """

    language: str

    def __init__(
        self,
        *,
        language: str,
        decoder: LanguageModel,
        towers: Mapping[str, Tower | Same] | None = None,
        connectors: Mapping[str, Connector | Same] | None = None,
        placeholders: Mapping[str, int] | None = None,
        visibility: Visibility | None = None,
        positions: Positions | None = None,
    ) -> None:
        super().__init__()
        towers, connectors, placeholders = towers or {}, connectors or {}, placeholders or {}
        if not towers.keys() == connectors.keys() == placeholders.keys():
            raise ConfigError(
                "each tower needs a connector and a placeholder: found towers "
                f"{sorted(towers)}, connectors {sorted(connectors)}, placeholders {sorted(placeholders)}"
            )
        wanted = self._media_width(decoder)
        read, joined = Held(towers), Held(connectors)
        for name, connector in joined.own.items():
            if connector.width != wanted:
                raise ConfigError(
                    f"the {name} connector gives rows of width {connector.width}, the words have {wanted}"
                )
        self.language, self.decoder = language, decoder
        self.towers, self.connectors = nn.ModuleDict(read.own), nn.ModuleDict(joined.own)
        self._whose_tower, self._whose_connector = read.whose, joined.whose
        self.placeholders = dict(placeholders)
        self.visibility, self.positions = visibility, positions

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The prediction of every token that is learnt."""
        if embed_only:
            return Outputs()
        found = self.splice(batch, self.media(batch))
        known = found.sequences
        with routes() as layers:
            features = self.features(found)
        learnt = self._learnt(known) & (torch.arange(known.ids.shape[1], device=known.ids.device) > 0)
        predict = _rows_of(known).gather(1, before(known))[learnt]
        words, preferences = self._predicted(known, learnt, features[predict])
        owner = known.owner[:, None].expand(known.ids.shape)[known.real]
        return Outputs(
            language=words,
            preferences=preferences,
            routes=Routes(tuple(layers), owner) if layers else None,
        )

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n e"]:
        raise CapabilityError(
            "the encoders of a language model have no space in common: it has no embeddings"
        )

    def media(self, batch: Batch) -> dict[str, Rows]:
        """The rows of every modality but words."""
        return {name: self.bridge(name, batch.streams[name]) for name in self.placeholders}

    def read(self, name: str, stream: Stream) -> Features:
        """Token features and a pooled vector of all segments of one modality; CapabilityError without its tower."""
        return super().read(self._whose_tower.get(name, name), stream)

    def bridge(self, name: str, stream: Stream) -> Rows:
        """The rows of the segments of one modality, one after the other."""
        features = self.read(name, stream)
        connector = self.connectors[self._whose_connector[name]]
        if stream.asked is None:
            return connector(features, stream.layout)
        real = stream.asked >= 0
        return connector(features, stream.layout, stream.asked, real.sum(1))

    def splice(self, batch: Batch, media: Mapping[str, Rows]) -> Spliced:
        """The words of a batch with ``media`` in their places. Raises DataError naming the sample that holds more or
        fewer places than there are rows.
        """
        stream, known = batch.streams[self.language], self._sequences(batch)
        if len(set(self.placeholders.values())) < len(self.placeholders):
            known = replace(known, media=self._divided(known, batch, media))
        kinds, place = known.media, packing(known.real)
        # A placeholder may lie beyond the table: any row will do.
        rows = self.decoder.embedding(place.pack(stream.values.masked_fill(kinds > 0, 0)))
        packed = place.pack(kinds)
        for kind, name in enumerate(self.placeholders, 1):
            new = media[name].rows
            if stream.owner.shape != (len(batch),):
                new = _for_each(stream, batch.streams[name], media[name])
            held = (packed == kind).nonzero()[:, 0]
            if len(held) != len(new):
                raise self._misplaced(name, batch, kinds == kind, media[name])
            rows = rows.index_copy(0, held, new.to(rows.dtype))
        if known.branch is not None and (self.visibility is not None or self.positions is not None):
            chosen, known = apart(known)
            rows, place = rows[chosen], packing(known.real)
        return Spliced(rows, place, known)

    def features(self, found: Spliced) -> Float[Tensor, "m d"]:
        """What the decoder makes of whole sequences, without a cache."""
        known = found.sequences
        if known.branch is not None:
            places = branch_places(known.branch)[known.real]
            return self.decoder(found.rows, found.packing, branching(known), places)
        if self.visibility is None and self.positions is None and _uneven(known):
            whole, places = dense(1, len(found.rows)), ragged_positions(known.lengths)
            return self.decoder(found.rows, whole, sequences(known.lengths), places)
        mask = self._mask(known)
        return self.decoder(found.rows, found.packing, mask, _places(mask, known))

    def begin(
        self,
        batch: Batch,
        room: int = 0,
        media: Mapping[str, Rows] | None = None,
        past: Writing | None = None,
    ) -> Writing:
        """Read a batch of prompts; ``room`` is how many tokens may follow.

        ``media`` are rows that are known already. ``past`` is the state of an earlier call with one sequence: what
        its beginning has in common with the prompt is not computed again, and that state must not be used any more.
        """
        found = self.splice(batch, self.media(batch) if media is None else media)
        known = found.sequences
        mask = self._mask(known)
        places = _places(mask, known)
        self._check_room(int(places.max()) + 1, room)
        rows, place, common = found.rows, found.packing, 0
        if past is not None and self.visibility is None:
            common = past.common(rows)
        if past is not None and common:
            caches = past.caches
            for cache in caches:
                cache.cut(common)
            place, places = dense(1, len(rows) - common), places[common:]
            if mask.positions is not None:
                mask = replace(mask, positions=mask.positions[:, common:])
        else:
            caches = self._caches(found, room)
        features = self.decoder(rows[common:], place, mask, places, caches)
        logits = self.decoder.logits(features[known.lengths.cumsum(0) - 1 - common])
        ids = batch.streams[self.language].values.tolist()
        history = [row[:length] for row, length in zip(ids, known.lengths.tolist(), strict=True)]
        shift = None if mask.positions is None else _shift(mask.positions, known)
        return Writing(self.decoder, caches, known.lengths, logits, history, rows, shift)

    def _media_width(self, decoder: LanguageModel) -> int:
        """Of the rows that connectors are to give."""
        return decoder.width

    def _sequences(self, batch: Batch) -> Sequences:
        """What is known of the words of a batch, and where in them media have their places."""
        stream = batch.streams[self.language]
        real, kinds = stream.padding(), torch.zeros_like(stream.values)
        for kind, token in enumerate(self.placeholders.values(), 1):
            kinds[(stream.values == token) & real] = kind
        return Sequences(
            ids=stream.values,
            real=real,
            lengths=stream.lengths,
            media=kinds,
            learnt=stream.learnt,
            layouts={name: batch.streams[name].layout for name in self.placeholders},
            owner=stream.owner,
            branch=stream.branch,
            rivals=None if stream.branch is None else stream.rivals(),
        )

    def _divided(self, known: Sequences, batch: Batch, media: Mapping[str, Rows]) -> Int[Tensor, "b t"]:
        """Whose each place is, where several modalities have one placeholder. Raises DataError naming the sample that
        holds more or fewer places than there are rows.
        """
        kinds, owners = known.media.clone(), known.owner.tolist()
        segments: dict[
            tuple[int, int], list[tuple[int, int, int]]
        ] = {}  # of a sample and a token, in their order
        for kind, (name, token) in enumerate(self.placeholders.items(), 1):
            one, lengths = batch.streams[name], media[name].lengths.tolist()
            for owner, order, length in zip(one.owner.tolist(), one.order.tolist(), lengths, strict=True):
                segments.setdefault((owner, token), []).append((order, kind, length))
        for (owner, token), found in segments.items():
            whose = torch.tensor([kind for _, kind, length in sorted(found) for _ in range(length)])
            for row in (row for row, one in enumerate(owners) if one == owner):
                places = (known.real[row] & (known.ids[row] == token)).nonzero()[:, 0]
                if len(places) != len(whose):
                    raise DataError(
                        f"its words hold {len(places)} places for rows of media (token {token}), {len(found)} segments "
                        f"have {len(whose)}",
                        key=batch.keys[owner],
                    )
                kinds[row, places] = whose.to(kinds)
        return kinds

    def _caches(self, found: Spliced, room: int) -> Sequence[KVCache]:
        """Empty ones for all blocks."""
        return self.decoder.trunk.caches(found.packing.length + room)

    def _check_room(self, longest: int, room: int) -> None:
        """There are places for all that is read; the last token that is written is not."""
        context = self.decoder.context
        if context is not None and longest + max(room - 1, 0) > context:
            raise DataError(
                f"the model has {context} places: a prompt of {longest} tokens with {room} to be written does not fit"
            )

    def _learnt(self, known: Sequences) -> Bool[Tensor, "b t"]:
        if known.learnt is None:
            raise ConfigError(
                f"the words of this batch do not say what is learnt: {self.language} needs a Composer"
            )
        return known.learnt

    def _predicted(
        self, known: Sequences, learnt: Bool[Tensor, "b t"], rows: Float[Tensor, "m d"]
    ) -> tuple[WordPrediction, Preference]:
        """What is predicted of the tokens that are ``learnt``, each from one of ``rows``; of answers that are compared,
        with which, if with any: every rank takes part in every loss.
        """
        owner = known.owner[:, None].expand(known.ids.shape)[learnt]
        words = WordPrediction(
            rows=rows,
            table=self.decoder.table,
            bias=self.decoder.bias,
            target=known.ids[learnt],
            owner=owner,
            weight=torch.ones_like(owner, dtype=rows.dtype),
            scale=self.decoder.scale,
            softcap=self.decoder.softcap,
        )
        rivals = torch.full_like(owner, -1) if known.rivals is None else known.rivals[learnt]
        return words, Preference(words, rivals.div(2, rounding_mode="floor"), rivals % 2 == 1)

    def _mask(self, known: Sequences) -> Mask:
        mask = causal() if self.visibility is None else self.visibility(known)
        return mask if self.positions is None else replace(mask, positions=self.positions(known))

    def _misplaced(self, name: str, batch: Batch, held: Bool[Tensor, "b t"], media: Rows) -> DataError:
        """The first sample whose places are not as many as its rows."""
        stream, media_owner = batch.streams[self.language], batch.streams[name].owner
        for row, owner in enumerate(stream.owner.tolist()):
            wanted, given = int(held[row].sum()), int(media.lengths[media_owner == owner].sum())
            if wanted != given:
                return DataError(
                    f"its words hold {wanted} places for rows of {name} (token {self.placeholders[name]}), "
                    f"{int((media_owner == owner).sum())} segments have {given}",
                    key=batch.keys[owner],
                )
        return DataError(f"a segment of {name} belongs to a sample without words", key=batch.keys[0])


def _for_each(words: Stream, stream: Stream, media: Rows) -> Float[Tensor, "m d"]:
    """The rows of a sample's segments again for each of its sequences."""
    segments = media.rows.split(media.lengths.tolist())
    owners = stream.owner.tolist()
    chosen = [
        segment
        for owner in words.owner.tolist()
        for segment, mine in zip(segments, owners, strict=True)
        if mine == owner
    ]
    return torch.cat(chosen) if chosen else media.rows[:0]


def _rows_of(known: Sequences) -> Int[Tensor, "b t"]:
    """Which packed row each place has, where it has one."""
    return known.real.flatten().cumsum(0).view(known.real.shape) - 1


def _uneven(known: Sequences) -> bool:
    """Whether much would be computed for padding, if sequences were looked at together."""
    return known.real.numel() > _RAGGED * int(known.lengths.sum())


def _places(mask: Mask, known: Sequences) -> Int[Tensor, "m"]:
    """Where each real token stands, for tables of places: counted, unless positions are one number each."""
    if mask.positions is None or mask.positions.ndim > 2:
        return ragged_positions(known.lengths)
    return mask.positions[known.real]


def _shift(positions: Int[Tensor, "b t *axes"], known: Sequences) -> Int[Tensor, "b *axes"]:
    """How far the positions of what follows are from its places: the next is one more than all before."""
    last = positions.flatten(2).amax(2) if positions.ndim > 2 else positions
    ahead = last.masked_fill(~known.real, 0).amax(1) + 1 - known.lengths
    return ahead if positions.ndim == 2 else ahead[:, None].expand(-1, positions.shape[2])
