"""What is asked of a service about a sample."""

from __future__ import annotations

from typing import Any

import pytest

from sensorium.core import DataError, Sample, Segment
from sensorium.modalities.chat.messages import Message
from sensorium.providers.request import check_open, question

KNOWN = ("text", "image")


def asked(*segments: Segment) -> list[tuple[str, list[Any]]]:
    messages = question(Sample("s1", segments), KNOWN, "Describe.")
    return [(message.role, [part.value for part in message.parts]) for message in messages]


def test_samples_speak_in_turns():
    assert asked(
        Segment("text", "Be brief.", role="system"),
        Segment("image", "a.png"),
        Segment("text", "colour?", role="user", turn=1),
        Segment("text", "red", role="assistant", turn=1),
        Segment("text", "shape?", role="user", turn=2),
        Segment("series", "lost", role="user", turn=2),
        Segment("text", "round", role="assistant", turn=2),
        Segment("text", "Sure?", role="user", turn=2),
        Segment("text", "yes", role="assistant", turn=2, target=True),
    ) == [
        ("system", ["Be brief."]),
        ("user", ["a.png", "shape?"]),
        ("assistant", ["round"]),
        ("user", ["Sure?"]),
    ]


def test_content_alone_is_to_be_described():
    picture, caption = Segment("image", "a.png"), Segment("text", "a dog", target=True, turn=3)
    assert asked(picture, caption) == [("user", ["a.png", "Describe."])]


@pytest.mark.parametrize(
    ("segments", "has"),
    [
        ([Segment("text", "a dog", target=True)], "only text"),
        ([Segment("audio", "a.wav")], "only audio"),
        ([], "only nothing"),
    ],
)
def test_samples_of_which_nothing_is_left(segments: list[Segment], has: str):
    with pytest.raises(DataError, match=rf"has nothing that can be sent \(text, image\), {has}"):
        asked(*segments)


def test_someone_has_to_wait_for_an_answer():
    said = Message("assistant", ())
    check_open([said, Message("user", ())])
    with pytest.raises(DataError, match=r"field 'messages\[0\]': .* found one of the assistant"):
        check_open([said])
