"""Which modality a file belongs to, by the end of its name."""

from __future__ import annotations

from collections.abc import Mapping

from ...core import ConfigError, Modality


def extension_table(modalities: Mapping[str, Modality]) -> dict[str, str]:
    """Extension with its dot -> name of the modality. Raises ConfigError if two modalities claim one."""
    table: dict[str, str] = {}
    for name, modality in modalities.items():
        for extension in modality.extensions:
            if extension in table:
                raise ConfigError(
                    f"both {table[extension]!r} and {name!r} claim files that end in {extension}; "
                    f"give one of them a longer ending, as .{name}{extension}"
                )
            table[extension] = name
    return table


def split_extension(name: str, table: Mapping[str, str]) -> tuple[str, str | None]:
    """The stem and the longest known extension of a file name: ``.depth.png`` goes before ``.png``."""
    lower = name.lower()
    for position, letter in enumerate(lower):
        if letter == "." and position and lower[position:] in table:
            return name[:position], lower[position:]
    return name, None
