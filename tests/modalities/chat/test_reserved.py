"""Strings with a meaning of their own."""

from __future__ import annotations

import random

import pytest

from sensorium.modalities.chat.reserved import Reserved

MARK = "\ufdd0"
TOKENS = ("<|a|>", "<|ab|>", "<|", "[X]", "</s>", "|><", "!")


def found(text):
    return [text[begin:end] for begin, end in Reserved(TOKENS).find(text)]


def test_the_longest_are_found():
    assert found("x<|ab|>y<|a|></s>[X] [Y]!") == ["<|ab|>", "<|a|>", "</s>", "[X]"]
    assert next(Reserved(TOKENS).find("[X][X]", 1)) == (3, 6)
    assert list(Reserved(()).find("<|a|>")) == []


@pytest.mark.parametrize(
    "text", ["<|a|>", "<|a|><|a|>", "a<|ab|></s", "|>", "x[", "<", "<|ab", "no", "", "<<|a|>"]
)
def test_what_is_written_literally_is_not_found(text):
    literal = Reserved(TOKENS).literally(text, MARK)
    assert literal.replace(MARK, "") == text
    assert list(Reserved(TOKENS).find(literal)) == []
    assert (literal == text) == (text in ("no", ""))


def test_nor_is_what_several_texts_make_together():
    draw = random.Random(0)
    reserved = Reserved(TOKENS)
    for _ in range(2000):
        texts = ["".join(draw.choices("<|ab>[X/s]", k=draw.randint(0, 6))) for _ in range(3)]
        joined = "".join(reserved.literally(text, MARK) for text in texts)
        assert list(reserved.find(joined)) == [], texts
