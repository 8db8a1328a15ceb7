"""How similar two unit vectors count: a learned temperature, and with the sigmoid loss a bias."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Similarity(nn.Module):
    """``scale * cosine + bias``; the inverse temperature ``scale`` is learned as its logarithm, at most ``most``.

    CLIP (Radford et al. 2021, arXiv:2103.00020) starts at 1 / 0.07 and stays below 100; SigLIP (Zhai et al. 2023,
    arXiv:2303.15343) starts at 10 with a ``bias`` of -10.
    """

    def __init__(
        self, *, scale: float = 1 / 0.07, most: float | None = 100.0, bias: float | None = None
    ) -> None:
        super().__init__()
        self.most = most
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias)) if bias is not None else None

    @property
    def scale(self) -> Float[Tensor, ""]:
        scale = self.log_scale if self.most is None else self.log_scale.clamp(max=math.log(self.most))
        return scale.exp()


class Temperature(nn.Module):
    """``cosine / temperature``, with the temperature itself learned (ALIGN, Jia et al. 2021, arXiv:2102.05918)."""

    bias = None

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(temperature))

    @property
    def scale(self) -> Float[Tensor, ""]:
        return 1 / self.temperature


class TwoScales(nn.Module):
    """``scale * cosine`` from one side, ``back * cosine`` from the other (CLAP, Wu et al. 2023, arXiv:2211.06687).

    Training moves ``scale``, which is at most ``most``; ``back`` is kept as it was, as in CLAP's own training.
    """

    bias = None

    def __init__(self, *, scale: float = 1 / 0.07, most: float = 100.0) -> None:
        super().__init__()
        self.most = most
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("log_back", torch.tensor(math.log(scale)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        return self.log_scale.clamp(max=math.log(self.most)).exp()

    @property
    def back(self) -> Float[Tensor, ""]:
        return self.get_buffer("log_back").exp()
