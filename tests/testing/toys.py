"""A small system of recordings and text, and samples for it."""

from __future__ import annotations

import numpy as np

from sensorium.core import Sample, Segment, Spec
from sensorium.core.system import System
from sensorium.modalities import Series, Text
from sensorium.nn.architectures.unified import Unified
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.stems import LinearStem
from sensorium.nn.encoders.tokens import TokenEncoder
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.transformer import Transformer
from sensorium.objectives import Contrastive, MaskedPatches, MaskedTokens, NextToken
from sensorium.training.trainer import Training

WIDTH = 16


def small() -> Spec:
    """Two blocks of width 16 over windows of two steps of two channels, and bytes of text."""
    stem = Spec(LinearStem, patch=[2], channels=2, width=WIDTH)
    return Spec(
        System,
        modalities={"series": Spec(Series, channels=2), "text": Spec(Text, vocabulary=270)},
        model=Spec(
            Unified,
            encoders={
                "series": Spec(GridEncoder, stem=stem),
                "text": Spec(TokenEncoder, vocabulary=270, width=WIDTH, mask_id=3),
            },
            trunk=Spec(
                Transformer, width=WIDTH, depth=2, block=block(width=WIDTH, heads=2, hidden=4 * WIDTH)
            ),
            alone=1,
            embedding=8,
            language="text",
        ),
        objectives={
            "language": Spec(NextToken),
            "masked_tokens": Spec(MaskedTokens),
            "masked_patches": Spec(MaskedPatches),
        },
        contrastive=Spec(Contrastive),
        training=Spec(Training),
    )


def samples(count: int = 5) -> list[Sample]:
    """Recordings of several lengths with a caption and a question; the last has text alone."""
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        parts = [
            Segment("series", random.normal(size=(3 + 2 * index, 2)).astype(np.float32)),
            Segment("text", f"thing {index}" + " again" * (index % 2), target=True),
            Segment("text", "what is it?", role="user", turn=1),
            Segment("text", f"it is {index}", role="assistant", target=True, turn=1),
        ]
        made.append(Sample(f"s{index}", tuple(parts if index < count - 1 else parts[1:])))
    return made
