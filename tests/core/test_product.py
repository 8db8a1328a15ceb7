"""The products of linear layers by oneDNN are those of torch, whatever the machine would choose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sensorium.core import product
from sensorium.nn.layers.activations import ACTIVATIONS, activation
from sensorium.nn.layers.linear import Linear, linear_then

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
needs_one_dnn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here"
)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN is chosen for products of any size."""
    monkeypatch.setattr(product, "one_dnn_is_faster", lambda: True)
    monkeypatch.setattr(product, "_WORTH", 1)


def drawn(*shape: int, gradient: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_(gradient)


@needs_one_dnn
@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize("rows", [1, 31, 64, 1000, 1577])
@pytest.mark.parametrize("biased", [True, False])
def test_same_as_torch(rows: int, biased: bool):
    x, weight, bias = drawn(rows, 40), drawn(24, 40), drawn(24) if biased else None
    wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
    upstream = drawn(rows, 24, gradient=False)
    ours, theirs = product.linear(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, upstream),
        torch.autograd.grad(theirs, wanted, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(product.linear(x, weight, bias), theirs, **CLOSE)


@needs_one_dnn
@pytest.mark.usefixtures("chosen")
def test_more_axes_and_frozen_parts():
    x, layer = drawn(3, 50, 40), Linear(40, 24)
    layer.weight.requires_grad_(False)
    y = layer(x)
    torch.testing.assert_close(y, F.linear(x, layer.weight, layer.bias), **CLOSE)
    y.sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    torch.testing.assert_close(layer.bias.grad, torch.full((24,), 150.0), **CLOSE)


@needs_one_dnn
@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_with_an_activation(name: str, bias: bool):
    layer, x = Linear(40, 24, bias=bias), drawn(64, 40)
    expected = activation(name)(F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(linear_then(layer, activation(name), x), expected, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(linear_then(layer, activation(name), x), expected, **CLOSE)


@needs_one_dnn
@pytest.mark.usefixtures("chosen")
def test_products():
    a, b = drawn(3, 50, 40, gradient=False), drawn(3, 30, 40, gradient=False)
    torch.testing.assert_close(product.products(a, b), a @ b.mT, **CLOSE)
    torch.testing.assert_close(product.product(a[0], b[0]), a[0] @ b[0].T, **CLOSE)
    torch.testing.assert_close(
        product.product(a[0].T, b[0].new_ones(7, 50)), a[0].T @ torch.ones(50, 7), **CLOSE
    )


@pytest.mark.usefixtures("chosen")
def test_only_where_it_can(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(product, "one_dnn", None)  # to call it would raise
    double = drawn(64, 40).double()
    torch.testing.assert_close(
        product.linear(double, drawn(24, 40).double()), F.linear(double, drawn(24, 40).double())
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert product.linear(drawn(64, 40), drawn(24, 40)).dtype == torch.bfloat16
    assert product.linear(drawn(0, 40), drawn(24, 40)).shape == (0, 24)


def test_of_no_rows_there_are_gradients_also_of_a_large_weight():
    x, weight = torch.zeros(0, 512, requires_grad=True), torch.zeros(1024, 512, requires_grad=True)
    product.linear(x, weight).sum().backward()
    assert x.grad.shape == (0, 512)
    assert not weight.grad.any()


def test_small_products_stay():
    assert not product.fast(torch.zeros(16, 128), torch.zeros(128, 128), None)


def test_numbers_of_rows_are_few():
    """So that few kernels are prepared, and little is computed in vain."""
    filled = {rows: len(product.filled_up(torch.zeros(rows, 1))) for rows in range(1, 5000)}
    assert all(rows <= whole <= rows * 1.07 for rows, whole in filled.items())
    assert len({whole for rows, whole in filled.items() if 1024 <= rows < 2048}) <= 17


@pytest.mark.parametrize(("cpuinfo", "capability", "expected"), [
    ("vendor_id : AuthenticAMD", "AVX512", torch.backends.mkldnn.is_available()),
    ("vendor_id : GenuineIntel", "AVX512", False),
    ("vendor_id : AuthenticAMD", "AVX2", False),
])  # fmt: skip
def test_which_processor(
    cpuinfo: str, capability: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "5")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "5")
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert product.one_dnn_is_faster(tmp_path / "cpuinfo") is expected
    assert product.one_dnn_is_faster(tmp_path / "none") is False


def test_every_linear_layer_is_ours():
    """A layer of torch's own would be half as fast, and nobody would see."""
    root = Path(product.__file__).parents[1] / "nn"
    strays = [file.name for file in root.rglob("*.py") if re.search(r"[^(]nn\.Linear\(", file.read_text())]
    assert strays == []
    assert issubclass(Linear, nn.Linear)
