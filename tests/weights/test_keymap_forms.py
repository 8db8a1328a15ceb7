"""What a parameter is made of where a file may hold it in several forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.core import CheckpointError
from sensorium.weights.keymap import KeyMap, fused, layer

MAP = KeyMap([*layer("whole", "own"), *fused(["left", "right"], "own")])
OWN = {"own.weight": torch.arange(12.0).view(4, 3), "own.bias": torch.arange(4.0)}


class Held(dict[str, Tensor]):
    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self[name].dtype

    def copy_into(self, name: str, place: Tensor) -> None:
        place.copy_(self[name])


def halves() -> dict[str, Any]:
    return {
        f"{side}.{part}": half
        for part in ("weight", "bias")
        for side, half in zip(("left", "right"), OWN[f"own.{part}"].chunk(2), strict=True)
    }


def test_the_first_rule_whose_tensors_are_there_fills_and_the_first_writes():
    whole = MAP.save(OWN)
    assert sorted(whole) == ["whole.bias", "whole.weight"]
    for held in (whole, halves()):
        found = MAP.load(Held(held), OWN, "here")
        assert all(torch.equal(found[name], tensor) for name, tensor in OWN.items())


def test_what_no_form_needs_is_an_error():
    with pytest.raises(
        CheckpointError, match=r"2 tensors are not part of the model: 'left\.bias', 'left\.weight'"
    ):
        MAP.load(
            Held(MAP.save(OWN) | {n: t for n, t in halves().items() if n.startswith("left")}), OWN, "here"
        )
    with pytest.raises(CheckpointError, match=r"2 tensors are missing: 'whole"):
        MAP.load(Held({n: t for n, t in halves().items() if n.startswith("left")}), OWN, "here")
