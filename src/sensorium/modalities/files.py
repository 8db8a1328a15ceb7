"""Opening a path or bytes under a size limit. Every way in which that can fail is a DataError."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..core import DataError

GIB = 1024**3
MIB = 1024**2

_REASONS = {
    errno.ENOENT: "file not found",
    errno.ENOTDIR: "file not found",
    errno.EACCES: "no permission to read",
    errno.EPERM: "no permission to read",
    errno.EISDIR: "expected a file, found a directory",
}


def is_source(value: object) -> bool:
    """Whether ``value`` names or holds a file, rather than being a decoded value."""
    return isinstance(value, str | Path | bytes | bytearray | memoryview)


def open_source(source: object, limit: int) -> BinaryIO:
    """A seekable handle on a path (``str`` or ``Path``) or on a file's content (``bytes``); to be closed.

    Raises DataError if there is no such regular file, or if it is empty or larger than ``limit`` bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        _check_size(memoryview(source).nbytes, limit)
        return io.BytesIO(source)
    if not isinstance(source, str | Path):
        raise DataError(f"expected a path or bytes, found {type(source).__name__}")
    try:
        found = os.stat(source)
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"expected a file, found a directory: {source}")
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"expected a regular file, found a device or pipe: {source}")
        _check_size(found.st_size, limit)
        return open(source, "rb")
    except OSError as error:
        raise DataError(
            f"{_REASONS.get(error.errno or 0, f'cannot be opened ({error.strerror})')}: {source}"
        ) from None
    except ValueError:  # a NUL character or a lone surrogate
        raise DataError(f"not a path: {str(source)[:80]!r}") from None


def read_bytes(source: object, limit: int) -> bytes:
    """The whole content of ``source``. Raises DataError as ``open_source`` does, or if reading fails."""
    with open_source(source, limit) as handle:
        try:
            return handle.read()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}") from None


def peek(handle: BinaryIO, length: int = 16) -> bytes:
    """The first bytes, leaving the handle at its start."""
    head = handle.read(length)
    handle.seek(0)
    return head


def beginning(head: bytes) -> str:
    """How an error names the content that it found."""
    return f"found a file that begins with {head[:12]!r}"


def _check_size(size: int, limit: int) -> None:
    if size == 0:
        raise DataError("the file is empty (0 bytes)")
    if size > limit:
        raise DataError(f"the file has {size:,} bytes, the limit is {limit:,}")
