"""Text as it comes: all pieces together are the whole, and no piece is ever taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from sensorium.generation.text import Detokenizer, Stopper

TEXT = "Grüße, 日本語! 😀👍🏽 and more words after them, so that the window moves on. Ende…"
PIECE = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)


def by_bytes(ids: list[int]) -> str:
    """Tokens are bytes; those from 256 are two each."""
    return b"".join(bytes([i]) if i < 256 else bytes([i - 256] * 2) for i in ids).decode(errors="replace")


def pieces_of(decode, ids: list[int]) -> list[str]:
    one = Detokenizer(decode)
    return [*(one.add(token) for token in ids), one.finish()]


def vocabulary(text: str) -> tuple[list[int], list[str]]:
    """Tokens as SentencePiece makes them: words, and bytes for what is in no word."""
    tokens = []
    for word in text.split(" "):
        tokens += ["▁" + word] if word.isascii() else ["▁", *(f"<0x{byte:02X}>" for byte in word.encode())]
    names = sorted(set(tokens))
    return [names.index(token) for token in tokens], names


def test_bytes_make_whole_characters():
    pieces = pieces_of(by_bytes, list(TEXT.encode()))
    assert [piece for piece in pieces if piece] == list(TEXT)


def test_a_token_may_end_within_a_character():
    parts = [b"a\xf0\x9f", b"\x98\x80b", b"\xe6", b"\x97\xa5"]
    pieces = pieces_of(lambda ids: b"".join(parts[i] for i in ids).decode(errors="replace"), [0, 1, 2, 3])
    assert pieces == ["a", "😀b", "", "日", ""]


def test_sentence_pieces_keep_their_spaces_and_bytes():
    ids, names = vocabulary(TEXT)
    pieces = pieces_of(lambda ids: PIECE.decode([names[i] for i in ids]), ids)
    assert "".join(pieces) == TEXT
    assert "😀" in pieces
    assert "�" not in "".join(pieces)


def test_tokens_without_text_leave_spaces_where_they_are():
    """Special tokens, which a decoder leaves out, at the places where the window moves."""
    names = ["▁word", ""]
    ids = ([0] + [1] * 5) * 10
    pieces = pieces_of(lambda ids: PIECE.decode([names[i] for i in ids if names[i]]), ids)
    assert "".join(pieces) == " ".join(["word"] * 10)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 511) | st.sampled_from([128, 0xC2, 0xE6, 0xF0, 0x9F]), max_size=80))
def test_any_bytes(ids: list[int]):
    """Those that are no characters too."""
    assert "".join(pieces_of(by_bytes, ids)) == by_bytes(ids)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_any_text(text: str):
    ids = list(text.encode())
    pieces = pieces_of(by_bytes, ids)
    assert "".join(pieces) == text
    assert all(len(piece) <= 1 for piece in pieces)


def test_bytes_that_are_no_characters_are_not_held_back_for_ever():
    pieces = pieces_of(by_bytes, [0xFF] * 40)
    assert all(len("".join(pieces[: count + 1])) >= count - 3 for count in range(40))


def test_the_work_of_each_token_is_the_same():
    read = []

    def decode(ids: list[int]) -> str:
        read.append(len(ids))
        return by_bytes(ids)

    one = Detokenizer(decode)
    for token in b"word " * 200:
        one.add(token)
    for token in [0xFF, 0x80] * 100:
        one.add(token)
    assert max(read) <= 20


@pytest.mark.parametrize(
    ("pieces", "stop", "expected", "stopped"),
    [
        (["one two", " stop here", "x"], [" stop"], "one two", True),
        (["a", "b", "c"], ["abc"], "", True),
        (["a", "b", "d"], ["abc"], "abd", False),
        (["aaa", "aab"], ["aab"], "aaa", True),
        (["xyab"], ["abab"], "xyab", False),
        (["ab", "ab", "c"], ["babc", "ababd"], "a", True),
        (["a stop and a halt"], ["halt", "stop"], "a ", True),
        (["a", "", "b"], [], "ab", False),
    ],
)
def test_stops(pieces: list[str], stop: list[str], expected: str, stopped: bool):
    one, said = Stopper(stop), ""
    for piece in pieces:
        if one.stopped:
            break
        said += one.add(piece)
    assert (said + one.finish(), one.stopped) == (expected, stopped)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stops_wherever_the_text_is_cut(pieces: list[str], stop: list[str]):
    """As in the text up to the piece that completes the first of them."""
    one, said, whole = Stopper(stop), "", ""
    for piece in pieces:
        said, whole = said + one.add(piece), whole + piece
        found = [place for place in map(whole.find, stop) if place >= 0]
        assert one.stopped == bool(found)
        if found:
            assert said == whole[: min(found)]
            return
        assert whole.startswith(said)
    assert said + one.finish() == whole
