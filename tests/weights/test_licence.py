from __future__ import annotations

import pytest

from sensorium.weights.licence import licence, notice


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n# A model", "mit"),
        ("---\r\nlicense: apache-2.0\r\n---\r\n", "apache-2.0"),
        ("---\ntags:\n- vision\nlicense: 'cc-by-nc-4.0'  # sic\nlanguage: en\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense:\n- mit\n- cc-by-nc-sa-4.0\ntags:\n- x\n---\n", "mit, cc-by-nc-sa-4.0"),
        ('---\nlicense: ["mit", apache-2.0]\n---\n', "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n", "other (llama3)"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n---\n", None),
        ("---\nmodel:\n  license: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("# A model\n\nlicense: mit\n", None),
        ("text\n---\nlicense: mit\n---\n", None),
        ("", None),
    ],
)
def test_front_matter(tmp_path, card: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence(tmp_path) == expected
    assert licence(str(tmp_path)) == expected


def test_no_card(tmp_path) -> None:
    assert licence(tmp_path) is None
    (tmp_path / "README.md").mkdir()
    assert licence(tmp_path) is None


def test_bytes_that_are_no_text(tmp_path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nauthor: \xff\xfe\nlicense: mit\n---\n")
    assert licence(tmp_path) == "mit"


@pytest.mark.parametrize(
    "name",
    [
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-3.0",
        "mit, cc-by-nc-4.0",
        "research-only",
        "other (my-research-license)",
        "intel-research",
        "fair-noncommercial-research-license",
        "other (stabilityai-non-commercial)",
        "apple-amlr",
    ],
)
def test_no_commercial_use(name: str) -> None:
    assert f"{name}, forbids commercial use" in (notice(name) or "")


@pytest.mark.parametrize("name", ["other", "other (llama3)", "unknown"])
def test_to_be_looked_up(name: str) -> None:
    assert "read the model card" in (notice(name) or "")


@pytest.mark.parametrize("name", [None, "mit", "apache-2.0", "cc-by-4.0", "bsd-3-clause", "openrail", "ncsa"])
def test_nothing_to_say(name: str | None) -> None:
    assert notice(name) is None
