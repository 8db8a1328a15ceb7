from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sensorium.core import DataError, Sample
from sensorium.data.sources import parse_record


@pytest.fixture
def parse(fakes, tmp_path):
    def parse(record: dict[str, Any]) -> Sample:
        root = Path(os.path.realpath(tmp_path))
        return parse_record(record, modalities=fakes, root=root, file="chats.jsonl", line=2)

    return parse


def _short(sample: Sample) -> list[tuple[str, str, str, bool, int]]:
    return [
        (s.modality, getattr(s.value, "name", s.value), s.role, s.target, s.turn) for s in sample.segments
    ]


def test_placeholders_take_files_in_order(parse) -> None:
    sample = parse(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "<image>\nWhat changed in <image>?"},
                {"role": "assistant", "content": "The colour.\n"},
                {"role": "user", "content": "<audio>"},
                {"role": "assistant", "content": "Yes."},
            ],
            "images": ["a.png", "b.png"],
            "audios": ["c.wav"],
        }
    )
    assert _short(sample) == [
        ("text", "Be brief.", "system", False, 1),
        ("image", "a.png", "user", False, 1),
        ("text", "What changed in", "user", False, 1),
        ("image", "b.png", "user", False, 1),
        ("text", "?", "user", False, 1),
        ("text", "The colour.\n", "assistant", True, 1),
        ("audio", "c.wav", "user", False, 1),
        ("text", "Yes.", "assistant", True, 1),
    ]
    assert [s.field for s in sample.segments[:3]] == [
        "messages[0].content",
        "images[0]",
        "messages[1].content",
    ]


def test_typed_parts(parse) -> None:
    sample = parse(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "text": None},
                        {"type": "text", "text": "What is an <image>?"},
                        {"type": "audio", "audio": "own.wav"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "This."}]},
            ],
            "images": "a.png",
        }
    )
    assert _short(sample) == [
        ("image", "a.png", "user", False, 1),
        ("text", "What is an <image>?", "user", False, 1),
        ("audio", "own.wav", "user", False, 1),
        ("text", "This.", "assistant", True, 1),
    ]


def test_singular_field_serves_placeholders_or_is_content(parse) -> None:
    taken = parse({"image": "a.png", "messages": [{"role": "user", "content": "<image> What?"}]})
    assert _short(taken)[0] == ("image", "a.png", "user", False, 1)
    content = parse({"image": "a.png", "messages": [{"role": "user", "content": "What?"}]})
    assert _short(content)[0] == ("image", "a.png", "content", False, 0)


def test_a_modality_whose_plural_is_its_name(parse) -> None:
    sample = parse({"series": ["a.csv"], "messages": [{"role": "user", "content": "<series> Why?"}]})
    assert _short(sample)[0] == ("series", "a.csv", "user", False, 1)


def test_media_of_the_assistant_are_no_target(parse) -> None:
    record = {"messages": [{"role": "assistant", "content": "<image> Here."}], "images": ["a.png"]}
    assert _short(parse(record))[0] == ("image", "a.png", "assistant", False, 1)


def test_unknown_tags_are_text(parse) -> None:
    sample = parse({"messages": [{"role": "user", "content": "<b>bold</b> <Image>"}]})
    assert _short(sample) == [("text", "<b>bold</b> <Image>", "user", False, 1)]


ASK = {"role": "user", "content": "<image> and <image>?"}


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        (
            {"messages": [ASK], "images": ["a.png"]},
            "images",
            "the messages have 2 <image>, the field has 1 file",
        ),
        ({"messages": [ASK]}, "images", "the messages have 2 <image>, the field has 0 files"),
        (
            {"messages": [{"role": "user", "content": "Hi"}], "images": ["a.png", "b.png"]},
            "images",
            "the messages have 0 <image>, the field has 2 files",
        ),
        (
            {"messages": [{"role": "human", "content": "Hi"}]},
            "messages[0].role",
            r"unknown role 'human' \(one of: assistant, system, user\)",
        ),
        (
            {"messages": [{"role": "asistant", "content": "Hi"}]},
            "messages[0].role",
            r"did you mean 'assistant'\?",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "the text is empty"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "the list is empty"),
        ({"messages": [{"from": "human", "value": "Hi"}]}, "messages[0].from", "unknown field"),
        ({"messages": "Hi"}, "messages", "expected a list, found the text 'Hi'"),
        ({"messages": []}, "messages", "the list is empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "imge"}]}]},
            "messages[0].content[0].type",
            r"unknown type 'imge' \(did you mean 'image'\?\)",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
            "messages[0].content[0].text",
            "the text is empty",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
            "messages[0].content[0].url",
            "unknown field",
        ),
        (
            {"messages": [{"role": "user", "content": "<image>"}], "images": ["/etc/passwd"]},
            "images[0]",
            "outside the data root",
        ),
    ],
)
def test_bad_chat(parse, record, field, reason) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse(record)
    assert (caught.value.file, caught.value.line, caught.value.field) == ("chats.jsonl", 2, field)
    assert caught.value.key == "chats:2"


def test_a_preference(parse) -> None:
    """The question is common; what was chosen and what was rejected are turns of their own."""
    record = {"question": "what?", "chosen": "a star", "rejected": "a moon"}
    found = [(s.value, s.role, s.target, s.turn) for s in parse(record).segments]
    assert found == [
        ("what?", "user", False, 0),
        ("a star", "assistant", True, 1),
        ("a moon", "assistant", True, 2),
    ]
    for name in record:
        with pytest.raises(DataError, match=f"{name}.*missing"):
            parse({key: value for key, value in record.items() if key != name})
