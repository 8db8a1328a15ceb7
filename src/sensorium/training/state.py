"""What of a run is tensors: how it becomes a checkpoint, sharded or not, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.state import persistent_buffers, saved_tensors
from .average import Average
from .checkpoint import Checkpoint, check_names
from .distributed import fill, whole
from .optimizer import Optimizer

_ADAM = ("step", "exp_avg", "exp_avg_sq")
_MUON = ("momentum_buffer",)

Named = Mapping[str, nn.Parameter]


def snapshot(model: nn.Module, optimizer: Optimizer, average: Average | None) -> dict[str, dict[str, Tensor]]:
    """Whole tensors in main memory, by group and name. A collective: every rank calls it.

    Weights are parameters and persistent buffers; with the average of the parameters go the buffers of the moment.
    """
    named: Named = dict(model.named_parameters())
    buffers = {name: _host(buffer) for name, buffer in persistent_buffers(model).items()}
    tensors = {
        "weights": {name: _host(parameter) for name, parameter in named.items()} | buffers,
        "optimizer": {
            f"{key}/{name}": _host(value)
            for name, parameter in named.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        },
    }
    if average is not None:
        tensors["average"] = {name: _host(value) for name, value in average.values.items()} | buffers
    return tensors


def restore(
    found: Checkpoint,
    where: Path,
    model: nn.Module,
    optimizer: Optimizer,
    average: Average | None,
) -> None:
    """Put a checkpoint's tensors where they belong. A collective.

    Raises CheckpointError naming a tensor that is missing, extra or of another shape, before anything is changed.
    """
    named: Named = dict(model.named_parameters())
    everything = saved_tensors(model)
    weights, moments = found.tensors.get("weights", {}), found.tensors.get("optimizer", {})
    check_names(everything, weights, str(where / "weights.safetensors"))
    check_names(_expected(named, moments, optimizer), moments, str(where / "optimizer.safetensors"))
    if average is not None:
        averaged = found.tensors.get("average", {})
        check_names(everything, averaged, str(where / "average.safetensors"))
        for name, target in average.values.items():
            fill(target, averaged[name])
    for name, value in weights.items():
        fill(everything[name], value)
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
