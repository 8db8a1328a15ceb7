"""Matrices of 8 bits: how far they are from what they stand for, and that their products are theirs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core import int8
from sensorium.core.int8 import Int8Matrix
from sensorium.core.kernels import int8_product
from sensorium.core.product import linear


def matrix(height: int, width: int, dtype: torch.dtype = torch.float32) -> Int8Matrix:
    torch.manual_seed(0)
    return Int8Matrix.of(torch.randn(height, width, dtype=torch.float64).to(dtype))


def exact(held: Int8Matrix, x: Tensor, bias: Tensor | None = None) -> Tensor:
    whole = held.values.double() * held.scale.double()[:, None]
    return F.linear(x.double(), whole, None if bias is None else bias.double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_each_number_is_the_nearest(dtype: torch.dtype):
    weight = (torch.randn(7, 33, dtype=torch.float64) * torch.logspace(-3, 2, 7)[:, None]).to(dtype)
    held = Int8Matrix.of(weight)
    assert held.values.dtype == torch.int8
    assert held.scale.dtype == held.dtype == dtype
    assert held.values.abs().amax(1).tolist() == [127] * 7
    off = (held.values.double() * held.scale.double()[:, None] - weight.double()).abs()
    # Half a step; the largest, where the scale is rounded, up to what it was rounded by.
    slack = 127 * torch.finfo(dtype).eps
    assert (off <= (0.5 + slack) * held.scale.double()[:, None]).all()


def test_rows_without_numbers_and_the_smallest_ones():
    weight = torch.tensor([[0.0, 0.0], [1e-45, -1e-45], [3.0, -1.5]])
    held = Int8Matrix.of(weight)
    assert held.scale.isfinite().all()
    assert held.dense()[:2].abs().max() <= 2e-45
    torch.testing.assert_close(held.dense()[2], weight[2], atol=0.012, rtol=0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 40])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (70, 129), (300, 576)])
@pytest.mark.parametrize("biased", [False, True])
def test_products(count: int, height: int, width: int, biased: bool):
    held = matrix(height, width)
    x, bias = torch.randn(count, width), torch.randn(height) if biased else None
    expected = exact(held, x, bias)
    bound = 1e-6 * (1 + width**0.5) * 3
    torch.testing.assert_close(held.linear(x, bias).double(), expected, atol=bound, rtol=1e-6)
    torch.testing.assert_close(linear(x, held, bias).double(), expected, atol=bound, rtol=1e-6)


@pytest.mark.parametrize("compiler", ["as it is", "none"])
def test_shapes_and_strides_of_what_is_multiplied(compiler: str, monkeypatch: pytest.MonkeyPatch):
    if compiler == "none":
        monkeypatch.setattr(int8, "int8_product", lambda: None)
    held = matrix(12, 10)
    x = torch.randn(10, 3, 2).transpose(0, 2)
    for given in (x, x[:, :1], x[0, 0], x[:0]):
        torch.testing.assert_close(held.linear(given).double(), exact(held, given), atol=1e-5, rtol=0)
    columns = Int8Matrix(matrix(10, 12).values.T, held.scale)
    torch.testing.assert_close(columns.linear(x).double(), exact(columns, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernel_and_torch_agree(threads: int, monkeypatch: pytest.MonkeyPatch):
    if int8_product() is None:
        pytest.skip("there is no C compiler with OpenMP")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    held, x = matrix(700, 576), torch.randn(8, 576)
    by_kernel = held.linear(x)
    assert held._kernel_serves(x)
    monkeypatch.setattr(int8, "int8_product", lambda: None)
    assert not held._kernel_serves(x)
    torch.testing.assert_close(by_kernel, held.linear(x), atol=1e-4, rtol=1e-5)


def test_large_matrices_are_written_out_in_blocks(monkeypatch: pytest.MonkeyPatch):
    held, x = matrix(50, 16, torch.float64), torch.randn(9, 16, dtype=torch.float64)
    whole = held.linear(x)
    monkeypatch.setattr(int8, "_BLOCK", 7 * 16)
    seen = []
    monkeypatch.setattr(int8, "linear", lambda x, block: seen.append(len(block)) or F.linear(x, block))
    torch.testing.assert_close(held.linear(x), whole, atol=1e-12, rtol=0)
    assert seen == [7] * 7 + [1]


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.bfloat16, 2e-2), (torch.float16, 4e-3)]
)
def test_other_types(dtype: torch.dtype, bound: float):
    held = matrix(40, 64, dtype)
    x = torch.randn(3, 64).to(dtype)
    y = held.linear(x, torch.zeros(40, dtype=dtype))
    assert y.dtype == dtype
    expected = exact(held, x)
    assert ((y.double() - expected).norm() / expected.norm()).item() < bound


def test_sums_in_half_precision_stay_in_range():
    held = Int8Matrix.of(torch.full((2, 1000), 0.01, dtype=torch.float16))
    y = held.linear(torch.full((1, 1000), 4.0, dtype=torch.float16))
    torch.testing.assert_close(y, torch.full((1, 2), 40.0, dtype=torch.float16), atol=0.1, rtol=0)


def test_what_is_multiplied_has_a_gradient():
    held = matrix(6, 5, torch.float64)
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    held.linear(x).sum().backward()
    torch.testing.assert_close(x.grad, held.dense().sum(0).expand(2, 5), atol=1e-12, rtol=0)
    x = torch.randn(2, 5, requires_grad=True)
    assert matrix(6, 5).linear(x).requires_grad


def test_rows_and_parts():
    held = matrix(9, 4)
    ids = torch.tensor([[0, 8], [3, 3]])
    assert torch.equal(held.rows(ids), held.dense()[ids])
    assert [part.shape for part in held.split([2, 3, 4])] == [(2, 4), (3, 4), (4, 4)]
    assert torch.equal(torch.cat([part.dense() for part in held.split([2, 3, 4])]), held.dense())
    assert len(held) == 9
    assert held.shape == (9, 4)
    assert held.device == torch.device("cpu")


def test_compiled_code_takes_the_way_of_every_device():
    held, x = matrix(6, 5), torch.randn(2, 5)
    program = torch.compile(
        lambda x: Int8Matrix(held.values, held.scale).linear(x), backend="eager", fullgraph=True
    )
    torch.testing.assert_close(program(x), held.linear(x), atol=1e-6, rtol=0)
