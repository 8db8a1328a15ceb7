"""Checkpoints: a directory of safetensors and JSON, complete or absent, with the hash of every file.

A checkpoint is written beside the others under a temporary name, synced, and renamed; a crash at any
moment leaves the earlier ones intact. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import CheckpointError

_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """Named groups of tensors (``weights``, ``average``, ``optimizer``, ``random``) and a JSON state."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run. ``keep`` of the newest stay."""

    directory: Path
    keep: int = 2

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write and then remove what the retention rule lets go. OSError (a full disk) leaves the old ones intact."""
        from safetensors.torch import save_file

        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"{_PREFIX}{step:09d}"
        temporary = self.directory / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            for name, tensors in checkpoint.tensors.items():
                contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
                try:
                    save_file(contiguous, temporary / f"{name}.safetensors")
                except Exception as error:  # noqa: BLE001  safetensors reports a full disk by its own class
                    raise OSError(f"cannot write {name}.safetensors: {error}") from None
            (temporary / "state.json").write_text(json.dumps(checkpoint.state, indent=1))
            files = sorted(temporary.iterdir())
            hashes = {file.name: _sha256(file) for file in files}
            (temporary / "hashes.json").write_text(json.dumps(hashes, indent=1))
            for file in (*files, temporary / "hashes.json", temporary):
                _sync(file)
            if final.exists():
                shutil.rmtree(final)
            os.rename(temporary, final)
            _sync(self.directory)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.directory / f"{_PREFIX}{old:09d}")
        return final

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, oldest first."""
        if not self.directory.is_dir():
            return []
        names = [p.name.removeprefix(_PREFIX) for p in self.directory.iterdir() if p.name.startswith(_PREFIX)]
        return sorted(int(name) for name in names if name.isdigit())

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint whose hashes are right, and a sentence on each damaged one that was passed over."""
        damaged = []
        for step in reversed(self.steps()):
            path = self.directory / f"{_PREFIX}{step:09d}"
            try:
                verify(path)
            except CheckpointError as error:
                damaged.append(str(error))
            else:
                return path, damaged
        return None, damaged


def verify(path: Path) -> None:
    """Raise CheckpointError naming the file if anything is missing or differs from its hash."""
    try:
        hashes = json.loads((path / "hashes.json").read_text())
    except (OSError, ValueError):
        raise CheckpointError(
            f"{path / 'hashes.json'}: missing or unreadable: the checkpoint is damaged"
        ) from None
    for name, expected in hashes.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing: the checkpoint is damaged")
        if _sha256(file) != expected:
            raise CheckpointError(f"{file}: the content differs from its hash: the checkpoint is damaged")


def read(path: Path, groups: tuple[str, ...] = ("weights", "average", "optimizer", "random")) -> Checkpoint:
    """The groups that the checkpoint has, and its state. The caller has verified it."""
    from safetensors.torch import load_file

    present = {name: path / f"{name}.safetensors" for name in groups}
    tensors = {name: load_file(file) for name, file in present.items() if file.is_file()}
    return Checkpoint(tensors, json.loads((path / "state.json").read_text()))


def check_names(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError naming the first tensor that is missing, extra or of another shape."""
    for problem in _differences(expected, found):
        raise CheckpointError(f"{where}: {problem}")


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    for name in expected:
        if name not in found:
            yield f"the tensor {name!r} is missing"
        elif found[name].shape != expected[name].shape:
            yield f"the tensor {name!r} has shape {list(found[name].shape)}, expected {list(expected[name].shape)}"
    for name in found:
        if name not in expected:
            yield f"the tensor {name!r} is not part of the model"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
