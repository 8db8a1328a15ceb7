"""What tests of pages of language models do: batches of tokens and media, logits and loss, and greedy writing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from recipes.parity import close, opened, reference, written
from torch import Tensor, nn

from sensorium.core.batch import Batch, Stream
from sensorium.generation.settings import Decoding
from sensorium.generation.write import write
from sensorium.objectives import NextToken

VOCABULARY = 99


def stream(values: Tensor, lengths: Tensor, owner: Tensor, **more: Any) -> Stream:
    """Segments in the order of their owners."""
    n = len(values)
    zeros, no = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
    order = torch.tensor([int((owner[:row] == owner[row]).sum()) for row in range(n)], dtype=torch.long)
    return Stream(values, lengths, owner, order, zeros, zeros, no, ~no, no, no, zeros, **more)


def sequences(
    ids: Tensor, lengths: Sequence[int], first: int = 1, **media: tuple[Tensor, Sequence[int], Sequence[int]]
) -> Batch:
    """Ids padded on the right, of which those from ``first`` on are learnt. Media are values, lengths and owners."""
    size = torch.tensor(lengths)
    place = torch.arange(ids.shape[1])
    learnt = (place >= first) & (place < size[:, None])
    streams = {
        name: stream(values, torch.tensor(counts), torch.tensor(owners))
        for name, (values, counts, owners) in media.items()
    }
    streams["text"] = stream(ids, size, torch.arange(len(ids)), learnt=learnt)
    return Batch(streams, tuple("abcdefgh"[: len(ids)]), torch.zeros(len(ids), dtype=torch.long))


def uneven(rows: int = 3, longest: int = 12, top: int = VOCABULARY) -> tuple[Tensor, list[int]]:
    """Random ids of unequal lengths."""
    ids = torch.randint(3, top, (rows, longest), generator=torch.Generator().manual_seed(2))
    return ids, [max(2, longest - 3 * row) for row in range(rows)]


def real(ids: Tensor, lengths: Sequence[int]) -> Tensor:
    """The attention mask of the reference."""
    return (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()


def same_logits(batch: Batch, ours: Any, expected: Tensor) -> None:
    """Logits before every learnt token, the loss, and the logits after a prompt, against those of the reference, for
    all places of padded sequences.
    """
    words = batch.streams["text"]
    found = ours(batch)
    before = torch.cat([row[:-1][learnt[1:]] for row, learnt in zip(expected, words.learnt, strict=True)])
    close(found.language.logits, before)
    total = NextToken(stream="text").totals(found)["language"]
    close(total / len(before), F.cross_entropy(before, words.values[words.learnt]))
    last = torch.stack([row[length - 1] for row, length in zip(expected, words.lengths, strict=True)])
    close(ours.begin(batch).logits, last)


def greedy(network: Any, batch: Batch, count: int, ends: Sequence[int] = ()) -> list[list[int]]:
    """The likeliest tokens that follow each prompt."""
    state = network.begin(batch, count)
    found = write(state, Decoding(count), stop_ids=ends, decode=lambda ids: "")
    return [best.ids for best, *_ in found]


def reread(network: Any, batch: Batch, count: int) -> list[list[int]]:
    """The same without a cache: everything is read again for each token."""
    found: list[list[int]] = [[] for _ in range(len(batch))]
    prompts = batch.streams["text"].lengths[:, None]
    for _ in range(count):
        words = batch.streams["text"]
        new = network.begin(batch).logits.argmax(1)
        ids = F.pad(words.values, (0, 1))
        ids[torch.arange(len(ids)), words.lengths] = new
        for row, token in zip(found, new.tolist(), strict=True):
            row.append(token)
        answers = torch.arange(ids.shape[1]) >= prompts  # which some read otherwise than prompts
        longer = stream(ids, words.lengths + 1, words.owner, learnt=answers)
        batch = Batch({**batch.streams, "text": longer}, batch.keys, batch.concept)
    return found


def alone(batch: Batch, row: int) -> Batch:
    """One sequence of a batch, without padding, with its media."""
    streams = {}
    for name, found in batch.streams.items():
        one = found.select(found.owner == row)
        values = one.values[:, : int(one.lengths.max())] if len(one) else one.values
        learnt = None if one.learnt is None else one.learnt[:, : values.shape[1]]
        streams[name] = stream(
            values, one.lengths, torch.zeros_like(one.owner), layout=one.layout, learnt=learnt
        )
    return Batch(streams, batch.keys[row : row + 1], batch.concept[:1])


def checked(cls: Any, config: Any, initialisation: str, folder: Path) -> tuple[Any, Any, Any, Any]:
    """The reference, our Spec and network, and the reference opened from what we write."""
    theirs = reference(cls, config, initialisation)
    spec, ours = opened(theirs, folder / "theirs")
    return theirs, spec, ours, written(spec, ours, cls, folder / "ours")


def unscaled(network: nn.Module, name: str) -> None:
    """Give the network numbers as they are, where it would bring bytes into its range."""
    for part in network.towers[name].modules():
        if getattr(part, "values", None) is not None and isinstance(part.values, nn.Module):
            part.values = nn.Identity()


@torch.no_grad()
def language_parity(cls: Any, config: Any, initialisation: str, folder: Path) -> Any:
    """All of the above for a language model without media; returns our network."""
    theirs, _, ours, again = checked(cls, config, initialisation, folder)
    ids, lengths = uneven()
    batch = sequences(ids, lengths)
    for model in (theirs, again):
        same_logits(batch, ours, model(ids, attention_mask=real(ids, lengths)).logits)
    expected = [
        theirs.generate(
            ids[row : row + 1, :length], max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, length:].tolist()
        for row, length in enumerate(lengths)
    ]
    assert greedy(ours, batch, 16) == expected
    assert reread(ours, batch, 4) == [row[:4] for row in expected]
    return ours
