"""Parts that several modalities share: one tower for pictures and clips, one connector behind two towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar, final

from ...core.errors import ConfigError

Part = TypeVar("Part")


@final
class Same:
    """The part that the modality ``of`` has, with its weights."""

    def __init__(self, *, of: str) -> None:
        self.of = of


class Held(Generic[Part]):
    """The ``own`` parts among those of modalities, and for each modality the name of whose part serves it.

    Raises ConfigError for one that is to serve as another's and is none of its own.
    """

    def __init__(self, parts: Mapping[str, Part | Same]) -> None:
        self.own = {name: part for name, part in parts.items() if not isinstance(part, Same)}
        self.whose = {name: part.of if isinstance(part, Same) else name for name, part in parts.items()}
        for name, owner in self.whose.items():
            if owner not in self.own:
                raise ConfigError(f"{name} is to have the part of {owner}, which has none of its own")
