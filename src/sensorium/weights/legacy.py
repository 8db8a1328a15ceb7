"""Pickled weights (``.bin``, ``.pt``, ``.pth``), read only where reading them runs no code.

The one place of this package that opens a pickle: torch's reader, restricted to tensors and plain containers.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

from ..core.errors import CheckpointError
from .safetensors_file import DTYPES
from .stored import Stored

_NESTED = "state_dict"
_ZIP = b"PK\x03\x04"
_PARALLEL = "module."  # what torch's data-parallel wrappers put before every name
_NEEDS_CODE = re.compile(r"GLOBAL ([\w.]+)")
_ADVICE = "ask its author for safetensors, or convert it yourself where you trust it"


def open_legacy(file: Path) -> dict[str, Stored]:
    """The tensors of a pickled state dict by name, mapped where the file is a zip archive of torch 1.6 or later.

    ``{"state_dict": ...}`` and names that all begin with ``module.`` are unwrapped. Raises CheckpointError
    naming the file for one that needs code to run, holds a program (TorchScript), is damaged or compressed, or
    has anything but dense tensors of ordinary numbers.
    """
    zipped = _check_archive(file)
    place: Any = "cpu" if zipped else _blank(file)
    try:
        found = torch.load(file, map_location=place, mmap=zipped, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001  (a damaged pickle can raise anything)
        raise CheckpointError(_reason(file, error)) from None
    state = _state_dict(found, file)
    size = file.stat().st_size
    for name, tensor in state.items():
        _check_tensor(tensor, size, f"{file}: {name!r}")
    if state and all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): tensor for name, tensor in state.items()}
    return {name: _stored(file, tensor.detach()) for name, tensor in state.items()}


def _stored(file: Path, tensor: Tensor) -> Stored:
    return Stored(file, tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _blank(file: Path) -> Callable[[UntypedStorage, str], UntypedStorage]:
    """Gives torch zeros to read into: what a hostile file claims but does not hold would else be our own memory."""
    left = file.stat().st_size

    def blank(storage: UntypedStorage, _: str) -> UntypedStorage:
        nonlocal left
        left -= storage.nbytes()
        if left < 0:
            raise CheckpointError(f"{file}: damaged: claims more bytes of tensors than the file has")
        return storage.fill_(0)  # type: ignore[attr-defined]

    return blank


def _check_archive(file: Path) -> bool:
    """Whether ``file`` is a zip archive, of records that are stored as they are: nothing in it can swell."""
    try:
        with file.open("rb") as stream:
            if stream.read(4) != _ZIP:  # which is how torch tells
                return False
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise CheckpointError(
            f"{file}: a TorchScript archive, which is a program and not only weights; "
            f"use the same model as safetensors in the transformers or open_clip layout"
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise CheckpointError(
                f"{file}: the record {record.filename!r} is compressed, which torch never does"
            )
    return True


def _reason(file: Path, error: Exception) -> str:
    """Without torch's own words, which advise to run the code."""
    if found := _NEEDS_CODE.search(str(error)):
        return f"{file}: not read, since that would run code: {found[1]}; {_ADVICE}"
    return f"{file}: damaged, or more than plain tensors in a form that torch saves ({type(error).__name__}); {_ADVICE}"


def _state_dict(found: Any, file: Path) -> Mapping[str, Any]:
    if isinstance(found, Mapping) and isinstance(found.get(_NESTED), Mapping):
        found = found[_NESTED]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file}: expected a dict of names and tensors, found {type(found).__name__}")
    for name in found:
        if not isinstance(name, str):
            raise CheckpointError(f"{file}: expected names of tensors, found the key {name!r:.80}")
    return found


def _check_tensor(value: Any, size: int, where: str) -> None:
    if type(value) not in (Tensor, nn.Parameter):
        raise CheckpointError(f"{where}: expected a tensor, found {type(value).__name__}")
    if value.layout is not torch.strided or value.dtype not in DTYPES.values() or value.is_quantized:
        raise CheckpointError(
            f"{where}: expected a dense tensor of numbers, found {value.dtype} with layout {value.layout}"
        )
    if value.device.type != "cpu" or value.is_nested:
        raise CheckpointError(f"{where}: expected a tensor with its values, found one of {value.device}")
    room = value.untyped_storage().nbytes()
    needed = value.numel() * value.element_size()
    if needed > room or room > size:
        raise CheckpointError(
            f"{where}: claims {needed:,} bytes in a storage of {room:,}, in a file of {size:,} bytes"
        )
