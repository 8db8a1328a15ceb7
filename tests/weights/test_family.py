"""Families of public checkpoints: which folders are theirs, what is read once, and what is written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sensorium.core import CheckpointError, Spec
from sensorium.weights.card import Card
from sensorium.weights.family import Family, Folder, write_files
from sensorium.weights.keymap import KeyMap

FAMILY = Family(
    name="mine",
    model_types=("mine", "mine-too"),
    read=lambda folder: Spec(dict),
    write=lambda spec: {},
    keys=lambda spec: KeyMap([]),
    card=Card(title="Mine", paper="I 2024", licence="MIT", preparation="none"),
)


def folder(place: Path, **files: object) -> Folder:
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return Folder(place)


@pytest.mark.parametrize(
    ("config", "accepted"),
    [({"model_type": "mine"}, True), ({"model_type": "mine-too"}, True), ({"model_type": "other"}, False), ({}, False)],
)  # fmt: skip
def test_the_type_of_the_config_decides(config: dict, accepted: bool, tmp_path: Path):
    assert FAMILY.accepts(folder(tmp_path, config=config)) is accepted


def test_without_its_config_a_folder_is_not_theirs(tmp_path: Path):
    assert not FAMILY.accepts(Folder(tmp_path))
    mine = folder(tmp_path, config={"model_type": "mine"}, other={"claimed": True})
    assert not replace(FAMILY, config_file="missing.json").accepts(mine)
    claims = replace(FAMILY, config_file="other.json", claims=lambda config: config.take("claimed", bool))
    assert claims.accepts(mine)
    assert not replace(claims, claims=lambda config: False).accepts(mine)


def test_a_damaged_config_is_an_error_and_no_stranger(tmp_path: Path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not strict JSON"):
        FAMILY.accepts(Folder(tmp_path))


def test_files_are_read_once(tmp_path: Path):
    mine = folder(tmp_path, config={"model_type": "mine"}, more={"a": 1})
    assert mine.config is mine.config is mine.read("config.json")
    assert mine.read("more.json").take("a", int) == 1
    assert mine.json("more.json") == {"a": 1}
    assert mine.json("missing.json") is None
    with pytest.raises(CheckpointError, match=r"missing\.json: cannot be read"):
        mine.read("missing.json")
    (tmp_path / "more.json").write_text("[]")
    assert mine.read("more.json").take("a", int) == 1
    with pytest.raises(CheckpointError, match=r"more\.json: expected a JSON object"):
        mine.json("more.json")


def test_what_a_user_is_told(tmp_path: Path):
    mine = folder(
        tmp_path, config={"model_type": "mine", "auto_map": {"A": "b.C"}}, more={"trust_remote_code": True}
    )
    for name in ("config.json", "more.json"):
        mine.read(name).ignore("model_type")
        mine.read(name).finish()
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    code, more, licence = mine.notices()
    assert re.search(r"config\.json: auto_map: names code, which is never run", code)
    assert re.search(r"more\.json: trust_remote_code", more)
    assert "cc-by-nc-4.0" in licence
    assert Folder(tmp_path).notices() == (licence,)


def test_weights_of_its_own_name_come_first(tmp_path: Path):
    mine = folder(tmp_path, config={})
    save_file({"usual": torch.zeros(1)}, tmp_path / "model.safetensors")
    named = replace(FAMILY, weights_files=("first.safetensors", "second.safetensors"))
    assert list(named.weights(mine)) == ["usual"]
    save_file({"own": torch.zeros(1)}, tmp_path / "second.safetensors")
    assert list(named.weights(mine)) == ["own"]
    assert list(FAMILY.weights(mine)) == ["usual"]


def test_files_are_written_to_be_compared(tmp_path: Path):
    write_files(tmp_path, {"config.json": {"b": [1, 2], "a": None}, "more.json": {}})
    assert (tmp_path / "config.json").read_text() == '{\n  "a": null,\n  "b": [\n    1,\n    2\n  ]\n}\n'
    assert (tmp_path / "more.json").read_text() == "{}\n"
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.json: cannot be written: Is a directory"):
        write_files(tmp_path, {"folder.json": {}})
