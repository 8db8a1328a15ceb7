"""From Items to a Batch: one padded Stream per modality, an empty one where no item has any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..core.batch import Batch, Stream
from ..core.errors import ConfigError
from ..core.modality import Modality
from .item import Item, Piece


def collate(items: Sequence[Item], modalities: Mapping[str, Modality]) -> Batch:
    """Padding is zero; the order of streams is that of ``modalities``."""
    rows: dict[str, list[tuple[int, int, int, Piece]]] = {name: [] for name in modalities}
    for owner, item in enumerate(items):
        seen: Counter[tuple[str, int]] = Counter()
        for order, piece in enumerate(item.pieces):
            place = (piece.modality, piece.turn)
            rows[piece.modality].append((owner, order, seen[place], piece))
            seen[place] += 1
    streams = {name: _stream(found, modalities[name]) for name, found in rows.items()}
    return Batch(
        streams, tuple(item.key for item in items), torch.tensor([item.concept for item in items]).long()
    )


def _stream(rows: Sequence[tuple[int, int, int, Piece]], modality: Modality) -> Stream:
    owner, order, ordinal, pieces = zip(*rows, strict=True) if rows else ((), (), (), ())
    values, lengths = pad([piece.values for piece in pieces], modality.blank())

    def integers(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long)

    def flags(name: str) -> Tensor:
        return torch.tensor([getattr(piece, name) for piece in pieces], dtype=torch.bool)

    return Stream(
        values=values,
        lengths=lengths,
        owner=integers(owner),
        order=integers(order),
        ordinal=integers(ordinal),
        turn=integers([piece.turn for piece in pieces]),
        content=flags("content"),
        target=flags("target"),
        hidden=flags("hidden"),
        corrupt=flags("corrupt"),
        seed=integers([piece.seed for piece in pieces]),
        layout=_layouts(pieces),
        learnt=_per_token(pieces, "learnt", values.shape[1]),
        branch=_per_token(pieces, "branch", values.shape[1]),
        asked=_asked(pieces),
    )


def _layouts(pieces: Sequence[Piece]) -> Tensor | None:
    layouts = [piece.layout for piece in pieces if piece.layout is not None]
    return torch.tensor(layouts, dtype=torch.long) if layouts else None


def _asked(pieces: Sequence[Piece]) -> Tensor | None:
    asked = [piece.asked for piece in pieces if piece.asked is not None]
    return pad_sequence(asked, batch_first=True, padding_value=-1) if asked else None


def _per_token(pieces: Sequence[Piece], name: str, longest: int) -> Tensor | None:
    """What is said of each token of some pieces, zero for the others."""
    found = [getattr(piece, name) for piece in pieces]
    like = next((one for one in found if one is not None), None)
    if like is None:
        return None
    padded = like.new_zeros(len(found), longest)
    for row, one in zip(padded, found, strict=True):
        if one is not None:
            row[: len(one)] = one
    return padded


def pad(values: Sequence[Tensor], blank: Tensor) -> tuple[Tensor, Tensor]:
    """Stack tensors that differ along the first axis, zeros at the end; with none, no rows of ``blank``'s shape.

    Raises ConfigError for tensors that differ along another axis.
    """
    if not values:
        return blank[None][:0], torch.zeros(0, dtype=torch.long)
    first = values[0]
    if (other := next((value for value in values if value.shape[1:] != first.shape[1:]), None)) is not None:
        raise ConfigError(
            f"values of one batch may differ along their first axis alone, found {list(first.shape)} and "
            f"{list(other.shape)}: prepare them to one size, or give one at a time"
        )
    lengths = torch.tensor([len(value) for value in values])
    if bool((lengths == lengths[0]).all()):
        return torch.stack(list(values)), lengths
    padded = first.new_zeros(len(values), int(lengths.max()), *first.shape[1:])
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return padded, lengths
