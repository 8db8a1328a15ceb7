"""SentencePiece's model file: its pieces and its table of characters (Kudo and Richardson 2018, arXiv:1808.06226).

The file is a protobuf message. What is needed of it is little, so it is read here, without a package.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...core import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # types of a piece
_UNIGRAM = 1
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5  # how a field is written


@dataclass(frozen=True)
class Piece:
    """A token: its text, its log-probability and its type."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class PieceModel:
    """``characters`` is the table that normalises text, in SentencePiece's own form; empty if there is none."""

    pieces: tuple[Piece, ...]
    characters: bytes
    unigram: bool


def read_piece_model(name: str, content: bytes) -> PieceModel:
    """Read the file ``name``. Raises CheckpointError if it is damaged."""
    pieces, characters, kind = [], b"", _UNIGRAM
    try:
        for number, value in _fields(content):
            if number == 1:
                pieces.append(_piece(value))
            elif number == 2:
                kind = dict(_fields(value)).get(3, _UNIGRAM)
            elif number == 3:
                characters = dict(_fields(value)).get(2, b"")
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{name}: not a SentencePiece model: {error}") from None
    if not pieces:
        raise CheckpointError(f"{name}: expected a SentencePiece model, found one without pieces")
    return PieceModel(tuple(pieces), characters, kind == _UNIGRAM)


def _piece(content: bytes) -> Piece:
    parts = dict(_fields(content))
    (score,) = struct.unpack("<f", parts.get(2, bytes(4)))
    if not math.isfinite(score):
        raise ValueError(f"a piece with the score {score}")
    return Piece(parts.get(1, b"").decode("utf-8"), score, parts.get(3, NORMAL))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: number, and an integer or bytes."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if form == _BYTES:
            length, at = _varint(content, at)
        elif form in (_LONG, _SHORT):
            length = 8 if form == _LONG else 4
        else:
            raise ValueError(f"a field of the unknown form {form} at {at:,}")
        if length > len(content) - at:
            raise ValueError(f"a field of {length:,} bytes at {at:,} of {len(content):,}")
        yield number, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
    raise ValueError(f"an endless number at {at:,}")
