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

_PREFIX, _TEMPORARY, _DAMAGED = "step-", ".tmp", "damaged-"
GROUPS = ("weights", "average", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """Named groups of tensors (``weights``, ``average``, ``optimizer``) and a JSON state."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run. ``keep`` of the newest stay."""

    directory: Path
    keep: int = 2

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write, and then remove what the retention rule lets go. A whole checkpoint of the step is left as it is.

        OSError (a full disk) leaves the earlier ones intact.
        """
        final = self.path(step)
        if final.exists():
            try:
                verify(final)
            except CheckpointError:
                self.set_aside(step)
            else:
                return final
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True)
            _sync(self.directory.parent)
        for abandoned in self.directory.glob(f".{_PREFIX}*{_TEMPORARY}"):
            shutil.rmtree(abandoned)
        temporary = self.directory / f".{final.name}{_TEMPORARY}"
        try:
            _write(temporary, checkpoint)
            os.rename(temporary, final)
            _sync(self.directory)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))
        return final

    def set_aside(self, step: int) -> None:
        """Rename a damaged checkpoint, so that it is not counted among those that are kept."""
        aside = self.directory / f"{_DAMAGED}{self.path(step).name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(self.path(step), aside)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.directory / f"{_PREFIX}{step:09d}"

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(step for path in self.directory.iterdir() if (step := step_of(path)) is not None)

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint whose hashes are right, and a sentence on each damaged one that was passed over."""
        damaged = []
        for step in reversed(self.steps()):
            try:
                verify(self.path(step))
            except CheckpointError as error:
                damaged.append(str(error))
            else:
                return self.path(step), damaged
        return None, damaged


def step_of(path: Path) -> int | None:
    """The step of a checkpoint; None for any other file."""
    number = path.name.removeprefix(_PREFIX)
    return int(number) if path.name.startswith(_PREFIX) and number.isdigit() else None


def verify(path: Path) -> None:
    """Raise CheckpointError naming the file if anything is missing or differs from its hash."""
    try:
        hashes = json.loads((path / "hashes.json").read_text())
    except (OSError, ValueError):
        hashes = None
    if not isinstance(hashes, dict) or "state.json" not in hashes:
        raise CheckpointError(f"{path / 'hashes.json'}: missing or unreadable: the checkpoint is damaged")
    for name, expected in hashes.items():
        try:
            found = _sha256(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}: the checkpoint is damaged") from None
        if found != expected:
            raise CheckpointError(
                f"{path / name}: the content differs from its hash: the checkpoint is damaged"
            )


def read(path: Path, groups: tuple[str, ...] = GROUPS) -> Checkpoint:
    """The groups that the checkpoint has, and its state. The caller has verified it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    present = {name: path / f"{name}.safetensors" for name in groups}
    try:
        tensors = {name: load_file(file) for name, file in present.items() if file.is_file()}
        return Checkpoint(tensors, json.loads((path / "state.json").read_text()))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def _write(directory: Path, checkpoint: Checkpoint) -> None:
    """All files of a checkpoint, on disk when this returns."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    directory.mkdir()
    for name, tensors in checkpoint.tensors.items():
        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        try:
            save_file(contiguous, directory / f"{name}.safetensors")
        except SafetensorError as error:  # which is how it reports a full disk
            raise OSError(f"cannot write {name}.safetensors: {error}") from None
    (directory / "state.json").write_text(json.dumps(checkpoint.state, indent=1))
    files = sorted(directory.iterdir())
    (directory / "hashes.json").write_text(json.dumps({file.name: _sha256(file) for file in files}, indent=1))
    for path in (*files, directory / "hashes.json", directory):
        _sync(path)


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
