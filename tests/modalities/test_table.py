from __future__ import annotations

import io

import numpy as np
import pytest

from sensorium.core import DataError
from sensorium.modalities.table import from_csv, from_npy


def saved(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i2", "i8", "u1", "?", ">f4", ">i2"])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_numpys(kind, shape, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape).astype(kind), order=order)
    found = from_npy(saved(array))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_npy_version_2():
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(6.0).reshape(2, 3), version=(2, 0))
    assert from_npy(buffer.getvalue()).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(np.array([{"a": 1}], object), allow_pickle=True), "plain numbers"),
        (saved(np.array(["text"])), "plain numbers"),
        (saved(np.zeros(2, [("a", "f4")])), "plain numbers"),
        (saved(np.zeros(2, complex)), "plain numbers"),
        (saved(np.zeros((4, 3)))[:-1], "declares 96 bytes of numbers, found 95"),
        (saved(np.zeros(3)) + b"x", "declares 24 bytes of numbers, found 25"),
        (saved(np.zeros(3)).replace(b"(3,)", b"(9999999999,)"), "plain numbers|declares"),
        (b"\x93NUMPY", "plain numbers"),
    ],
)
def test_npy_refuses(content, reason):
    with pytest.raises(DataError, match=reason):
        from_npy(content)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv_delimiters(delimiter, ending):
    lines = [delimiter.join(row) for row in (("x", "y"), ("1", "-2.5e3"), ("", ""), (" 3 ", '"4"'))]
    table, names = from_csv(ending.join(lines).encode(), None)
    assert names == ["x", "y"]
    assert table.tolist() == [[1, -2500], [3, 4]]


def test_csv_without_names_and_of_one_column():
    table, names = from_csv(b"\xef\xbb\xbf1\n2\n\n3", None)
    assert names is None
    assert table.tolist() == [[1], [2], [3]]


def test_csv_columns_are_chosen_by_name():
    table, names = from_csv(b"time,z,x\n0,1,2\n1,3,4\n", ["x", "z"])
    assert names == ["x", "z"]
    assert table.tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    ("content", "columns", "reason"),
    [
        (b"a,b\n1,2\n3\n", None, "line 3: expected 2 columns, found 1"),
        (b"a,b\n1,2\n3,oops\n", None, "line 3, column 'b': expected a number, found 'oops'"),
        (b"1,2\n3,\n", None, "line 2, column 2: expected a number, found ''"),
        (b"a,b\n", None, "no rows"),
        (b"\n\n", None, "no rows"),
        (b"1,2\n\xff", None, "UTF-8 or an NPY file, found the byte 0xff at position 4"),
        (b"time,x\n1,2\n", ["y"], "no column 'y': found time, x"),
        (b"1,2\n", ["x"], "column names x, found only numbers"),
    ],
)
def test_csv_refuses(content, columns, reason):
    with pytest.raises(DataError, match=reason):
        from_csv(content, columns)
