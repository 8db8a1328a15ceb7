"""Building a network whose weights are about to come from a file, without drawing the ones it would begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWN_IN_PLACE = {Tensor.normal_, Tensor.uniform_}
_DRAWN = {torch.randn, torch.rand}


class Skeleton(TorchFunctionMode):
    """Within, parameters are allocated but not drawn, so that their memory is never touched.

    Unlike on the meta device, what a constructor computes is real.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWN_IN_PLACE or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        if func in _DRAWN:
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)
