"""Weights that are carried along without being used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Keeping(nn.Module):
    """``part``, and beside it a linear map of ``width`` numbers that takes no part: public files hold it and want it
    back (the text pooler of ALIGN). Its weights are buffers: saved, but not trained.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, *, part: nn.Module, width: int) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("weight", torch.zeros(width, width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, *given: Any) -> Any:
        return self.part(*given)
