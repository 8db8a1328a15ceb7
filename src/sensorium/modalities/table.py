"""Tables of numbers: CSV text and NPY files, without pickles and without surprises."""

from __future__ import annotations

import csv
import math
import re
from array import array

import numpy as np

from ..core import DataError, nearest

NPY_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '(\|b1|\|[iu]1|[<>][iuf][248])', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\),? *\}\s*"
)


def from_npy(content: bytes) -> np.ndarray:
    """The array in an NPY file of plain numbers.

    The header is read here rather than evaluated, and its shape is compared with the bytes that follow.
    Raises DataError for objects, records, or a file that is damaged or cut short.
    """
    wide = content[6:7] > b"\1"
    start = 12 if wide else 10
    end = start + int.from_bytes(content[8:start], "little")
    header = _HEADER.fullmatch(content[start:end])
    if header is None:
        raise DataError(
            f"expected an NPY header of plain numbers, found {content[start : min(end, start + 60)]!r}"
        )
    kind = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in header[3].replace(b" ", b"").split(b",") if n)
    expected, found = math.prod(shape) * kind.itemsize, len(content) - end
    if found != expected:
        raise DataError(f"the NPY file declares {expected:,} bytes of numbers, found {found:,}")
    values = np.frombuffer(content, kind, offset=end)
    return values.reshape(shape[::-1]).T if header[2] == b"True" else values.reshape(shape)


def from_csv(content: bytes, columns: list[str] | None) -> tuple[np.ndarray, list[str] | None]:
    """Rows of numbers, float64 [rows, columns], and the names in the first line if it holds any.

    Fields are separated by the most frequent of comma, semicolon and tab. ``columns`` chooses and orders
    columns by name. Raises DataError with the line and column of anything that is not a number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected CSV text in UTF-8 or an NPY file, found the byte {content[error.start]:#04x} "
            f"at position {error.start:,}"
        ) from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    names, places, width = None, None, 0
    values = array("d")
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if width == 0:
                width = len(row)
                if not all(_is_number(field) for field in row):
                    names = [field.strip() for field in row]
                places = _places(columns, names)
                if names is not None:
                    continue
            if len(row) != width:
                raise DataError(f"line {rows.line_num}: expected {width} columns, found {len(row)}")
            _append(values, row, rows.line_num, names)
    except csv.Error as error:
        raise DataError(f"line {rows.line_num}: not CSV ({error})") from None
    if not values:
        raise DataError("the table has no rows of numbers")
    table = np.array(values).reshape(-1, width)
    if places is None:
        return table, names
    return table[:, places], columns


def _append(values: array[float], row: list[str], line: int, names: list[str] | None) -> None:
    try:
        values.extend([float(field) for field in row])
    except ValueError:
        place = next(place for place, field in enumerate(row) if not _is_number(field))
        column = repr(names[place]) if names else str(place + 1)
        raise DataError(
            f"line {line}, column {column}: expected a number, found {row[place][:40]!r}"
        ) from None


def _places(columns: list[str] | None, names: list[str] | None) -> list[int] | None:
    if columns is None:
        return None
    if names is None:
        raise DataError(
            f"expected a first line with the column names {', '.join(columns)}, found only numbers"
        )
    for column in columns:
        if column not in names:
            raise DataError(f"no column {column!r}: found {', '.join(names)[:200]}{nearest(column, names)}")
    return [names.index(column) for column in columns]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
