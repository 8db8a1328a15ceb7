"""Small models and batches without files, for tests of networks, objectives and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from sensorium.core import Batch, Modality, Sample, Segment
from sensorium.core.spec import Spec
from sensorium.data.collate import collate
from sensorium.data.item import Draws, prepare
from sensorium.nn.architectures.unified import Unified
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.stems import ConvStem, LinearStem
from sensorium.nn.encoders.tokens import TokenEncoder
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.feed_forward import ModalityExperts
from sensorium.nn.layers.transformer import Transformer

WIDTH, VOCABULARY = 16, 20


class Plain(Modality):
    """A modality whose values are tensors already."""

    def read(self, source: Any) -> Any:
        return source

    def check(self, raw: Any) -> None:
        pass

    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> torch.Tensor:
        return raw

    def blank(self) -> torch.Tensor:
        return self.empty.clone()

    def size(self, raw: Any) -> tuple[float, str]:
        return len(raw), "steps"

    def show(self, raw: Any) -> str:
        return "<i>tensor</i>"


class Picture(Plain):
    name: ClassVar[str] = "picture"
    empty = torch.zeros(8, 8, 3, dtype=torch.float64)


class Wave(Plain):
    name: ClassVar[str] = "wave"
    empty = torch.zeros(1, 5, dtype=torch.float64)


class Words(Plain):
    name: ClassVar[str] = "words"
    inline: ClassVar[bool] = True
    empty = torch.tensor([1, 2])


MODALITIES: dict[str, Modality] = {"picture": Picture(), "wave": Wave(), "words": Words()}


def model(seed: int = 0, experts: int = 0) -> Unified:
    """A unified model of two grids and words, in float64."""
    torch.manual_seed(seed)
    part = block(width=WIDTH, heads=2, hidden=4 * WIDTH)
    if experts:
        part = part.replace(
            feed_forward=Spec(ModalityExperts, width=WIDTH, hidden=4 * WIDTH, experts=experts)
        )
    return Unified(
        encoders={
            "picture": GridEncoder(stem=ConvStem(patch=[4, 4], channels=3, width=WIDTH)),
            "wave": GridEncoder(stem=LinearStem(patch=[2], channels=5, width=WIDTH)),
            "words": TokenEncoder(vocabulary=VOCABULARY, width=WIDTH, mask_id=3),
        },
        trunk=Transformer(width=WIDTH, depth=3, block=part),
        alone=1,
        embedding=8,
        language="words",
    ).double()


def sample(index: int, parts: Sequence[str] = ("picture", "wave", "caption", "turn")) -> Sample:
    """A sample whose values depend on ``index`` alone; ``parts`` says which it has."""
    generator = torch.Generator().manual_seed(index)

    def words(count: int) -> torch.Tensor:
        return torch.cat(
            [
                torch.tensor([1]),
                torch.randint(4, VOCABULARY, (count,), generator=generator),
                torch.tensor([2]),
            ]
        )

    made = {
        "picture": [Segment("picture", torch.randn(8, 8, 3, generator=generator, dtype=torch.float64))],
        "wave": [Segment("wave", torch.randn(3 + index % 5, 5, generator=generator, dtype=torch.float64))],
        "caption": [Segment("words", words(2 + index % 4), target=True)],
        "turn": [
            Segment("words", words(2 + index % 3), role="user", turn=1),
            Segment("words", words(1 + index % 2), role="assistant", target=True, turn=1),
        ],
    }
    return Sample(f"s{index}", tuple(segment for part in parts for segment in made[part]))


def batch(samples: Sequence[Sample], draws: Draws | None = None, seed: int = 0) -> Batch:
    return collate([prepare(s, MODALITIES, draws=draws, seed=seed) for s in samples], MODALITIES)
