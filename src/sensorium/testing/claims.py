"""How a check says that a property does not hold, and when two tensors count as the same."""

from __future__ import annotations

import torch
from torch import Tensor


def claim(holds: bool, message: str) -> None:
    """Raise AssertionError with ``message`` unless the property holds; unlike ``assert``, also under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal up to the rounding that another batch shape brings."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4) if a.is_floating_point() else torch.equal(a, b)
