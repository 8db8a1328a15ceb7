"""Several processes, one run: replicated or sharded (FSDP2 of torch), and the few collectives that training needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.device import find_device
from ..core.errors import ConfigError, nearest

_T = TypeVar("_T")
_BUCKET = 1 << 24  # numbers that are exchanged at once


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

    def agree(self, value: float) -> float:
        """The first rank's value, on every rank: clocks and disks differ, decisions must not."""
        mine = torch.tensor(value if self.first else 0.0, dtype=torch.float64, device=self.device)
        return float(self.sum(mine))

    def gather(self, value: list[_T]) -> list[_T]:
        """The lists of all ranks, joined in rank order."""
        if self.size == 1:
            return value
        found: list[list[_T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(found, value)
        return [item for part in found for item in part]

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


def is_rank() -> bool:
    """Whether this process was started by ``torchrun``."""
    return "RANK" in os.environ


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or be alone."""
    gpu = torch.cuda.is_available() if device is None else find_device(device).type == "cuda"
    local = int(os.environ.get("LOCAL_RANK", 0))
    place = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(place)
    if not is_rank():
        yield World(device=place)
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def spread(module: nn.Module, world: World, how: str) -> None:
    """Replicate (``ddp``) or shard (``fsdp``) a module over the world, in place.

    Sharding has one group, the whole module: with a group per block, FSDP2 loses gradients of blocks that
    run several times in one forward pass. Scalars cannot be sharded; they stay replicated.
    """
    if how not in ("ddp", "fsdp"):
        raise ConfigError(f"distribution {how!r} is unknown{nearest(how, ('ddp', 'fsdp'))}")
    if world.size == 1:
        return
    share([*module.parameters(), *module.buffers()], world)
    if how == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        scalars = {parameter for parameter in module.parameters() if parameter.ndim == 0}
        mesh = init_device_mesh(world.device.type, (world.size,))
        fully_shard(module, mesh=mesh, ignored_params=scalars)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # the sum over ranks, not the mean
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum


@torch.no_grad()
def share(tensors: Sequence[Tensor], world: World) -> None:
    """Give every rank the first one's values of what is replicated."""
    if world.size == 1:
        return
    for bucket in _buckets(sorted(tensors, key=lambda tensor: str(tensor.dtype))):
        values = torch.cat([tensor.flatten() for tensor in bucket])
        dist.broadcast(values, src=0)
        for tensor, part in zip(bucket, values.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))


def sync_gradients(module: Any, on: bool) -> None:
    """Whether the next backward pass of a sharded module exchanges gradients; only a step's last one does."""
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(on)


def sum_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Add up the gradients of all ranks in what is replicated; FSDP2 has done so for what is sharded.

    A parameter that only some ranks used has a zero gradient on the others; one that none used stays without.
    """
    replicated = [p for p in parameters if p.requires_grad and not sharded(p)]
    if world.size == 1 or not replicated:
        return
    used = world.sum(torch.tensor([float(p.grad is not None) for p in replicated], device=world.device))
    gradients = []
    for parameter, count in zip(replicated, used.tolist(), strict=True):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        summed = world.sum(torch.cat([gradient.flatten() for gradient in bucket]))
        for gradient, part in zip(bucket, summed.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, together not much more than ``_BUCKET`` numbers."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (bucket[0].dtype != tensor.dtype or sum(t.numel() for t in bucket) >= _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradients to a norm of at most ``limit``; returns the norm before."""
    having = [p for p in parameters if p.grad is not None]
    groups = [[p for p in having if sharded(p) is kind] for kind in (False, True)]
    norms = [
        whole(nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]))
        for group in groups
        if group
    ]
    if not norms:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(norms))
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, limit, norm)
    return norm


@contextmanager
def gathered(module: Any) -> Iterator[None]:
    """Within, a sharded module's parts can be used one by one. A collective."""
    if not hasattr(module, "unshard"):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def sharded(tensor: Tensor) -> bool:
    """Whether this rank holds only a part of it."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Any) -> Tensor:
    """The part that this rank holds; shares memory."""
    return tensor.to_local() if sharded(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """A tensor as every rank would see it without sharding. A collective for sharded tensors."""
    return tensor.full_tensor() if sharded(tensor) else tensor


@torch.no_grad()
def fill(tensor: Any, value: Tensor) -> None:
    """Copy a whole value, the same on every rank, into a tensor that may be sharded."""
    if sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(value)
