"""Key maps: every kind of rule both ways, from one declaration, and whatever is left over or does not fit is named."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sensorium.core import CheckpointError
from sensorium.weights.keymap import (
    TRANSPOSED,
    AnyRule,
    Drop,
    Fixed,
    Fresh,
    KeyMap,
    Rule,
    batch_norm,
    convolution,
    fuse,
    fused,
    layer,
    same,
    shaped,
    under,
)
from sensorium.weights.safetensors_file import write_safetensors
from sensorium.weights.tensors import open_tensors

WHERE = "there"


class Held(dict[str, Tensor]):
    """Tensors in memory, as a file would give them."""

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self[name].dtype

    def copy_into(self, name: str, place: Tensor) -> None:
        place.copy_(self[name])


def numbers(*shape: int, start: int = 0) -> Tensor:
    return torch.arange(start, start + math.prod(shape), dtype=torch.float32).reshape(shape)


def load(
    rules: list[AnyRule], held: Mapping[str, Tensor], expected: Mapping[str, Tensor], **also
) -> dict[str, Tensor]:
    return KeyMap(rules, also.pop("spellings", ())).load(Held(held), expected, WHERE, **also)


def equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


KERNEL = numbers(5, 3, 2, 4)
BOTH_WAYS = {
    "same": ([same("a", "x")], {"a": numbers(2, 3)}, {"x": numbers(2, 3)}),
    "scalar": ([same("a", "x")], {"a": torch.tensor(3.0)}, {"x": torch.tensor(3.0)}),
    "transposed": ([same("a", "x", TRANSPOSED)], {"a": numbers(2, 3)}, {"x": numbers(2, 3).T}),
    "convolution": (
        [same("a", "x", convolution(2, 4))],
        {"a": KERNEL},
        {"x": KERNEL.permute(0, 2, 3, 1).reshape(5, 24)},
    ),
    "tubelets": (
        [same("a", "x", convolution(2, 1, 3))],
        {"a": numbers(4, 5, 2, 1, 3)},
        {"x": numbers(4, 5, 2, 1, 3).permute(0, 2, 3, 4, 1).reshape(4, 30)},
    ),
    "shaped": ([same("a", "x", shaped([1, 1, -1], [1, -1]))], {"a": numbers(1, 1, 4)}, {"x": numbers(1, 4)}),
    "layer": (
        layer("a", "x"),
        {"a.weight": numbers(2, 3), "a.bias": numbers(2)},
        {"x.weight": numbers(2, 3), "x.bias": numbers(2)},
    ),
    "fused": (
        fused(["q", "k", "v"], "qkv"),
        {f"{name}.weight": numbers(2, 3, start=6 * i) for i, name in enumerate("qkv")}
        | {f"{name}.bias": numbers(2, start=2 * i) for i, name in enumerate("qkv")},
        {"qkv.weight": numbers(6, 3), "qkv.bias": numbers(6)},
    ),
    "fused of sizes": (
        [fuse(["q", "k"], "qk", [4, 1])],
        {"q": numbers(4, 3), "k": numbers(1, 3, start=12)},
        {"qk": numbers(5, 3)},
    ),
    "fused and transposed": (
        [Rule(("q", "k"), "qk", TRANSPOSED)],
        {"q": numbers(2, 3), "k": numbers(2, 3, start=6)},
        {"qk": numbers(4, 3).T},
    ),
    "batch norm": (
        batch_norm("a", "x"),
        {f"a.{part}": numbers(2) for part in ("weight", "bias", "running_mean", "running_var")}
        | {"a.num_batches_tracked": torch.tensor(7)},
        {f"x.{part}": numbers(2) for part in ("weight", "bias", "running_mean", "running_var")}
        | {"x.num_batches_tracked": torch.tensor(7)},
    ),
    "nested, many times": (
        under("outer.{i}.", "blocks.{i}.", under("inner.", "part.", [same("w{j}", "{j}.weight")])),
        {f"outer.{i}.inner.w{j}": numbers(2, start=10 * i + j) for i in range(11) for j in range(2)},
        {f"blocks.{i}.part.{j}.weight": numbers(2, start=10 * i + j) for i in range(11) for j in range(2)},
    ),
    "fixed": (
        [same("a", "x"), Fixed("places", lambda: torch.arange(3)[None])],
        {"a": numbers(2), "places": torch.arange(3)[None]},
        {"x": numbers(2)},
    ),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_both_ways(name: str):
    rules, public, own = BOTH_WAYS[name]
    loaded = load(rules, public, own)
    equal(loaded, own)
    assert all(tensor.is_contiguous() for tensor in loaded.values())
    equal(KeyMap(rules).save(own), public)


def test_what_is_dropped_is_not_written():
    rules = [same("a", "x"), Drop("head.{part}", "nobody asks")]
    held = {"a": numbers(2), "head.weight": numbers(3), "head.bias": numbers(1)}
    equal(load(rules, held, {"x": numbers(2)}), {"x": numbers(2)})
    equal(KeyMap(rules).save({"x": numbers(2)}), {"a": numbers(2)})


def test_what_is_fresh_is_neither_asked_for_nor_written():
    rules = [same("a", "x"), Fresh("new.{part}", "nobody has it")]
    own = {"x": numbers(2), "new.weight": numbers(3)}
    equal(load(rules, {"a": numbers(2)}, own), {"x": numbers(2)})
    equal(KeyMap(rules).save(own), {"a": numbers(2)})


def test_the_first_rule_whose_tensors_are_there_fills_and_the_first_of_all_writes():
    rules: list[AnyRule] = [same("new", "x"), fuse(["old.0", "old.1"], "x")]
    own = {"x": numbers(4)}
    equal(load(rules, {"new": numbers(4)}, own), own)
    equal(load(rules, {"old.0": numbers(2), "old.1": numbers(2, start=2)}, own), own)
    equal(KeyMap(rules).save(own), {"new": numbers(4)})
    with pytest.raises(
        CheckpointError, match=r"1 tensor is missing: 'new'; 1 tensor is not part .*: 'old.0'"
    ):
        load(rules, {"old.0": numbers(2)}, own)
    with pytest.raises(CheckpointError, match=r"2 tensors are not part of the model: 'old.0', 'old.1'"):
        load(rules, {"new": numbers(4), "old.0": numbers(2), "old.1": numbers(2)}, own)


def test_several_parameters_may_be_one_public_tensor_while_they_are_equal():
    rules: list[AnyRule] = [same("a", "x"), same("a", "y")]
    own = {"x": numbers(2), "y": numbers(2)}
    equal(load(rules, {"a": numbers(2)}, own), own)
    equal(KeyMap(rules).save(own), {"a": numbers(2)})
    with pytest.raises(CheckpointError, match="'y' differs from another parameter that is 'a' as well"):
        KeyMap(rules).save(own | {"y": numbers(2) + 1})


def test_other_versions_spell_names_in_other_ways():
    spellings = [(r"^model\.", ""), (r"gamma$", "weight")]
    own = {"x": numbers(2)}
    for name in ("a.weight", "model.a.weight", "a.gamma", "model.a.gamma"):
        equal(load([same("a.weight", "x")], {name: numbers(2)}, own, spellings=spellings), own)
    equal(KeyMap([same("a.weight", "x")], spellings).save(own), {"a.weight": numbers(2)})
    held = {"a.gamma": numbers(2), "a.weight": numbers(2)}
    with pytest.raises(CheckpointError, match=r"^there: 'a.gamma' and 'a.weight' are the same tensor$"):
        load([same("a.weight", "x")], held, own, spellings=spellings)


TIED = [same("a.{i}", "x.{i}"), Drop("copy.{i}", "both are one", equal="a.{i}")]


@pytest.mark.parametrize(
    ("rules", "held", "expected", "said"),
    [
        ([same("a", "x")], {}, {"x": numbers(2)}, "there: 1 tensor is missing: 'a'"),
        (
            fused(["q", "k"], "x"),
            {"q.weight": numbers(2), "z": numbers(1)},
            {"x.weight": numbers(4), "x.bias": numbers(4)},
            "there: 3 tensors are missing: 'k.weight', 'q.bias', 'k.bias'; 1 tensor is not part of the model: 'z'",
        ),
        (
            [same("a{i}", "x.{i}")],
            {},
            {f"x.{i}": numbers(1) for i in range(9)},
            "there: 9 tensors are missing: 'a0', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7', ...",
        ),
        (
            [same("a", "x")],
            {"c": numbers(1), "a": numbers(2), "b": numbers(1)},
            {"x": numbers(2)},
            "there: 2 tensors are not part of the model: 'b', 'c'",
        ),
        ([same("a.{i}", "x.{i}")], {"a.0.1": numbers(1)}, {}, "1 tensor is not part of the model: 'a.0.1'"),
        ([same("a", "x")], {"a": numbers(2)}, {"y": numbers(2)}, "no rule says where the parameter 'y' comes from"),
        ([same("a.b", "x")], {"aXb": numbers(2)}, {"x": numbers(2)}, "missing: 'a.b'"),
        (
            [same("a", "x")],
            {"a": numbers(2, 3)},
            {"x": numbers(3, 2)},
            "there: the tensor 'a' has shape [2, 3], expected [3, 2] (for x)",
        ),
        (
            [same("a", "x", TRANSPOSED)],
            {"a": numbers(2, 3)},
            {"x": numbers(2, 3)},
            "the tensor 'a' has shape [2, 3], expected [3, 2] (for x)",
        ),
        (
            [same("a", "x", convolution(2, 4))],
            {"a": numbers(5, 3, 4, 2)},
            {"x": numbers(5, 24)},
            "the tensor 'a' has shape [5, 3, 4, 2], expected [5, 3, 2, 4] (for x)",
        ),
        (
            [same("a", "x", shaped([-1], [1, -1]))],
            {"a": numbers(2, 2)},
            {"x": numbers(1, 4)},
            "the tensor 'a' has shape [2, 2], expected [4] (for x)",
        ),
        (  # as many numbers in all, but not part by part
            [fuse(["q", "k"], "x")],
            {"q": numbers(3), "k": numbers(1)},
            {"x": numbers(4)},
            "the tensor 'q' has shape [3], expected [2] (for x)",
        ),
        (
            [fuse(["q", "k"], "x", [3, 1])],
            {"q": numbers(1), "k": numbers(3)},
            {"x": numbers(4)},
            "the tensor 'q' has shape [1], expected [3] (for x)",
        ),
        (
            [fuse(["q", "k"], "x")],
            {"q": torch.tensor(1.0), "k": torch.tensor(1.0)},
            {"x": numbers(2)},
            "the tensor 'q' has shape [], expected [1] (for x)",
        ),
        ([fuse(["q", "k"], "x")], {"q": numbers(2), "k": numbers(1)}, {"x": numbers(3)},
         "'x' of shape [3] cannot be 2 parts of sizes [1, 1]"),
        ([fuse(["q", "k"], "x", [1, 1, 2])], {"q": numbers(1), "k": numbers(3)}, {"x": numbers(4)},
         "'x' of shape [4] cannot be 2 parts of sizes [1, 1, 2]"),
        (
            [same("a", "x")],
            {"a": torch.zeros(2, dtype=torch.int8)},
            {"x": numbers(2)},
            "there: the tensor 'a' holds torch.int8, expected floating-point numbers (for x)",
        ),
        (
            [same("a", "x")],
            {"a": torch.tensor(1.5)},
            {"x": torch.tensor(1)},
            "the tensor 'a' holds torch.float32, expected whole numbers (for x)",
        ),
        (
            TIED,
            {"a.0": numbers(2), "copy.0": numbers(2), "a.1": numbers(2), "copy.1": numbers(2) + 1},
            {"x.0": numbers(2), "x.1": numbers(2)},
            "there: 'copy.1' differs from 'a.1', expected the same: both are one",
        ),
        (TIED, {"a.0": numbers(2), "copy.3": numbers(2)}, {"x.0": numbers(2)}, "'copy.3' differs from 'a.3'"),
        (
            [same("a", "x"), Fixed("places", lambda: torch.arange(3))],
            {"a": numbers(2), "places": torch.arange(4)},
            {"x": numbers(2)},
            "there: 'places' is not what follows from the model's sizes",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(rules, held, expected, said: str):
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load(rules, held, expected)


def test_copies_that_agree_are_dropped():
    own = {"n.x.0": numbers(2)}
    nested = under("m.", "n.", TIED)
    equal(load(nested, {"m.a.0": numbers(2), "m.copy.0": numbers(2)}, own), own)
    with pytest.raises(CheckpointError, match=r"'m\.copy\.0' differs from 'm\.a\.0'"):
        load(nested, {"m.a.0": numbers(2), "m.copy.0": -numbers(2)}, own)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("asked", [None, torch.float32, torch.float64, torch.bfloat16])
def test_floating_numbers_are_converted_and_whole_ones_are_not(
    stored: torch.dtype, asked: torch.dtype | None
):
    rules = [same("a", "x"), *fused(["q", "k"], "qk"), same("n", "count")]
    held = {"a": numbers(3), **{f"{n}.{p}": numbers(2) for n in "qk" for p in ("weight", "bias")}}
    held = {name: tensor.to(stored) for name, tensor in held.items()}
    held["n"] = torch.tensor(5, dtype=torch.int32)
    own = {"x": numbers(3), "qk.weight": numbers(4), "qk.bias": numbers(4), "count": torch.tensor(0)}
    found = load(rules, held, own, dtype=asked)
    wanted = dict.fromkeys(own, asked or torch.float32) | {"count": torch.int64}
    assert {name: tensor.dtype for name, tensor in found.items()} == wanted
    assert found["qk.bias"].tolist() == [0, 1, 0, 1]
    assert int(found["count"]) == 5


@pytest.mark.parametrize("asked", [torch.float32, torch.float16])
def test_parts_are_read_from_a_file_straight_into_place(asked: torch.dtype, tmp_path: Path):
    torch.manual_seed(0)
    held = {"q": torch.randn(6, 5), "k": torch.randn(2, 5), "v": torch.randn(2, 5), "a": torch.randn(4)}
    write_safetensors(tmp_path / "model.safetensors", held, metadata={"format": "pt"})
    found = open_tensors(tmp_path)
    own = {"qkv": torch.empty(10, 5, dtype=asked), "x": torch.empty(4, dtype=asked)}
    loaded = KeyMap([fuse(["q", "k", "v"], "qkv", [6, 2, 2]), same("a", "x")]).load(found, own, WHERE)
    assert torch.equal(loaded["qkv"], torch.cat([held["q"], held["k"], held["v"]]).to(asked))
    assert torch.equal(loaded["x"], held["a"].to(asked))
    if asked == torch.float32:  # as in the file, and still there
        assert loaded["x"].data_ptr() == found["a"].data_ptr()


def test_nothing_is_read_of_a_file_that_does_not_fit():
    class Closed(Held):
        def __getitem__(self, name: str) -> Tensor:
            raise AssertionError(f"{name} was read")

        def shape(self, name: str) -> tuple[int, ...]:
            return (2,)

        def dtype(self, name: str) -> torch.dtype:
            return torch.float32

    rules = [same("a", "x"), same("b", "y"), Drop("copy", "as before", equal="a")]
    for held, message in (("ab", r"\(for y\)"), ("a", "missing: 'b'"), ("abc", r"\(for y\)")):
        closed = Closed(dict.fromkeys([*held, "copy"], torch.zeros(2)))
        with pytest.raises(CheckpointError, match=message):
            KeyMap(rules).load(closed, {"x": numbers(2), "y": numbers(3)}, WHERE)


@st.composite
def maps(draw: st.DrawFn) -> tuple[KeyMap, dict[str, Tensor], dict[str, Tensor]]:
    """A map with its public and own tensors, made rule by rule."""
    rules: list[AnyRule] = []
    public: dict[str, Tensor] = {}
    own: dict[str, Tensor] = {}

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(len(public)))

    size = st.integers(1, 4)
    for number in range(draw(st.integers(1, 6))):
        name, ours = f"p{number}", f"o{number}"
        kind = draw(
            st.sampled_from(["same", "transposed", "convolution", "shaped", "fused", "sizes", "layers"])
        )
        rows, columns = draw(size), draw(size)
        if kind == "same":
            rules.append(same(name, ours))
            public[name] = own[ours] = drawn(*draw(st.lists(size, max_size=3)))
        elif kind == "transposed":
            rules.append(same(name, ours, TRANSPOSED))
            public[name] = drawn(rows, columns)
            own[ours] = public[name].T
        elif kind == "convolution":
            patch = draw(st.lists(size, min_size=1, max_size=3))
            rules.append(same(name, ours, convolution(*patch)))
            public[name] = drawn(rows, columns, *patch)
            own[ours] = public[name].movedim(1, -1).reshape(rows, -1)
        elif kind == "shaped":
            rules.append(same(name, ours, shaped([1, -1, columns], [-1, columns])))
            public[name] = drawn(1, rows, columns)
            own[ours] = public[name][0]
        elif kind == "layers":
            rules += under(f"{name}.{{i}}.", f"{ours}.{{i}}.", layer("w", "x"))
            for i in range(rows):
                for part in ("weight", "bias"):
                    public[f"{name}.{i}.w.{part}"] = own[f"{ours}.{i}.x.{part}"] = drawn(columns)
        else:
            parts = draw(st.lists(size, min_size=2, max_size=4))
            parts = parts if kind == "sizes" else [rows] * len(parts)
            names = [f"{name}.{i}" for i in range(len(parts))]
            rules.append(fuse(names, ours, parts if kind == "sizes" else None))
            for part, rows in zip(names, parts, strict=True):
                public[part] = drawn(rows, columns)
            own[ours] = torch.cat([public[part] for part in names])
    return KeyMap(draw(st.permutations(rules))), public, own


@settings(max_examples=60, deadline=None)
@given(maps())
def test_what_is_read_is_written_again(made: tuple[KeyMap, dict[str, Tensor], dict[str, Tensor]]):
    keymap, public, own = made
    empty = {name: torch.full_like(tensor, math.nan) for name, tensor in own.items()}
    loaded = keymap.load(Held(public), empty, WHERE)
    equal(loaded, own)
    equal(keymap.save(loaded), public)
