"""Messages from dicts and from segments."""

from __future__ import annotations

import base64

import pytest

from sensorium.core import DataError, Segment
from sensorium.modalities.chat import Message, Part, from_segments, read_messages

KINDS = ("text", "image", "audio")


def texts(*values):
    return tuple(Part("text", value) for value in values)


def test_dicts():
    data = "data:image/png;base64," + base64.b64encode(b"picture").decode()
    found = read_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Is"},
                    {"type": "image", "image": "a.png"},
                    {"type": "text", "text": "like", "image": None},
                    {"type": "image_url", "image_url": {"url": data}},
                    {"type": "image", "image": data},
                    {"type": "audio", "audio": b"sound"},
                ],
            },
            {"role": "assistant", "content": "Yes."},
            {"role": "tool", "content": "4"},
        ],
        KINDS,
    )
    assert found == [
        Message("system", texts("Be brief.")),
        Message(
            "user",
            (
                Part("text", "Is"),
                Part("image", "a.png"),
                Part("text", "like"),
                Part("image", b"picture"),
                Part("image", b"picture"),
                Part("audio", b"sound"),
            ),
        ),
        Message("assistant", texts("Yes."), target=True),
        Message("tool", texts("4")),
    ]


def user(*parts):
    return [{"role": "user", "content": "hi"}, {"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ([], "messages", "the conversation is empty"),
        ("hi", "messages", "expected a list of messages, found str"),
        (None, "messages", "expected a list of messages, found nothing"),
        (["hi"], "messages[0]", "expected an object, found str"),
        ([{"role": "user"}], "messages[0].content", "missing"),
        ([{"content": "hi"}], "messages[0].role", "missing"),
        ([{"role": "usr", "content": "hi"}], "messages[0].role", "unknown role 'usr' (did you mean 'user'?)"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role", "unknown role ['user']"),
        ([{"role": "user", "content": "hi", "nam": 1}], "messages[0].nam", "unknown field"),
        (
            [{"role": "user", "content": 3}],
            "messages[0].content",
            "expected text or a list of parts, found int",
        ),
        ([{"role": "user", "content": " "}], "messages[0].content", "the text is empty"),
        ([{"role": "user", "content": []}], "messages[0].content", "the message is empty"),
        (user("hi"), "messages[1].content[0]", "expected a part, {'type': ...}, found str"),
        (
            user({"type": "imgae", "imgae": "x"}),
            "messages[1].content[0].type",
            "expected a type that the model knows, found 'imgae' (did you mean 'image'?)",
        ),
        (user({"image": "x"}), "messages[1].content[0].type", "found None"),
        (user({"type": ["image"]}), "messages[1].content[0].type", "found ['image']"),
        (user({"type": "video", "video": "x"}), "messages[1].content[0].type", "found 'video'"),
        (user({"type": "text_url", "text_url": "x"}), "messages[1].content[0].type", "found 'text_url'"),
        (user({"type": "image"}), "messages[1].content[0]", "expected the field 'image' beside the type"),
        (
            user({"type": "text", "text": "a"}, {"type": "image", "image": "x", "text": "y"}),
            "messages[1].content[1].text",
            "unknown field",
        ),
        (user({"type": "text", "text": 3}), "messages[1].content[0].text", "expected text, found int"),
        (
            user({"type": "image", "image": "https://example.org/a.png"}),
            "messages[1].content[0].image",
            "found the URL 'https://example.org/a.png'; nothing is fetched",
        ),
        (
            user({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
            "messages[1].content[0].image_url.url",
            "nothing is fetched",
        ),
        (
            user({"type": "image_url", "image_url": "data:image/png;base64,AA=="}),
            "messages[1].content[0].image_url",
            "expected an object, found str",
        ),
        (
            user({"type": "image_url", "image_url": {"url": "data:image/png,AA"}}),
            "messages[1].content[0].image_url.url",
            "expected 'data:...;base64,...'",
        ),
        (
            user({"type": "image", "image": "data:image/png;base64,A*"}),
            "messages[1].content[0].image",
            "expected base64",
        ),
    ],
)
def test_what_is_wrong_is_named(value, field, reason):
    with pytest.raises(DataError) as caught:
        read_messages(value, KINDS)
    assert caught.value.field == field
    assert reason in caught.value.reason


def image(value="x", **more):
    return Segment("image", value, **more)


def said(role, text, turn=1, **more):
    return Segment("text", text, role=role, turn=turn, target=role == "assistant", **more)


def test_content_begins_the_first_message_of_the_user():
    found = from_segments(
        [
            image("a"),
            Segment("audio", "b"),
            said("system", "s"),
            said("user", "q"),
            said("assistant", "r"),
            said("user", "q2"),
        ]
    )
    assert found == [
        Message("system", texts("s")),
        Message("user", (Part("image", "a"), Part("audio", "b"), Part("text", "q"))),
        Message("assistant", texts("r"), target=True),
        Message("user", texts("q2")),
    ]


def test_a_caption_is_an_answer():
    caption = Segment("text", "a cat", target=True)
    pictured = Message("user", (Part("image", "x"),))
    answer = Message("assistant", texts("a cat"), target=True)
    assert from_segments([image(), caption]) == [pictured, answer]
    assert from_segments([caption]) == [answer]
    assert from_segments([image()]) == [pictured]
    asked = [said("user", "q"), said("assistant", "r")]
    assert from_segments([image(), caption, *asked]) == [
        pictured,
        answer,
        Message("user", texts("q")),
        Message("assistant", texts("r"), target=True),
    ]


def test_the_order_inside_of_a_message_stays():
    parts = [
        said("user", "a"),
        image("1", role="user", turn=1),
        image("2", role="user", turn=1),
        said("user", "b"),
    ]
    assert from_segments(parts) == [
        Message("user", (Part("text", "a"), Part("image", "1"), Part("image", "2"), Part("text", "b")))
    ]


def test_turns_follow_one_another():
    turns = [
        said("user", "q2", 2),
        said("assistant", "r2", 2),
        said("user", "q1", 1),
        said("assistant", "r1", 1),
        image("x"),
        said("user", "q3", 3),
    ]
    found = from_segments(turns)
    assert [(one.role, *(part.value for part in one.parts)) for one in found] == [
        ("user", "x", "q1"),
        ("assistant", "r1"),
        ("user", "q2"),
        ("assistant", "r2"),
        ("user", "q3"),
    ]
    assert len(from_segments([said("user", "a", 1), said("user", "b", 2)])) == 2


def test_only_targets_are_targets():
    given = Segment("text", "r", role="assistant", turn=1)
    assert from_segments([said("user", "q"), given])[1] == Message("assistant", texts("r"))
    assert from_segments([given, said("assistant", "s")]) == [
        Message("assistant", texts("r", "s"), target=True)
    ]
