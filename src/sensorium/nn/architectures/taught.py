"""A model that learns from what another makes of the same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.outputs import Outputs
from .network import Network
from .wrapper import Wrapper


class Taught(Wrapper):
    """A student whose Outputs carry those of its teacher (Hinton et al. 2015, arXiv:1503.02531).

    The teacher computes without gradients and never leaves evaluation mode. It moves with the student but is none
    of its parts: its parameters are not trained, averaged, sharded or saved; it comes from where it came at first.
    """

    def __init__(self, *, student: Network, teacher: Network) -> None:
        super().__init__()
        self.student, self.language = student, student.language
        self.__dict__["_teacher"] = teacher.eval().requires_grad_(False)  # which nn.Module would register

    @property
    def teacher(self) -> Network:
        """Not among ``parameters``, ``modules`` and ``state_dict``."""
        return cast(Network, self.__dict__["_teacher"])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        with torch.no_grad():
            taught = self.teacher(batch, embed_only=embed_only)
        return replace(self.student(batch, embed_only=embed_only), teacher=taught)

    @property
    def inner(self) -> Network:
        return self.student

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Taught:
        """Move or convert the teacher too."""
        self.teacher._apply(fn)
        return super()._apply(fn, recurse)
