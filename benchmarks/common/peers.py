"""The libraries that benchmarks compare with, and how they are brought to run on a CPU."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_kept: list[torch.library.Library] = []


def peer(name: str) -> ModuleType:
    """Import a peer; leaves with advice where it is not installed."""
    if name in ("open_clip", "torchvision", "timm"):
        _define_torchvision_operators()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error}: the peers are in benchmarks/requirements.txt; see its first lines"
        ) from None


def _define_torchvision_operators() -> None:
    """torchvision's build for GPUs asks at import for operators that it then does not find on a CPU."""
    if not _kept:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
