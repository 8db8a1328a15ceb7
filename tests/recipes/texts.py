"""Texts for tests of text encoders, as ours and as theirs, and the comparisons that all families share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from recipes.parity import close
from torch import Tensor

from sensorium.core import Batch, Stream
from sensorium.nn.encoders.masking import Masking

VOCABULARY = 99
CLS, PAD, MASK = 0, 1, 4  # padding is where RoBERTa has it; the others do not look at it
SPECIAL = [CLS, PAD, 2, 3, MASK]


@dataclass(frozen=True)
class Inputs:
    """Ids of unequal lengths, padded on the right, and their types."""

    ids: Tensor
    lengths: Tensor
    types: Tensor | None

    @property
    def real(self) -> Tensor:
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]

    def theirs(self, ids: Tensor | None = None) -> dict[str, Tensor]:
        """What a model of transformers takes, with other ``ids`` if given."""
        given = {"input_ids": self.ids if ids is None else ids, "attention_mask": self.real.long()}
        return given if self.types is None else given | {"token_type_ids": self.types}

    def batch(self) -> Batch:
        """Content segments that are all to be corrupt, one per sample."""
        n = len(self.ids)
        number, yes = torch.arange(n), torch.ones(n, dtype=torch.bool)
        stream = Stream(
            values=self.ids, lengths=self.lengths, owner=number, order=0 * number, ordinal=0 * number,
            turn=0 * number, content=yes, target=~yes, hidden=~yes, corrupt=yes, seed=number + 11,
        )  # fmt: skip
        return Batch({"text": stream}, tuple(map(str, range(n))), number)


def inputs(kinds: int = 2) -> Inputs:
    """Of up to 20 tokens; ``kinds`` of types, 0 for a model without."""
    lengths = torch.tensor([7, 20, 3, 13])
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, VOCABULARY, (4, 20), generator=generator)
    ids[:, 0] = CLS
    padding = torch.arange(20) >= lengths[:, None]
    types = torch.randint(0, kinds, (4, 20), generator=generator).masked_fill(padding, 0) if kinds else None
    return Inputs(ids.masked_fill(padding, PAD), lengths, types)


@torch.no_grad()
def check_features(tower: Any, theirs: Any, given: Inputs) -> None:
    """Token features; and pooled vectors where theirs has a pooler."""
    found, expected = tower(given.ids, given.lengths, given.types), theirs(**given.theirs())
    close(found.rows, expected.last_hidden_state[given.real])
    if (pooled := getattr(expected, "pooler_output", None)) is not None:
        close(found.pooled, pooled)


@torch.no_grad()
def check_words(ours: Any, theirs: Any, given: Inputs) -> None:
    """Logits over the vocabulary at all real places, and at some."""
    expected = theirs(**given.theirs())
    expected = expected.prediction_logits if "prediction_logits" in expected else expected.logits
    close(ours.logits(given.ids, given.lengths, given.types), expected[given.real])
    some = given.real & (given.ids % 2 == 0)
    close(ours.logits(given.ids, given.lengths, given.types, some), expected[some])


def masked(ours: Any, given: Inputs) -> tuple[Tensor, Tensor]:
    """What a network of ours sees of the batch in training, and their labels for it."""
    ours.masking = Masking(mask=MASK, special=SPECIAL, ratio=ours.masking.ratio)
    drawn = ours.masking(given.batch().streams["text"], VOCABULARY)
    assert int(drawn.masked.sum()) >= 4
    return drawn.ids, given.ids.masked_fill(~drawn.masked, -100)


def loss(objective: Any, ours: Any, batch: Batch) -> Tensor:
    """The value of an objective of one loss."""
    ((name, count),) = objective.counts(batch).items()
    return objective.totals(ours(batch))[name] / count
