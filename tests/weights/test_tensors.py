from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sensorium.core.errors import CheckpointError
from sensorium.weights.tensors import open_tensors

ONE, TWO = {"a": torch.ones(2, 3)}, {"b": torch.zeros(4, dtype=torch.int64), "c": torch.ones(1)}


def shards(directory: Path, weight_map: object = None, **files: dict) -> Path:
    files = files or {"one": ONE, "two": TWO}
    for name, tensors in files.items():
        save_file(tensors, directory / f"{name}.safetensors")
    if weight_map is None:
        weight_map = {tensor: f"{name}.safetensors" for name, tensors in files.items() for tensor in tensors}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return directory


@pytest.mark.parametrize("name", ["model", "open_clip_model", "whatever"])
def test_one_file(tmp_path, name: str) -> None:
    save_file(ONE | TWO, tmp_path / f"{name}.safetensors")
    for path in (tmp_path, tmp_path / f"{name}.safetensors", str(tmp_path)):
        tensors = open_tensors(path)
        assert sorted(tensors) == ["a", "b", "c"]
        assert len(tensors) == 3
        assert tensors.where == Path(path)
        assert (tensors.shape("a"), tensors.dtype("b")) == ((2, 3), torch.int64)
        assert tensors.file("a") == tmp_path / f"{name}.safetensors"
        assert torch.equal(tensors["a"], ONE["a"])
        assert "a" in tensors
        assert "d" not in tensors
        assert tensors.get("d") is None


def test_shards(tmp_path) -> None:
    tensors = open_tensors(shards(tmp_path))
    assert sorted(tensors) == ["a", "b", "c"]
    assert tensors.file("a").name == "one.safetensors"
    assert tensors.file("c").name == "two.safetensors"
    assert torch.equal(tensors["c"], TWO["c"])


def test_pickled_shards(tmp_path) -> None:
    torch.save(ONE, tmp_path / "pytorch_model-1.bin")
    torch.save(TWO, tmp_path / "pytorch_model-2.bin")
    weight_map = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin", "c": "pytorch_model-2.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(open_tensors(tmp_path)["c"], TWO["c"])


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        ({}, "weight_map: expected names of tensors and files"),
        ([], "weight_map: expected names of tensors and files"),
        ({"a": 3}, "'a': expected the plain name of a .safetensors file beside the index, found 3"),
        ({"a": "../one.safetensors"}, "'a': expected the plain name"),
        ({"a": "/etc/one.safetensors"}, "'a': expected the plain name"),
        ({"a": "..\\one.safetensors"}, "'a': expected the plain name"),
        ({"a": "one.bin"}, "'a': expected the plain name of a .safetensors file"),
        ({"a": ".."}, "'a': expected the plain name"),
        ({"a": ""}, "'a': expected the plain name"),
        ({"a": "three.safetensors"}, "shards that are not in the directory: 'three.safetensors'"),
        ({"a": "o\0ne.safetensors"}, "shards that are not in the directory"),
        ({"a": "one.safetensors", "b": "two.safetensors"}, "two.safetensors: the tensor 'c' is not in model"),
        (
            {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"},
            "'c' should be in one.safetensors, but found it in two.safetensors",
        ),
        (
            dict.fromkeys("bc", "two.safetensors") | dict.fromkeys("ad", "one.safetensors"),
            "'d' should be in one.safetensors, but it is in no shard",
        ),
    ],
)
def test_an_index_is_taken_at_its_word(tmp_path, weight_map: object, reason: str) -> None:
    shards(tmp_path, weight_map)
    with pytest.raises(CheckpointError) as error:
        open_tensors(tmp_path)
    assert reason in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_tensor_twice(tmp_path) -> None:
    weight_map = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}
    shards(tmp_path, weight_map, one=ONE, two=TWO | ONE)
    with pytest.raises(
        CheckpointError, match=r"two\.safetensors: the tensor 'a' is in one\.safetensors as well"
    ):
        open_tensors(tmp_path)


def test_a_damaged_index(tmp_path) -> None:
    shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x", "a": "y"}}')
    with pytest.raises(CheckpointError, match=r"index\.json: not strict JSON: the name 'a' occurs twice"):
        open_tensors(tmp_path)


def test_safetensors_before_pickles(tmp_path) -> None:
    torch.save({"wrong": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    save_file(TWO, tmp_path / "open_clip_model.safetensors")
    assert "b" in open_tensors(tmp_path)
    save_file(ONE, tmp_path / "model.safetensors")
    assert list(open_tensors(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "open_clip_pytorch_model.bin", "ViT-B-32.pt", "mae_vit_base.pth"]
)
def test_pickles(tmp_path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    torch.save(ONE, tmp_path / name)
    assert torch.equal(open_tensors(tmp_path)["a"], ONE["a"])


def test_nothing_there(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights: looked for model\.safetensors, .*, \*\.pth$"):
        open_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="expected a file of weights, found nothing readable"):
        open_tensors(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"notes\.txt: expected a name ending in \.safetensors, \.bin"):
        open_tensors(tmp_path / "notes.txt")


def test_several_of_other_names(tmp_path) -> None:
    save_file(ONE, tmp_path / "x.safetensors")
    save_file(ONE, tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match=r"expected one .*, found x\.safetensors, y\.safetensors"):
        open_tensors(tmp_path)


def test_what_is_there_is_not_passed_over(tmp_path) -> None:
    torch.save(ONE, tmp_path / "pytorch_model.bin")
    place = tmp_path / "model.safetensors"
    place.mkdir()
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: expected a file of weights, found a directory"
    ):
        open_tensors(tmp_path)
    place.rmdir()
    for target in ("../blobs/gone", "model.safetensors"):
        place.symlink_to(target)
        with pytest.raises(CheckpointError, match="expected a file of weights, found a broken link"):
            open_tensors(tmp_path)
        place.unlink()
    place.write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected a safetensors file, found 0 bytes"):
        open_tensors(tmp_path)
