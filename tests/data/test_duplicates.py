from __future__ import annotations

import pytest

from sensorium.core import DataError
from sensorium.data.duplicates import Duplicates, Repeats, content_hash


def test_hash_is_of_the_content(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    assert content_hash(path) == content_hash(b"pixels")
    assert content_hash("text") != content_hash(b"pixels")
    assert content_hash([[1.0, 2.0]]) == content_hash([[1.0, 2.0]]) != content_hash([[1.0], [2.0]])
    with pytest.raises(DataError, match=r"No such file or directory: .*none"):
        content_hash(tmp_path / "none")


def test_repeats_and_leaks() -> None:
    found = Duplicates()
    for key, split, digest in (
        ("a", "train", b"1"),
        ("a", "train", b"1"),  # twice in one sample
        ("b", "train", b"1"),
        ("c", "test", b"1"),
        ("d", "test", b"1"),
        ("e", "test", b"2"),
    ):
        found.add("image", digest, key=key, split=split)
    found.add("audio", b"1", key="f", split="dev")
    assert found.repeats == {"image": Repeats(3, [("b", "a"), ("c", "a"), ("d", "a")])}
    assert found.leaks == {"image": Repeats(1, [("c (test)", "a (train)")])}


def test_only_the_first_pairs_are_kept() -> None:
    found = Duplicates()
    for number in range(20):
        found.add("image", b"1", key=str(number), split="train")
    assert found.repeats["image"].count == 19
    assert len(found.repeats["image"].pairs) == 5


def test_groups() -> None:
    found = Duplicates()
    for key, split in (("a", "train"), ("b", "train"), ("c", "test"), ("d", "test")):
        found.add_group("patient 1", key=key, split=split)
    found.add_group("patient 2", key="e", split="test")
    assert found.leaks == {"group": Repeats(1, [("c (test)", "a (train)")])}
    assert found.repeats == {}
