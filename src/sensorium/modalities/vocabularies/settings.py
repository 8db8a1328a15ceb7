"""What the small files beside a vocabulary say: special and added tokens, the longest text, the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...core import CapabilityError, CheckpointError
from .files import ADDED, CONFIG, SPECIAL_MAP, Fields, Files, fields, ids

#: The named special tokens. The order is that in which absent ones are added to a vocabulary.
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

_UNLIMITED = 10**9  # files write a huge number for "no limit"


@dataclass(frozen=True)
class Token:
    """A token that is found in a text before anything else. ``normalized``: in the text as it was normalised."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True


#: The token of each role; None where there is none.
Special = Mapping[str, Token | None]


@dataclass(frozen=True)
class Settings:
    """The settings of a tokenizer.

    ``special`` are the named special tokens that the files name (None: that there is none), ``extra`` special
    tokens of no such role, ``added`` tokens by number. ``config`` holds what only some families know.
    """

    config: Fields
    special: Special
    extra: tuple[Token, ...]
    added: Mapping[int, Token]

    @property
    def max_tokens(self) -> int | None:
        """The most tokens that the model reads; None if the files do not say."""
        name = "model_max_length" if "model_max_length" in self.config.values else "max_len"
        found = self.config.number(name)
        return None if found is None or found >= _UNLIMITED else int(found)

    @property
    def cuts_left(self) -> bool:
        """Whether long texts lose their beginning rather than their end."""
        return self.config.choice("truncation_side", "right", "right", "left") == "left"

    def tokens(self, special: Special, knows: Callable[[str], bool]) -> list[Token]:
        """Added tokens and ``special`` ones, each once. A family's own count if the vocabulary ``knows`` them."""
        named = [
            token
            for role, token in special.items()
            if token and (role in self.special or knows(token.content))
        ]
        special_ones = {token.content for token in [*named, *self.extra]}
        found: dict[str, Token] = {}
        for token in [*(self.added[number] for number in sorted(self.added)), *named, *self.extra]:
            found.setdefault(token.content, token)
        return [replace(one, special=one.special or one.content in special_ones) for one in found.values()]


def cut(numbers: list[int], most: int | None, left: bool) -> list[int]:
    """At most ``most`` tokens: the last ones if those on the ``left`` are cut off."""
    if most is None or len(numbers) <= most:
        return numbers
    return numbers[len(numbers) - most :] if left else numbers[:most]


def read_settings(files: Files) -> Settings:
    """The settings in ``files``. Raises CheckpointError for fields of a wrong type, CapabilityError for code to run.

    Where ``tokenizer_config.json`` has ``added_tokens_decoder``, it is complete, and the older
    ``special_tokens_map.json`` and ``added_tokens.json`` are left aside, as the reference does.
    """
    config = fields(files, CONFIG)
    if config.values.get("auto_map") is not None:
        raise CapabilityError(f"{CONFIG}: field 'auto_map': names code to run, which is never done")
    complete = config.values.get("added_tokens_decoder") is not None
    older = Fields(SPECIAL_MAP) if complete else fields(files, SPECIAL_MAP)

    def source(name: str) -> Fields:
        return older if name in older.values else config

    names = {role: f"{role}_token" for role in ROLES}
    special = {
        role: _token(source(name), name) for role, name in names.items() if name in source(name).values
    }
    lists = ["extra_special_tokens", "additional_special_tokens"]
    if isinstance(source(lists[0]).values.get(lists[0]), list) and source(lists[0]).items(lists[0]):
        lists.pop()  # the older name of the same
    own = [
        _as_token(of, name, value, special=True)
        for of in (config, older)
        for name, value in of.values.items()
        if name.endswith("_token") and name not in names.values() and isinstance(value, str | dict)
    ]  # such as ``image_token``
    extra = own + [
        _as_token(source(name), name, one, special=True) for name in lists for one in source(name).items(name)
    ]
    decoder = config.inner("added_tokens_decoder")
    added = {
        _number(decoder, key): _as_token(decoder, key, one, special=False)
        for key, one in decoder.values.items()
    }
    if not complete:
        known = {token.content for token in [*special.values(), *extra] if token is not None}
        for content, number in ids(fields(files, ADDED)).items():
            is_special = content in known
            added[number] = Token(content, normalized=not is_special, special=is_special)
    return Settings(config, special, tuple(extra), added)


def _token(of: Fields, name: str) -> Token | None:
    found = of.values[name]
    return None if found is None else _as_token(of, name, found, special=True)


def _as_token(of: Fields, name: str, found: Any, *, special: bool) -> Token:
    """A token from a string, or from an object with its flags; ``special``: what it is if that does not say."""
    if isinstance(found, str) and found:
        return Token(found)
    if not isinstance(found, dict) or not isinstance(found.get("content"), str) or not found["content"]:
        raise of.wrong(name, "a token")
    inner = Fields(f"{of.file}: field {name!r}", found)
    is_special = inner.flag("special", special)
    return Token(
        found["content"],
        lstrip=inner.flag("lstrip"),
        rstrip=inner.flag("rstrip"),
        single_word=inner.flag("single_word"),
        normalized=inner.flag("normalized", not is_special),
        special=is_special,
    )


def _number(of: Fields, key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) <= 9):
        raise CheckpointError(f"{of.file}: expected a token's number, found {key[:80]!r}")
    return int(key)
