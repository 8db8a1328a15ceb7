"""Small text encoders in float64, and samples of one, two or three texts."""

from __future__ import annotations

import torch
from nn.toys import VOCABULARY, Words
from torch import Tensor

from sensorium.core import Batch, Sample, Segment, Spec
from sensorium.data.collate import collate
from sensorium.data.item import Draws, prepare
from sensorium.nn.architectures.masked_words import MaskedWords
from sensorium.nn.architectures.replaced_tokens import ReplacedTokens
from sensorium.nn.encoders.masking import Masking
from sensorium.nn.encoders.token_tower import TokenEmbedding, TokenTower
from sensorium.nn.heads.classes import ClassHead
from sensorium.nn.heads.language import MaskedLanguageHead
from sensorium.nn.heads.pooling import FirstToken, Pool
from sensorium.nn.heads.replaced import ReplacedTokenHead
from sensorium.nn.layers.blocks import PostNorm, block
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.transformer import Transformer

TABLE, WORDS = 12, {"words": Words()}
CLS, SEP, MASK = 1, 2, 3
DRAWS = Draws(corrupt=1.0)


def tower(width: int = 16, depth: int = 2) -> TokenTower:
    """Post-norm, with a table of its own width."""
    return TokenTower(
        embedding=TokenEmbedding(
            vocabulary=VOCABULARY, width=TABLE, length=64, types=2, norm=LayerNorm(width=TABLE), project=width
        ),
        trunk=Transformer(
            width=width, depth=depth, block=block(width=width, heads=2, hidden=32, placement=PostNorm)
        ),
        pool=Pool(width=width, select=FirstToken(), dense=True),
    )


def masking(**changes) -> Masking:
    return Masking(**({"mask": MASK, "special": [0, CLS, SEP, MASK], "ratio": 0.4} | changes))


def masked_words(relation: bool = False, **changes) -> MaskedWords:
    torch.manual_seed(0)
    return MaskedWords(
        language="words",
        tower=tower(),
        masking=masking(**changes),
        head=Spec(MaskedLanguageHead),
        relation=ClassHead(width=16, classes=2) if relation else None,
    ).double()


def replaced_tokens(**changes) -> ReplacedTokens:
    torch.manual_seed(0)
    return ReplacedTokens(
        language="words",
        tower=tower(),
        generator=tower(width=8, depth=1),
        head=Spec(MaskedLanguageHead),
        judge=ReplacedTokenHead(width=16),
        masking=masking(**changes),
    ).double()


def text(count: int, generator: torch.Generator) -> Tensor:
    words = torch.randint(4, VOCABULARY, (count,), generator=generator)
    return torch.cat([torch.tensor([CLS]), words, torch.tensor([SEP])])


def sample(index: int, texts: int = 1) -> Sample:
    """A sample of so many texts of unequal lengths."""
    generator = torch.Generator().manual_seed(index)
    segments = tuple(Segment("words", text(3 + (index + 5 * i) % 9, generator)) for i in range(texts))
    return Sample(f"s{index}", segments)


def batch(samples: list[Sample], draws: Draws | None = DRAWS, seed: int = 0) -> Batch:
    return collate([prepare(one, WORDS, draws=draws, seed=seed) for one in samples], WORDS)
