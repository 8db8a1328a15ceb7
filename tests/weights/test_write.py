from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sensorium.weights import write as module
from sensorium.weights.safetensors_file import write_safetensors
from sensorium.weights.tensors import open_tensors
from sensorium.weights.write import write_tensors

TENSORS = {f"layer.{i}": torch.full((10,), float(i)) for i in range(5)}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_one_file(tmp_path) -> None:
    assert write_tensors(tmp_path / "new", TENSORS) == [tmp_path / "new" / "model.safetensors"]
    assert names(tmp_path / "new") == ["model.safetensors"]
    with safe_open(tmp_path / "new" / "model.safetensors", "pt") as found:
        assert found.metadata() == {"format": "pt"}
    found = open_tensors(tmp_path / "new")
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize(("room", "count"), [(200, 1), (199, 2), (80, 3), (40, 5), (1, 5)])
def test_shards(tmp_path, room: int, count: int) -> None:
    write_tensors(tmp_path, TENSORS, shard_bytes=room)
    found = open_tensors(tmp_path)
    assert {found.file(name).name for name in found} == (
        {f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)}
        if count > 1
        else {"model.safetensors"}
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    if count > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"] == {"total_size": 200}


def test_transformers_opens_shards(tmp_path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9
    )
    model = BertModel(config)
    config.save_pretrained(tmp_path)
    write_tensors(tmp_path, model.state_dict(), shard_bytes=1000)
    assert len(names(tmp_path)) > 4
    again, said = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_other_names(tmp_path) -> None:
    write_tensors(tmp_path, TENSORS, name="open_clip_model.safetensors")
    write_tensors(tmp_path, TENSORS, shard_bytes=100)
    assert "open_clip_model.safetensors" in names(tmp_path)
    write_tensors(tmp_path, TENSORS, name="open_clip_model.safetensors", shard_bytes=100)
    assert "open_clip_model-00001-of-00003.safetensors" in names(tmp_path)
    assert "open_clip_model.safetensors" not in names(tmp_path)


def test_no_old_weights_stay(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    write_tensors(tmp_path, TENSORS, shard_bytes=40)
    write_tensors(tmp_path, TENSORS, shard_bytes=100)
    assert len(open_tensors(tmp_path)) == 5
    assert len(names(tmp_path)) == 1 + 1 + 3
    write_tensors(tmp_path, TENSORS)
    assert names(tmp_path) == ["config.json", "model.safetensors"]
    write_tensors(tmp_path, TENSORS, shard_bytes=100)
    assert "model.safetensors" not in names(tmp_path)


def test_onto_the_file_they_are_read_from(tmp_path) -> None:
    write_tensors(tmp_path, TENSORS)
    mapped = open_tensors(tmp_path)
    doubled = {name: mapped[name] for name in mapped}
    write_tensors(tmp_path, doubled | {"more": torch.ones(3)})
    assert torch.equal(mapped["layer.3"], TENSORS["layer.3"])
    assert torch.equal(open_tensors(tmp_path)["layer.3"], TENSORS["layer.3"])


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    write_tensors(tmp_path, TENSORS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = 0

    def full(file: Path, *args, **kwargs) -> None:
        nonlocal calls
        calls += 1
        write_safetensors(file, *args, **kwargs)
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path, {"other": torch.ones(9), "another": torch.ones(9)}, shard_bytes=1)
    assert calls == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("survives", range(4))
def test_a_crash_between_names_is_no_mixture(tmp_path, monkeypatch, survives: int) -> None:
    """Two sets of shards of the same names: after a crash the directory is the old, the new or of no weights."""
    write_tensors(tmp_path, TENSORS, shard_bytes=100)
    renamed = 0

    def dies(old: Path, new: Path) -> None:
        nonlocal renamed
        if renamed == survives:
            raise KeyboardInterrupt
        renamed += 1
        old.rename(new)

    monkeypatch.setattr(module.os, "replace", dies)
    fresh = {name: tensor + 100 for name, tensor in TENSORS.items()}
    with pytest.raises(KeyboardInterrupt):
        write_tensors(tmp_path, fresh, shard_bytes=100)
    assert "model.safetensors.index.json" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]
