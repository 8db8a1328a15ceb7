"""The chunked loss against the one over all logits: values, gradients, and what is not computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core import ConfigError
from sensorium.core.int8 import Int8Matrix
from sensorium.core.outputs import logits
from sensorium.objectives import linear_cross_entropy as module
from sensorium.objectives.linear_cross_entropy import linear_cross_entropy, token_log_probabilities

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
FORMS: list[dict[str, Any]] = [
    {},
    {"scale": 0.3},
    {"softcap": 2.0},
    {"smoothing": 0.2},
    {"scale": 1.7, "softcap": 1.5, "smoothing": 0.1},
]
CHUNKS = (None, 1, 4, 7, 100)


@dataclass
class Given:
    """Everything a loss is made of; ``bias`` may be left out."""

    rows: Tensor
    table: Tensor
    target: Tensor
    weight: Tensor
    bias: Tensor | None

    @property
    def leaves(self) -> list[Tensor]:
        return [one for one in (self.rows, self.table, self.weight, self.bias) if one is not None]


def given(
    m: int = 9, v: int = 23, d: int = 5, bias: bool = True, dtype: torch.dtype = torch.float64
) -> Given:
    generator = torch.Generator().manual_seed(m)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    target = torch.randint(0, v, (m,), generator=generator)
    return Given(drawn(m, d), drawn(v, d), target, drawn(m), drawn(v) if bias else None)


def written_out(of: Given, *, smoothing: float = 0.0, **form: Any) -> Tensor:
    made = logits(of.rows, of.table, of.bias, **form)
    return F.cross_entropy(made, of.target, reduction="none", label_smoothing=smoothing)


def total(of: Given, **more: Any) -> Tensor:
    return linear_cross_entropy(of.rows, of.table, of.target, weight=of.weight, bias=of.bias, **more)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_total_is_that_of_all_logits(chunk: int | None, form: dict[str, Any], bias: bool):
    of = given(bias=bias)
    expected = (written_out(of, **form) * of.weight).sum()
    found = total(of, chunk=chunk, **form)
    torch.testing.assert_close(found, expected, **CLOSE)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, of.leaves), torch.autograd.grad(3 * expected, of.leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("form", [form for form in FORMS if "smoothing" not in form], ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_each_token_has_its_probability(chunk: int | None, form: dict[str, Any]):
    of = given()
    expected = -written_out(of, **form)
    found = token_log_probabilities(of.rows, of.table, of.target, bias=of.bias, chunk=chunk, **form)
    torch.testing.assert_close(found, expected, **CLOSE)
    leaves = [of.rows, of.table, of.bias]
    for ours, theirs in zip(
        torch.autograd.grad((found * of.weight).square().sum(), leaves),
        torch.autograd.grad((expected * of.weight).square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]], ids=str)
def test_gradients_are_those_of_small_steps(form: dict[str, Any]):
    of = given(m=5, v=7, d=3)
    target = of.target
    assert torch.autograd.gradcheck(
        lambda rows, table, weight, bias: linear_cross_entropy(
            rows, table, target, weight=weight, bias=bias, chunk=2, **form
        ),
        of.leaves,
    )
    assert torch.autograd.gradcheck(
        lambda rows, table, bias: token_log_probabilities(rows, table, target, bias=bias, chunk=2),
        [of.rows, of.table, of.bias],
    )


def test_without_weights_each_token_counts_one():
    of = given()
    found = linear_cross_entropy(of.rows, of.table, of.target, bias=of.bias)
    torch.testing.assert_close(found, written_out(of).sum(), **CLOSE)


def test_it_may_be_asked_again():
    of = given()
    found = total(of)
    first = torch.autograd.grad(found, of.leaves, retain_graph=True)
    kept = [one.clone() for one in first]
    second = torch.autograd.grad(2 * found, of.leaves)
    for one, before, other in zip(first, kept, second, strict=True):
        assert torch.equal(one, before)  # nobody wrote into what was given away
        torch.testing.assert_close(2 * one, other, **CLOSE)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_of_no_tokens_the_loss_is_nothing_and_so_are_gradients(form: dict[str, Any]):
    of = given(m=0)
    found = total(of, **form)
    assert found.item() == 0
    assert [float(one.sum()) for one in torch.autograd.grad(found, of.leaves)] == [0, 0, 0, 0]
    each = token_log_probabilities(of.rows, of.table, of.target, bias=of.bias)
    assert each.shape == (0,)
    assert torch.autograd.grad(each.sum(), of.table)[0].shape == of.table.shape


class _Counted:
    """How often each of the three products was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: Given) -> None:
        self.widths: list[tuple[int, int]] = []
        plain = module.product

        def product(a: Tensor, b: Tensor) -> Tensor:
            self.widths.append((a.shape[1], b.shape[0]))
            return plain(a, b)

        monkeypatch.setattr(module, "product", product)
        (m, d), v = of.rows.shape, len(of.table)
        self.kinds = {"logits": (d, v), "rows": (v, d), "table": (m, d)}

    def __getitem__(self, kind: str) -> int:
        return self.widths.count(self.kinds[kind])


@pytest.mark.parametrize("learnt", ["rows", "table", "bias", "weight", "none", "no grad"])
def test_what_needs_no_gradient_is_not_computed(learnt: str, monkeypatch: pytest.MonkeyPatch):
    of = given()
    for name in ("rows", "table", "bias", "weight"):
        getattr(of, name).requires_grad_(name == learnt or learnt == "no grad")
    made = _Counted(monkeypatch, of)
    with torch.set_grad_enabled(learnt != "no grad"):
        found = total(of)
    assert found.requires_grad is (learnt not in ("none", "no grad"))
    if found.requires_grad:
        found.backward()
        grads = {name: getattr(of, name).grad is not None for name in ("rows", "table", "bias", "weight")}
        assert grads == {name: name == learnt for name in grads}
    assert (made["logits"], made["rows"], made["table"]) == (1, learnt == "rows", learnt == "table")


@pytest.mark.parametrize("chunk", [None, 64, 1])
def test_single_precision_is_as_good_as_that_of_all_logits(chunk: int | None):
    """Large enough for the faster library, where there is one, and of a number of rows that is filled up."""
    of = given(m=301, v=2_000, d=32, dtype=torch.float32)
    exact = Given(
        *(one.detach().double().requires_grad_() for one in (of.rows, of.table)),
        of.target,
        *(one.detach().double().requires_grad_() for one in (of.weight, of.bias)),
    )
    expected = (written_out(exact) * exact.weight).sum()
    found = total(of, chunk=chunk)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)
    for ours, theirs in zip(
        torch.autograd.grad(found, of.leaves), torch.autograd.grad(expected, exact.leaves), strict=True
    ):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_logits_far_apart_are_neither_infinite_nor_lost():
    rows = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    table = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    found = token_log_probabilities(rows, table, torch.tensor([0, 0]))
    assert found.tolist() == [0, -2000]
    total = linear_cross_entropy(rows, table, torch.tensor([0, 0]))
    assert total.item() == 2000
    assert torch.autograd.grad(total, rows)[0].tolist() == [[0], [-2]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_half_precision_the_loss_is_single(dtype: torch.dtype):
    of = given(m=40, v=50, d=16, dtype=dtype, bias=False)
    found = linear_cross_entropy(of.rows, of.table, of.target, chunk=16)
    assert found.dtype == torch.float32
    expected = F.cross_entropy((of.rows @ of.table.T).float(), of.target, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    leaves = [of.rows, of.table]
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=0.05, atol=0.05)


def test_autocast_multiplies_in_its_type():
    of = given(m=40, v=50, d=16, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = total(of, chunk=16)
        expected = (written_out(of) * of.weight).sum()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.1)
    for ours, theirs in zip(
        torch.autograd.grad(found, of.leaves), torch.autograd.grad(expected, of.leaves), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.1)


def test_rows_are_many_where_the_vocabulary_is_small_and_never_few():
    assert module.rows_at_once(torch.empty(49_152, 8)) == 256
    assert module.rows_at_once(torch.empty(1_000, 8)) == 6_291
    assert module.rows_at_once(torch.empty(1_000_000, 1)) == 256


def test_a_table_of_8_bits_is_the_matrix_that_it_stands_for():
    of = given()
    table = Int8Matrix.of(of.table)
    expected = written_out(replace(of, table=table.dense()))
    for found in (
        linear_cross_entropy(of.rows, table, of.target, bias=of.bias),
        -token_log_probabilities(of.rows, table, of.target, bias=of.bias).sum(),
    ):
        torch.testing.assert_close(found, expected.sum(), **CLOSE)
        torch.testing.assert_close(
            torch.autograd.grad(found, of.rows),
            torch.autograd.grad(expected.sum(), of.rows, retain_graph=True),
        )


@pytest.mark.parametrize("wrong", [-1, -100, 23])
def test_a_target_that_is_no_row_of_the_table_is_refused(wrong: int):
    of = given()
    of.target[3] = wrong
    for loss in (total, lambda of: token_log_probabilities(of.rows, of.table, of.target)):
        with pytest.raises(ConfigError, match=f"from 0 to 22, found {wrong}$"):
            loss(of)


def test_numbers_and_shapes_out_of_range_are_refused():
    of = given()
    with pytest.raises(ConfigError, match="softcap must be above 0, found 0"):
        total(of, softcap=0.0)
    with pytest.raises(ConfigError, match="smoothing must be at least 0 and below 1, found 1"):
        total(of, smoothing=1.0)
    with pytest.raises(ConfigError, match="chunk must be at least 1, found 0"):
        total(of, chunk=0)
    with pytest.raises(ConfigError, match=r"found \[9, 5\], \[23, 4\] and \[9\]"):
        linear_cross_entropy(of.rows, of.table[:, :4], of.target)
