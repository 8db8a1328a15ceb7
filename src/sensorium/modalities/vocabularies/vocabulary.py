"""Opening the vocabulary of a checkpoint, whatever its family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ...core import CheckpointError
from .families import FAMILIES, Engine, name_family
from .files import CONFIG, GENERATION, MODEL, Fields, Files, fields, is_id
from .settings import ROLES, Token, read_settings
from .templates import read_templates


@dataclass(frozen=True)
class Vocabulary:
    """An open vocabulary.

    ``special`` gives the numbers of named special tokens, None where there is none; ``ends`` the tokens that end
    what a model writes; ``templates`` the sources of chat templates by name, the usual one as ``default``.
    """

    engine: Engine
    special: Mapping[str, int | None]
    pads_left: bool
    files: Mapping[str, bytes]
    templates: Mapping[str, str]
    ends: frozenset[int]


def open_vocabulary(files: Files, *, max_tokens: int | None, pad_to: int | None, plain: bool) -> Vocabulary:
    """The vocabulary in ``files``, whose texts are cut to ``max_tokens``, or to what the files and ``pad_to`` say.

    ``plain``: special tokens written in a text are plain text. ``files`` of the result are those to save: they
    name the class, so that they need no ``config.json``. Raises CheckpointError naming the file and the field.
    """
    settings = read_settings(files)
    name = name_family(files)
    family = FAMILIES[name]
    defaults = {role: Token(content) for role, content in family.special.items()}
    special = {role: settings.special.get(role, defaults.get(role)) for role in ROLES}
    own = settings.max_tokens or family.max_tokens
    limit = max_tokens or min((one for one in (own, pad_to) if one is not None), default=None)
    engine = family.open(files, settings, special, limit, plain)
    for number, token in settings.added.items():
        found = engine.id(token.content)
        if found != number:
            raise CheckpointError(
                f"{CONFIG}: added token {token.content!r}: expected the number {number}, "
                f"found {found} in the vocabulary"
            )
    side = settings.config.choice("padding_side", family.padding_side, "right", "left")
    config = json.dumps(
        {**fields(files, CONFIG).values, "tokenizer_class": name}, indent=2, ensure_ascii=False
    )
    saved = {**engine.files, CONFIG: f"{config}\n".encode()}
    saved.pop(MODEL, None)
    numbers = {role: engine.id(token.content) if token else None for role, token in special.items()}
    ends = _ends(fields(files, GENERATION)) | {number for number in [numbers["eos"]] if number is not None}
    return Vocabulary(engine, numbers, side == "left", saved, read_templates(files), frozenset(ends))


def _ends(of: Fields) -> set[int]:
    """The tokens that end a sequence, as ``generation_config.json`` gives them."""
    found = of.values.get("eos_token_id")
    listed = found if isinstance(found, list) else [] if found is None else [found]
    if not all(is_id(one) for one in listed):
        raise of.wrong("eos_token_id", "a token's number or a list of them")
    return set(listed)
