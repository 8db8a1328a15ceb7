from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sensorium.core import DataError
from sensorium.data.sources import TableSource


@pytest.fixture
def table(fakes, tmp_path):
    def table(content: str | bytes, name: str = "data.csv") -> TableSource:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return TableSource(path, modalities=fakes)

    return table


def _places(source: TableSource) -> list[tuple[int | None, str | None]]:
    return [(error.line, error.field) for error in source.problems]


def test_round_trip_with_quotes_and_line_breaks(table, tmp_path) -> None:
    source = table('\ufeffimage, text\r\na.png,"one, ""two""\r\nthree"\r\n\r\nb.png,ünï\r\n')
    root = tmp_path.resolve()
    assert [(s.key, s.line, [x.value for x in s.segments]) for s in source] == [
        ("data:2", 2, [root / "a.png", 'one, "two"\r\nthree']),
        ("data:5", 5, [root / "b.png", "ünï"]),
    ]
    assert source.problems == []
    assert [source[1], source[0]] == list(source)[::-1]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


def test_tabs(table) -> None:
    source = table("key\timage\tlabel\nk\ta.png\ta, b\n", name="data.tsv")
    assert source[0].labels == {"label": "a, b"}


def test_questions(table) -> None:
    (sample,) = table("image,question,answer\na.png,What?,A cat\n")
    assert [(s.role, s.turn, s.target) for s in sample.segments] == [
        ("content", 0, False),
        ("user", 1, False),
        ("assistant", 1, True),
    ]


def test_empty_cells_are_absent(table) -> None:
    source = table("image,audio,text\na.png,,one\n,b.wav,two\n,,\n")
    assert [sample.modalities() for sample in source] == [("image", "text"), ("audio", "text")]
    (error,) = source.problems
    assert (error.line, error.key) == (4, "data:4")
    assert "no modality at all" in error.reason


def test_structured_and_dotted_columns(table) -> None:
    source = table(
        "image,attributes.age,labels.mine,questions\n"
        'a.png,34,x,"[{""question"": ""A?"", ""answer"": ""a""}]"\n'
        'b.png,,,"[{]"\n'
    )
    assert source[0].labels == {"attributes": {"age": "34"}, "mine": "x", "types": [None]}
    assert [s.value for s in source[0].segments[1:]] == ["A?", "a"]
    assert _places(source) == [(3, "questions")]
    assert "not JSON" in source.problems[0].reason


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ("b.png", None, "expected 2 cells, as in the header, found 1"),
        ("b.png,text,more", None, "expected 2 cells, as in the header, found 3"),
        ("b.png,  ", "text", "the text is empty"),
        ("/etc/passwd,text", "image", "outside the data root"),
        ('b.png,"tail" x', None, "not a row of a table"),
        ('b.png,"never closed', None, "a quote opened in this row is never closed"),
    ],
)
def test_a_bad_row_is_the_only_one_lost(table, row, field, reason) -> None:
    source = table(f"image,text\na.png,one\n{row}\nc.png,two\nd.png,three\n")
    assert [(s.line, s.segments[-1].value) for s in source] == [(2, "one"), (4, "two"), (5, "three")]
    assert _places(source) == [(3, field)]
    assert reason in source.problems[0].reason
    assert source.problems[0].file == source.name


def test_an_open_quote_before_many_rows_costs_one_row(table) -> None:
    rows = "".join(f"{i}.png,{'x' * 100}\n" for i in range(3000))
    source = table(f'image,text\na.png,"open\n{rows}')
    assert (len(source), _places(source)) == (3000, [(2, None)])


def test_bytes_that_are_no_text(table) -> None:
    source = table(b"image,text\na.png,one\nb.png,\xe9t\xe9\nc.png,two\n")
    assert [sample.line for sample in source] == [2, 4]
    assert (source.problems[0].line, source.problems[0].reason) == (3, "not UTF-8 text: byte 6 is 0xe9")


def test_repeated_key(table) -> None:
    source = table("key,text\nk,one\nk,two\nl,three\n")
    assert [sample.segments[0].value for sample in source] == ["one", "three"]
    (error,) = source.problems
    assert (error.line, error.key, error.field) == (3, "k", "key")
    assert error.reason == "this key is already used on line 2"


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        ("", None, "the table is empty"),
        ("\n\n", None, "the table is empty"),
        ("image;text\na;b\n", "image;text", "unknown field"),
        ("image,captoin\na,b\n", "captoin", "unknown field"),
        ("image,image\na,b\n", "image", "the column is there twice"),
        ("image,\na,b\n", None, "column 2 has no name"),
        (b"image,t\xffxt\n", None, "not UTF-8 text"),
    ],
)
def test_bad_header(table, content, field, reason) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        table(content)
    assert (caught.value.line, caught.value.field) == (1, field)
    assert Path(caught.value.file).name == "data.csv"
