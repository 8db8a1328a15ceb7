"""Conversations: messages, chat templates, placeholders of media, and the tokens that all of it becomes."""

from __future__ import annotations

from .conversation import Conversation
from .messages import Message, Part, from_segments, read_messages
from .placeholders import (
    MergedGrid,
    Numbered,
    PerPiece,
    Placeholder,
    Repeated,
    SpaceTime,
    TileGrid,
    UnpaddedTiles,
)
from .template import ChatTemplate

__all__ = [
    "ChatTemplate",
    "Conversation",
    "MergedGrid",
    "Message",
    "Numbered",
    "Part",
    "PerPiece",
    "Placeholder",
    "Repeated",
    "SpaceTime",
    "TileGrid",
    "UnpaddedTiles",
    "from_segments",
    "read_messages",
]
