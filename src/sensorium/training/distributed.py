"""Several processes, one run: DDP or FSDP2 of torch, and the few collectives that training needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.errors import ConfigError, nearest


@dataclass(frozen=True)
class World:
    """This process's place among all; a plain ``python`` run is a world of one."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over all ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """Every rank's rows, in rank order; their number may differ. Without gradients."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        longest = max(int(count) for count in counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [part[: int(count)] for part, count in zip(found, counts, strict=True)]

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or be alone."""
    gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
    local = int(os.environ.get("LOCAL_RANK", 0))
    place = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(place)
    if "RANK" not in os.environ:
        yield World(device=place)
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def spread(module: nn.Module, world: World, how: str, blocks: list[nn.Module]) -> nn.Module:
    """Replicate (``ddp``) or shard (``fsdp``) a module over the world; ``blocks`` are sharded one by one."""
    if how not in ("ddp", "fsdp"):
        raise ConfigError(f"distribution {how!r} is unknown{nearest(how, ('ddp', 'fsdp'))}")
    if world.size == 1:
        return module
    if how == "ddp":
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def sync_gradients(module: nn.Module, on: bool) -> None:
    """Whether the next backward pass exchanges gradients; only the last micro-batch of a step does."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module.require_backward_grad_sync = on
    elif hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(on)


def whole(tensor: Tensor) -> Tensor:
    """A tensor as every rank would see it without sharding. A collective for sharded tensors."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def fill(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole value into a tensor that may be sharded."""
    if hasattr(tensor, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
    with torch.no_grad():
        tensor.copy_(value)
