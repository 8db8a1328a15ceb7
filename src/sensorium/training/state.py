"""What of a run is tensors: how it becomes a checkpoint, sharded or not, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .average import Average
from .checkpoint import Checkpoint, check_names
from .distributed import fill, whole
from .optimizer import Optimizer

_ADAM = ("step", "exp_avg", "exp_avg_sq")
_MUON = ("momentum_buffer",)

Named = Mapping[str, nn.Parameter]


def snapshot(named: Named, optimizer: Optimizer, average: Average | None) -> dict[str, dict[str, Tensor]]:
    """Whole tensors in main memory, by group and name. A collective: every rank calls it."""
    tensors = {
        "weights": {name: _host(parameter) for name, parameter in named.items()},
        "optimizer": {
            f"{key}/{name}": _host(value)
            for name, parameter in named.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        },
    }
    if average is not None:
        tensors["average"] = {name: _host(value) for name, value in average.values.items()}
    return tensors


def restore(
    found: Checkpoint,
    where: Path,
    named: Named,
    optimizer: Optimizer,
    average: Average | None,
) -> None:
    """Put a checkpoint's tensors where they belong. A collective.

    Raises CheckpointError naming a tensor that is missing, extra or of another shape, before anything is changed.
    """
    weights, moments = found.tensors.get("weights", {}), found.tensors.get("optimizer", {})
    check_names(named, weights, str(where / "weights.safetensors"))
    check_names(_expected(named, moments, optimizer), moments, str(where / "optimizer.safetensors"))
    if average is not None:
        averaged = found.tensors.get("average", {})
        check_names(named, averaged, str(where / "average.safetensors"))
        for name, target in average.values.items():
            fill(target, averaged[name])
    for name, value in weights.items():
        fill(named[name], value)
    optimizer.state.clear()
    for place, value in moments.items():
        key, _, name = place.partition("/")
        parameter = named[name]
        state = optimizer.state[parameter]
        state[key] = value.to(parameter.device) if key == "step" else torch.zeros_like(parameter.detach())
        if key != "step":
            fill(state[key], value)


def _expected(named: Named, moments: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
    """All that the optimizer keeps, for each parameter of which the file has anything."""
    has = {place.partition("/")[2] for place in moments}
    keys = {
        id(parameter): _MUON if "momentum" in group else _ADAM
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {
        f"{key}/{name}": torch.zeros(()) if key == "step" else parameter
        for name, parameter in named.items()
        if name in has
        for key in keys.get(id(parameter), ())
    }


def _host(tensor: Tensor) -> Tensor:
    return whole(tensor).detach().cpu()
