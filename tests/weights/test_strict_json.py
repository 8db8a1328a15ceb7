from __future__ import annotations

import pytest

from sensorium.core.errors import CheckpointError
from sensorium.weights.strict_json import parse_object, read_object


def test_an_object() -> None:
    assert parse_object('{"a": [1, 2.5, true, null, "é"], "b": {"c": {}}}'.encode(), "x") == {
        "a": [1, 2.5, True, None, "é"],
        "b": {"c": {}},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "the name 'b' occurs twice"),
        (b'{"a": NaN}', "NaN is not finite"),
        (b'{"a": -Infinity}', "-Infinity is not finite"),
        (b'{"a": 1e999}', "1e999 is not finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not strict JSON"),
        (b'{"a": "\xff"}', "not strict JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not strict JSON"),
        (b'{"a": 1} x', "not strict JSON"),
        (b'{"a": 1', "not strict JSON"),
        (b"", "not strict JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_anything_else(text: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=f"^here: .*{reason}"):
        parse_object(text, "here")


def test_files(tmp_path) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(CheckpointError, match=r"a\.json: cannot be read: No such file"):
        read_object(file)
    file.write_text('{"a": 1}')
    assert read_object(file, largest=8) == {"a": 1}
    with pytest.raises(CheckpointError, match=r"a\.json: expected at most 7 bytes of JSON, found more"):
        read_object(file, largest=7)
    with pytest.raises(CheckpointError, match="Is a directory"):
        read_object(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match="symbolic links"):
        read_object(tmp_path / "loop")
