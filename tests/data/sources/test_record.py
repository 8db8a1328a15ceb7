from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sensorium.core import DataError, Sample, Segment
from sensorium.data.sources import parse_record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


@pytest.fixture
def parse(fakes, root):
    def parse(record: dict[str, Any]) -> Sample:
        return parse_record(record, modalities=fakes, root=root, file="pairs.jsonl", line=7)

    return parse


@pytest.fixture
def fail(parse):
    def fail(record: dict[str, Any]) -> DataError:
        with pytest.raises(DataError) as caught:
            parse(record)
        assert (caught.value.file, caught.value.line) == ("pairs.jsonl", 7)
        return caught.value

    return fail


def test_pair_has_media_then_text_as_target(parse, root) -> None:
    sample = parse({"text": "a cat", "image": "a.png"})
    assert sample.key == "pairs:7"
    assert (sample.file, sample.line, sample.split, sample.group) == ("pairs.jsonl", 7, None, None)
    assert sample.segments == (
        Segment("image", root / "a.png", field="image"),
        Segment("text", "a cat", target=True, field="text"),
    )


def test_media_keep_the_order_of_the_record_and_lists_are_several_segments(parse, root) -> None:
    sample = parse({"audio": ["x.wav", "y.wav"], "text": ["one", "two"], "image": "a.png"})
    assert [(s.modality, s.field) for s in sample.segments] == [
        ("audio", "audio[0]"),
        ("audio", "audio[1]"),
        ("image", "image"),
        ("text", "text[0]"),
        ("text", "text[1]"),
    ]


def test_numbers_are_one_value(parse) -> None:
    values = [[0.5, 1], [2, 3]]
    assert parse({"series": values}).segments == (Segment("series", values, field="series"),)


def test_names_and_labels(parse) -> None:
    sample = parse(
        {
            "key": 5,
            "image": "a.png",
            "split": "test",
            "group": 12,
            "label": "cat",
            "labels": {"mine": [1]},
            "attributes": {"age": 3},
        }
    )
    assert (sample.key, sample.split, sample.group) == ("5", "test", "12")
    assert sample.labels == {"label": "cat", "mine": [1], "attributes": {"age": 3}}


def test_label_becomes_text_only_without_text(parse) -> None:
    assert parse({"image": "a.png", "label": "cat"}).segments[1:] == (
        Segment("text", "cat", target=True, field="label"),
    )
    assert [s.value for s in parse({"text": "a tabby", "label": "cat"}).segments] == ["a tabby"]
    asked = parse({"image": "a.png", "label": "cat", "question": "What?", "answer": "It."})
    assert [s.field for s in asked.segments] == ["image", "question", "answer"]


def test_question_and_answer_are_turn_one(parse) -> None:
    assert parse({"image": "a.png", "question": "What?", "answer": "A cat"}).segments[1:] == (
        Segment("text", "What?", role="user", turn=1, field="question"),
        Segment("text", "A cat", role="assistant", target=True, turn=1, field="answer"),
    )


def test_questions_are_independent_turns_with_types(parse) -> None:
    asked = [{"question": "A?", "answer": "a", "type": "colour"}, {"question": "B?", "answer": "b"}]
    sample = parse({"image": "a.png", "text": "caption", "questions": asked})
    assert [(s.value, s.turn, s.role, s.target) for s in sample.segments[1:]] == [
        ("caption", 0, "content", True),
        ("A?", 1, "user", False),
        ("a", 1, "assistant", True),
        ("B?", 2, "user", False),
        ("b", 2, "assistant", True),
    ]
    assert sample.segments[3].field == "questions[0].answer"
    assert sample.labels == {"types": ["colour", None]}


def test_null_is_absent(parse) -> None:
    assert parse({"image": "a.png", "audio": None, "split": None}).modalities() == ("image",)


def test_without_text_there_are_no_dialogue_fields(fakes, root) -> None:
    images = {"image": fakes["image"]}
    sample = parse_record({"image": "a.png", "label": "cat"}, modalities=images, root=root, file="f", line=1)
    assert (len(sample.segments), sample.labels) == (1, {"label": "cat"})
    with pytest.raises(DataError, match="unknown field"):
        parse_record({"image": "a.png", "question": "?"}, modalities=images, root=root, file="f", line=1)


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        ({"image": "a.png", "imgae": "b.png"}, "imgae", r"unknown field \(did you mean 'image'\?\).*labels"),
        ({"image": "a.png", "images": ["b.png"]}, "images", "belongs to a chat in 'messages'.*use 'image'"),
        ({"image": "a.png", "text": ""}, "text", "the text is empty"),
        ({"image": "a.png", "text": " \n"}, "text", "the text is empty"),
        ({"image": "a.png", "text": 3}, "text", "expected text, found the number 3"),
        ({"image": "a.png", "text": ["fine", ""]}, "text[1]", "the text is empty"),
        ({"image": ""}, "image", "the path is empty"),
        ({"image": 3}, "image", "expected the path of a file, found the number 3"),
        ({"image": {"url": "x"}}, "image", "expected the path of a file, found an object"),
        ({"image": []}, "image", "the list is empty"),
        ({"image": ["a.png", None]}, "image[1]", "expected a value, found nothing"),
        ({"label": "cat"}, None, "no modality at all: expected one or more of text, image"),
        ({}, None, "no modality at all"),
        ({"image": None}, None, "no modality at all"),
        ({"image": "a.png", "key": ""}, "key", "the text is empty"),
        ({"image": "a.png", "key": ["k"]}, "key", "expected text, found a list"),
        ({"image": "a.png", "split": True}, "split", "expected text, found true"),
        ({"image": "a.png", "label": 0.5}, "label", "expected text, found the number 0.5"),
        ({"image": "a.png", "labels": [1]}, "labels", "expected an object, found a list"),
        ({"image": "a.png", "labels": {"label": "x"}}, "labels.label", "this name is taken"),
        ({"image": "a.png", "attributes": "old"}, "attributes", "expected an object"),
        ({"image": "a.png", "question": "What?"}, "answer", "missing, although 'question' is given"),
        ({"image": "a.png", "answer": "It"}, "question", "missing, although 'answer' is given"),
        ({"image": "a.png", "questions": []}, "questions", "the list is empty"),
        ({"image": "a.png", "questions": [{"question": "a"}]}, "questions[0].answer", "missing"),
        (
            {"questions": [{"question": "a", "answer": "b", "kind": "c"}]},
            "questions[0].kind",
            "unknown field",
        ),
        (
            {"question": "a", "answer": "b", "questions": [{"question": "a", "answer": "b"}]},
            "questions",
            "expected only one of question and questions",
        ),
    ],
)
def test_bad_record(fail, record, field, reason) -> None:
    error = fail(record)
    assert error.field == field
    with pytest.raises(DataError, match=reason):
        raise error


def test_error_names_the_given_key(fail) -> None:
    assert fail({"key": "k1", "image": ""}).key == "k1"
    assert fail({"image": ""}).key == "pairs:7"


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/a.png", "sub/../../a.png", "\0", "a\ud800.png"])
def test_paths_may_not_leave_the_root(fail, path) -> None:
    error = fail({"image": path})
    assert error.field == "image"
    assert "outside the data root" in error.reason or "cannot be a path" in error.reason


def test_url_is_no_path(fail) -> None:
    assert "found the URL 'https://x.org/a.png'" in fail({"image": "https://x.org/a.png"}).reason


def test_links_are_followed(parse, fail, root) -> None:
    (root / "inside.png").write_bytes(b"image")
    (root / "good.png").symlink_to("inside.png")
    (root / "bad.png").symlink_to("/etc/passwd")
    (root / "folder").symlink_to(root.parent)
    assert parse({"image": "good.png"}).segments[0].value == root / "good.png"
    assert "through a symbolic link" in fail({"image": "bad.png"}).reason
    assert "through a symbolic link" in fail({"image": "folder/a.png"}).reason


def test_absolute_path_inside_the_root_is_fine(parse, root) -> None:
    assert parse({"image": str(root / "a.png")}).segments[0].value == root / "a.png"


def test_the_root_of_the_file_system_allows_everything(fakes) -> None:
    record = {"image": "/etc/passwd"}
    sample = parse_record(record, modalities=fakes, root=Path("/"), file="f", line=1)
    assert sample.segments[0].value == Path("/etc/passwd")
