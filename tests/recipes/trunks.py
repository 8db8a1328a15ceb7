"""What tests of pages of language models share besides ``language``: other names, other configs, refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import real, same_logits, sequences, uneven
from recipes.parity import edited, reference, settings
from torch import Tensor

from sensorium.core import CapabilityError
from sensorium.core.errors import SensoriumError
from sensorium.public import open_network, read_public
from sensorium.recipes._parts import Part
from sensorium.weights.config import Config
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors


@torch.no_grad()
def named_otherwise(
    cls: Any,
    config: Any,
    rename: Callable[[str], str],
    folder: Path,
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """The reference with its tensors under other names, and ``more`` beside them, is read as itself."""
    theirs = reference(cls, config, "random")
    theirs.save_pretrained(folder)
    tensors = {rename(name): tensor.clone() for name, tensor in theirs.state_dict().items()}
    write_tensors(folder, tensors | dict(more or {}))
    same_as(theirs, folder)


@torch.no_grad()
def same_as(theirs: Any, folder: Path) -> None:
    """What is read from a folder computes the same."""
    _, ours = open_network(Folder(folder), torch.float64)
    ids, lengths = uneven()
    expected = theirs(ids, attention_mask=real(ids, lengths)).logits
    same_logits(sequences(ids, lengths), ours.eval(), expected)


def refused(
    config: Any, folder: Path, match: str, error: type[SensoriumError] = CapabilityError, **fields: Any
) -> None:
    """A config with these fields is not read."""
    config.save_pretrained(folder)
    edited(folder, **fields)
    with pytest.raises(error, match=match):
        read_public(Folder(folder))


def left_out(part: Part, made: Any) -> None:
    """What a config leaves out, as sections of multimodal ones do, is what transformers takes it for."""
    config = Config({}, "config.json")
    spec = part.read(config)
    config.finish()
    found, expected = settings(made(**part.write(spec))), settings(made())
    assert {name: found[name] for name in expected} == expected
