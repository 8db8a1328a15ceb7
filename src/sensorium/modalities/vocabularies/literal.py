"""Special tokens that are written in a text, as plain text: for tokenizers of the `tokenizers` library."""

from __future__ import annotations

import copy
import re
from typing import Any, final

from .added import by_first

_FIRST = b'"prepend_scheme":"first"'  # of a rule that puts a space before a text, as the library writes it


@final
class Stretches:
    """Encodes stretches of a longer text, literally and whole, with the model and rules of ``tokens``.

    Those that do not begin the text have no space put before them, where the rules have one before the text alone.
    """

    def __init__(self, tokens: Any) -> None:
        rules = tokens.pre_tokenizer
        later = _later(rules)
        self._first = _stretches(tokens, rules)
        self._later = self._first if later is rules else _stretches(tokens, later)

    def encode(self, text: str, *, start: bool) -> Any:
        """The library's encoding, with no tokens around it."""
        return (self._first if start else self._later).encode(text, add_special_tokens=False)


def take_literally(tokens: Any) -> None:
    """Make special tokens that are written in a text plain text.

    The library leaves them in the text then, but a model that knows such a token whole could still find it there,
    so it is cut after its first character.
    """
    from tokenizers import Regex, pre_tokenizers

    tokens.encode_special_tokens = True
    special = [one.content for one in tokens.get_added_tokens_decoder().values() if one.special]
    known = (one for one in special if len(one) > 1 and tokens.model.token_to_id(one) is not None)
    rests = by_first(known)
    pattern = "|".join(
        f"{re.escape(first)}(?={'|'.join(map(re.escape, rest))})" for first, rest in rests.items()
    )
    if pattern:
        cut = pre_tokenizers.Split(Regex(pattern), behavior="merged_with_previous")
        before = [] if tokens.pre_tokenizer is None else [tokens.pre_tokenizer]
        tokens.pre_tokenizer = pre_tokenizers.Sequence([*before, cut])


def _stretches(tokens: Any, rules: Any) -> Any:
    from tokenizers import Tokenizer

    found = Tokenizer(tokens.model)  # shared, not copied
    found.normalizer, found.pre_tokenizer = tokens.normalizer, rules
    found.add_tokens([token for _, token in sorted(tokens.get_added_tokens_decoder().items())])
    take_literally(found)
    return found


def _later(rules: Any) -> Any:
    """The rules of a pre-tokenizer for what is not at the beginning of a text."""
    state = None if rules is None else rules.__getstate__()
    if state is None or _FIRST not in state:
        return rules
    copied = copy.deepcopy(rules)
    copied.__setstate__(state.replace(_FIRST, _FIRST.replace(b"first", b"never")))
    return copied
