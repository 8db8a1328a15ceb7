"""One tensor in somebody's file: described before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import CheckpointError


@dataclass(frozen=True)
class Stored:
    """Where a tensor is and what it will be; ``read`` maps it into memory.

    ``start`` is its first byte in the file, where the file holds it as it is.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    start: int | None = None

    def copy_into(self, place: Tensor) -> None:
        """Read into memory that is there; straight from the file where nothing is to be changed."""
        if self.start is None or place.dtype != self.dtype or not place.is_contiguous():
            place.copy_(self.read())
            return
        left = memoryview(place.detach().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.start)
            while left:
                count = stream.readinto(left)
                if not count:
                    raise CheckpointError(f"{self.file}: the file became shorter while it was read")
                left = left[count:]
