"""Errors say which thing is wrong, and survive the way back from another process."""

from __future__ import annotations

import pickle

import pytest

from sensorium.core import CapabilityError, CheckpointError, ConfigError, DataError, SensoriumError, nearest

WHOLE = DataError("too short", key="k", file="list.jsonl", line=3, field="audio")


def test_a_data_error_names_all_that_is_known():
    assert str(WHOLE) == "list.jsonl:3, key 'k', field 'audio': too short"
    assert str(DataError("too short")) == "too short"
    assert str(DataError("gone", file="a.tar")) == "a.tar: gone"
    assert WHOLE.record() == {
        "key": "k",
        "file": "list.jsonl",
        "line": 3,
        "field": "audio",
        "reason": "too short",
    }
    assert DataError("gone").record() == {"reason": "gone"}


def test_a_place_is_completed_and_never_overwritten():
    found = DataError("gone", key="inner").at(key="outer", file="list.jsonl", line=4, field="image")
    assert found.record() == {
        "key": "inner",
        "file": "list.jsonl",
        "line": 4,
        "field": "image",
        "reason": "gone",
    }
    assert WHOLE.at(key="x", file="y", line=9, field="z").record() == WHOLE.record()


def test_it_comes_back_whole_from_another_process():
    found = pickle.loads(pickle.dumps(WHOLE))
    assert type(found) is DataError
    assert found.record() == WHOLE.record()
    assert str(found) == str(WHOLE)


@pytest.mark.parametrize("kind", [ConfigError, CheckpointError, CapabilityError, DataError])
def test_all_are_of_one_family(kind):
    assert issubclass(kind, SensoriumError)


def test_the_nearest_name_is_proposed_or_a_short_list_or_nothing():
    assert nearest("dpeth", ["depth", "width"]) == " (did you mean 'depth'?)"
    assert nearest("zzz", ["depth", "width"]) == " (one of: depth, width)"
    assert nearest("zzz", [f"name{i}" for i in range(30)]) == ""
    assert nearest("zzz", []) == ""
