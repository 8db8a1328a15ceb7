"""The safetensors format: what a file says it holds is checked whole before any of it is used.

A file is the length of its header (8 bytes, little-endian), the header (JSON) and the tensors' bytes, which
leave no gap and no rest. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from .stored import Stored
from .strict_json import parse_object

LONGEST_HEADER = 100_000_000
_METADATA = "__metadata__"
_GIT_LFS = b"version "
_LARGEST = 2**63 - 1

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """A tensor as the header describes it; ``start`` and ``end`` are bytes after the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def open_safetensors(file: Path) -> dict[str, Stored]:
    """The tensors of ``file`` by name. Reading one maps the file and copies nothing.

    Raises CheckpointError naming the file and the tensor for anything the format does not allow.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(file)
    try:
        handle = safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from None
    with file.open("rb") as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")
    return {
        name: Stored(file, entry.shape, entry.dtype, partial(handle.get_tensor, name), begin + entry.start)
        for name, entry in header.items()
    }


def read_header(file: Path) -> dict[str, Entry]:
    """What ``file`` holds. Reads the header alone.

    Raises CheckpointError naming the file and the tensor or field, what was expected and what was found.
    """
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            prefix = stream.read(8)
            if prefix == _GIT_LFS:
                raise CheckpointError(
                    f"{file}: a pointer of Git LFS instead of the weights; get them with: git lfs pull"
                )
            if len(prefix) < 8:
                raise CheckpointError(f"{file}: expected a safetensors file, found {len(prefix)} bytes")
            (length,) = struct.unpack("<Q", prefix)
            if length > min(LONGEST_HEADER, size - 8):
                raise CheckpointError(
                    f"{file}: truncated or hostile: its header claims {length:,} bytes; "
                    f"at most {LONGEST_HEADER:,} are allowed and {size - 8:,} are left in the file"
                )
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    fields = parse_object(text, f"{file}: header")
    _check_metadata(fields.pop(_METADATA, {}), file)
    entries = {name: _entry(value, f"{file}: the tensor {name!r}") for name, value in fields.items()}
    _check_coverage(entries, size - 8 - length, file)
    return entries


def _check_metadata(value: Any, file: Path) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise CheckpointError(f"{file}: {_METADATA}: expected an object of strings, found {_short(value)}")


def _entry(value: Any, where: str) -> Entry:
    expected = {"dtype", "shape", "data_offsets"}
    if not isinstance(value, dict) or set(value) != expected:
        raise CheckpointError(f"{where}: expected an object of {sorted(expected)}, found {_short(value)}")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise CheckpointError(
            f"{where}: dtype: expected one of {', '.join(DTYPES)}, found {_short(value['dtype'])}"
        )
    shape, offsets = value["shape"], value["data_offsets"]
    for field, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(_is_size(number) for number in numbers):
            raise CheckpointError(
                f"{where}: {field}: expected a list of integers from 0, found {_short(numbers)}"
            )
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets: expected a start and an end, found {offsets}")
    if math.prod(filter(None, shape)) * dtype.itemsize > _LARGEST:
        raise CheckpointError(f"{where}: shape: too large: {_short(shape)}")
    start, end = offsets
    needed = math.prod(shape) * dtype.itemsize
    if end - start != needed:
        raise CheckpointError(
            f"{where}: {value['dtype']} of shape {_short(shape)} is {needed:,} bytes, "
            f"but data_offsets gives it {end - start:,}"
        )
    return Entry(dtype, tuple(shape), start, end)


def _check_coverage(entries: Mapping[str, Entry], size: int, file: Path) -> None:
    """Every byte after the header is in one tensor."""
    reached, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached:
            what = "overlaps" if entry.start < reached else "leaves a gap after"
            raise CheckpointError(
                f"{file}: the tensor {name!r} {what} {before}: expected it to start at byte {reached:,}, "
                f"found {entry.start:,}"
            )
        reached, before = entry.end, repr(name)
    if reached != size:
        state = "truncated" if reached > size else "followed by bytes of no tensor"
        raise CheckpointError(f"{file}: {state}: expected {reached:,} bytes after the header, found {size:,}")


def write_safetensors(file: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write one file, with at most one tensor copied at a time; on disk when this returns.

    Tensors may share memory; each is written whole. ``tensors`` is gone through twice. Raises
    CheckpointError for a tensor that the format cannot hold, and OSError as it comes.
    """
    sizes = {name: _written(name, tensor, file) for name, tensor in tensors.items()}
    # Wide types first, so that every tensor is aligned to its own type.
    order = sorted(sizes, key=lambda name: (-sizes[name].dtype.itemsize, name))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    reached = 0
    for name in order:
        dtype, shape, _, length = sizes[name]
        offsets = [reached, reached := reached + length]
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            stream.write(flat.view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())


def _written(name: str, tensor: Tensor, file: Path) -> Entry:
    if tensor.layout is not torch.strided or tensor.dtype not in _NAMES or name == _METADATA:
        raise CheckpointError(
            f"{file}: the tensor {name!r} ({tensor.layout}, {tensor.dtype}) cannot be stored as safetensors"
        )
    return Entry(tensor.dtype, tuple(tensor.shape), 0, tensor.numel() * tensor.element_size())


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _short(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
