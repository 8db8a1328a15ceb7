"""What of a network belongs in a file: its parameters and its persistent buffers, such as running statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers by name, without those that are only caches (``register_buffer(..., persistent=False)``)."""
    buffers = dict(module.named_buffers())
    kept = module.state_dict(keep_vars=True) if buffers else {}
    return {name: buffer for name, buffer in buffers.items() if name in kept}


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All that a file of weights holds, by name; a tensor with several names has the first."""
    return dict(module.named_parameters()) | persistent_buffers(module)


def copied_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The persistent buffers as they are now, for ``put_back``."""
    return {name: buffer.detach().clone() for name, buffer in persistent_buffers(module).items()}


@torch.no_grad()
def put_back(module: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Undo what happened to the buffers since ``copied_buffers``."""
    for name, buffer in persistent_buffers(module).items():
        buffer.copy_(kept[name])


@contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Forward passes within leave no trace: running statistics are afterwards as they were before."""
    kept = copied_buffers(module)
    try:
        yield
    finally:
        put_back(module, kept)
