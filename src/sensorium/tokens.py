"""Exactly what a chat model is given of a sample: its tokens, which of them are learnt, and places against features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from .core import CapabilityError, Sample
from .data.collate import collate
from .data.item import prepare
from .modalities.chat.conversation import Conversation
from .model import Model
from .nn.architectures.multimodal_lm import MultimodalLM

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Token:
    """One token of a sequence: its number, how the vocabulary writes it, whether it is learnt, and its branch."""

    id: int
    text: str
    learnt: bool
    branch: int


@dataclass(frozen=True)
class Reading:
    """What a model is given of the sample ``key``. ``media``: for each modality but words, how many places the words
    hold for it and how many rows of features the network makes of it.
    """

    key: str
    tokens: tuple[Token, ...]
    media: dict[str, tuple[int, int]]

    @property
    def learnt(self) -> int:
        """How many tokens are learnt."""
        return sum(token.learnt for token in self.tokens)


@torch.no_grad()
def reading(model: Model, sample: Sample) -> Reading:
    """What a model is given of a sample in training. Raises DataError for one that cannot be used, CapabilityError for
    a model that reads no conversations.
    """
    network = model.network
    if not isinstance(network, MultimodalLM):
        raise CapabilityError(
            "this model reads no conversations: its samples have no tokens in common to show"
        )
    words = model.modalities[network.language]
    if not isinstance(words, Conversation):
        raise CapabilityError("the words of this model are no conversations")
    batch = collate([prepare(sample, model.modalities)], model.modalities).to(model.device)
    rows = {name: len(found.rows) for name, found in network.media(batch).items()}
    stream = batch.streams[network.language]
    ids, learnt = stream.values[0].tolist(), stream.learnt
    branch = [0] * len(ids) if stream.branch is None else stream.branch[0].tolist()
    marks = [False] * len(ids) if learnt is None else learnt[0].tolist()
    tokens = tuple(
        Token(id, words.token(id), mark, one) for id, mark, one in zip(ids, marks, branch, strict=True)
    )
    media = {name: (ids.count(token), rows[name]) for name, token in network.placeholders.items()}
    return Reading(sample.key, tokens, media)


def render(readings: Sequence[Reading], console: Console) -> None:
    """Print them: what is learnt in bold green, repeated tokens once with their number, each branch in its own line."""
    from rich.text import Text

    for one in readings:
        console.print(Text(f"{one.key}: {len(one.tokens)} tokens, {one.learnt} learnt", style="bold"))
        for branch, tokens in groupby(one.tokens, key=lambda token: token.branch):
            line = Text(f"  {branch}: " if any(token.branch for token in one.tokens) else "  ")
            for (text, learnt), same in groupby(tokens, key=lambda token: (token.text, token.learnt)):
                number = len(list(same))
                line.append(
                    text if number == 1 else f"{text} x {number}", style="bold green" if learnt else ""
                )
                line.append("|", style="dim")
            console.print(line, soft_wrap=True)
        for name, (places, rows) in one.media.items():
            same_number = places == rows
            console.print(
                Text(f"  {name}: {places} places, {rows} rows", style="" if same_number else "bold red")
            )
