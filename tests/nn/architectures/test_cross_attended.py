"""Words that look at media beside them: what is padded, branched or cached gives the numbers of each sequence alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from recipes.language import alone, sequences
from torch import Tensor, nn

from sensorium.core import ConfigError, DataError, Spec
from sensorium.core.batch import Batch
from sensorium.nn.architectures.cross_attended import CrossAttended
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.connectors.unchanged import Unchanged
from sensorium.nn.decoders.language_model import LanguageModel, WordEmbedding
from sensorium.nn.encoders.tower import Features, Tower
from sensorium.nn.layers.attention import CrossAttention, SelfAttention
from sensorium.nn.layers.blocks import PreNorm
from sensorium.nn.layers.feed_forward import MLP
from sensorium.nn.layers.gated_cross import CrossedBlock, GatedCrossAttention
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.transformer import Transformer
from sensorium.objectives import NextToken

PICTURE, CLIP, END, WORDS, WIDTH, INNER, SEEN = 30, 29, 28, 31, 16, 6, 10
CLOSE = {"atol": 1e-9, "rtol": 0.0}


class Eye(Tower):
    """Gives the values as they are."""

    width = pooled_width = INNER

    def forward(self, values: Tensor, lengths: Tensor) -> Features:
        rows = [value[:length] for value, length in zip(values, lengths, strict=True)] or [values[:, 0]]
        return Features(torch.cat(rows), lengths, values.mean(1))


class Nothing(nn.Module):
    """In place of attention, which would tell words what others saw."""

    def forward(self, x: Tensor, *how: object) -> Tensor:
        return 0 * x


def decoder(seen: int = SEEN, every: int = 2) -> LanguageModel:
    """Every second block looks."""
    plain = Spec(
        PreNorm,
        norm=Spec(RMSNorm, width=WIDTH),
        attention=Spec(SelfAttention, width=WIDTH, heads=4, groups=2, rotary=Spec(Rotary, turned=4)),
        feed_forward=Spec(MLP, width=WIDTH, hidden=24),
    )
    cross = Spec(
        GatedCrossAttention,
        norm=plain.norm,
        attention=Spec(CrossAttention, width=WIDTH, context_width=seen, heads=4),
        feed_forward=plain.feed_forward,
    )
    looking = Spec(CrossedBlock, **plain.arguments, cross=cross)
    return LanguageModel(
        embedding=WordEmbedding(vocabulary=WORDS, width=WIDTH),
        trunk=Transformer(width=WIDTH, depth=4, block=[plain] * (every - 1) + [looking]),
        norm=RMSNorm(width=WIDTH),
    )


def network(**how: int | None) -> CrossAttended:
    torch.manual_seed(0)
    made = CrossAttended(
        language="text",
        decoder=decoder(),
        towers={"picture": Eye(), "clip": Eye()},
        connectors={name: Projector(inner=INNER, width=SEEN) for name in ("picture", "clip")},
        placeholders={"picture": PICTURE, "clip": CLIP},
        **how,
    ).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


SEQUENCES = [
    [1, PICTURE, 2, 3, CLIP, 4, 5, PICTURE, 6, 7, 8, 9, 10],
    [1, 2, 3],
    [CLIP, 5, 6, 7],
    [9, 8, PICTURE, 6],
]


def batch(
    rows: list[list[int]], learnt: list[list[int]] | None = None, branch: list[list[int]] | None = None
) -> Batch:
    """Sequences of ids, with a picture of 4 rows or a clip of up to 3 for each of their places."""
    longest = max(map(len, rows))

    def padded(lists: list[list[int]]) -> Tensor:
        return torch.tensor([one + [0] * (longest - len(one)) for one in lists])

    drawn = torch.randn(2, 8, 4, INNER, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    pictures, clips = (
        [row for row, ids in enumerate(rows) for one in ids if one == kind] for kind in (PICTURE, CLIP)
    )
    found = sequences(
        padded(rows),
        [len(one) for one in rows],
        picture=(drawn[0, : len(pictures)], [4] * len(pictures), pictures),
        clip=(drawn[1, : len(clips), :3], [3 - place % 2 for place in range(len(clips))], clips),
    )
    words = found.streams["text"]
    words = words if learnt is None else replace(words, learnt=padded(learnt).bool())
    words = words if branch is None else replace(words, branch=padded(branch))
    return replace(found, streams={**found.streams, "text": words})


def learn(model: CrossAttended, given: list[Batch]) -> tuple[Tensor, list[Tensor]]:
    """The loss of all learnt tokens together, and its gradient for every parameter."""
    objective = NextToken(stream="text")
    totals = torch.stack([objective.totals(model(one))["language"] for one in given]).sum()
    loss = totals / sum(objective.counts(one)["language"] for one in given)
    return loss.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def test_packed_is_unpacked():
    """A step over sequences of very unequal lengths is a step over each of them: none sees another, or its media."""
    model, whole = network(), batch(SEQUENCES)
    found, expected = learn(model, [whole]), learn(model, [alone(whole, row) for row in range(4)])
    torch.testing.assert_close(found, expected, **CLOSE)


def test_branches_are_sequences():
    """Several questions about one picture in one sequence are as many sequences with the picture beside each."""
    model = network()
    common, branches = [1, PICTURE, 2], [[3, 4, 5], [6, 7], [8, 9, 10, 11]]
    marks = [[0, 1, 1], [1, 1], [0, 0, 1, 0]]
    merged = batch(
        [common + list(chain(*branches))],
        [[0] * 3 + list(chain(*marks))],
        [[0] * 3 + [1] * 3 + [2] * 2 + [3] * 4],
    )
    apart = batch([common + one for one in branches], [[0] * 3 + one for one in marks])
    apart.streams["picture"].values[:] = merged.streams["picture"].values
    torch.testing.assert_close(learn(model, [merged]), learn(model, [apart]), **CLOSE)


def test_a_batch_without_media_reaches_every_parameter():
    _, gradients = learn(network(), [batch([[1, 2, 3]])])
    assert all(bool(one.isfinite().all()) for one in gradients)


@torch.no_grad()
def test_what_is_written_is_what_is_read_again():
    """Unequal prompts in one batch, token by token over caches, and reordered on the way."""
    model, given = network(), batch(SEQUENCES)
    state = model.begin(given, 2)
    new = torch.randint(0, 28, (5, 4), generator=torch.Generator().manual_seed(1))
    for ids in new:
        state.extend(ids)
    longer = [ids + new[:, row].tolist() for row, ids in enumerate(SEQUENCES)]
    torch.testing.assert_close(state.logits, model.begin(batch(longer)).logits, **CLOSE)
    order = torch.tensor([2, 0, 0])
    state.select(order)
    state.extend(torch.tensor([3, 4, 5]))
    again = batch([longer[row] + [token] for row, token in zip(order.tolist(), (3, 4, 5), strict=True)])
    for name, places in (("picture", [0, 1, 0, 1]), ("clip", [1, 0, 0])):
        held = given.streams[name]
        again.streams[name].values[:] = held.values[places]
        again.streams[name].lengths[:] = held.lengths[places]
    torch.testing.assert_close(state.logits, model.begin(again).logits, **CLOSE)


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ({}, ["011100000000", "000011111000", "000000000111"]),
        ({"reach": 2}, ["011111111000", "000011111111", "000000000111"]),
        ({"reach": None}, ["011111111111", "000011111111", "000000000111"]),
        ({"end": END}, ["011100000000", "000011100000", "000000000111"]),
        ({"reach": None, "end": END}, ["011111100000", "000011100000", "000000000111"]),
    ],
)
@torch.no_grad()
def test_which_words_see_which_media(how: dict[str, int | None], seen: list[str]):
    model, given = network(**how), batch([[1, PICTURE, 2, 3, CLIP, 5, END, 7, 8, PICTURE, 9, 10]])
    model.decoder.trunk.blocks = model.decoder.trunk.blocks[1:2]
    model.decoder.trunk.depth = 1
    model.decoder.trunk.blocks[0].attention = Nothing()
    before = model.features(model.splice(given, model.media(given)))
    for medium, (name, place) in enumerate([("picture", 0), ("clip", 0), ("picture", 1)]):
        values = given.streams[name].values.clone()
        values[place] += 1
        changed = replace(given.streams[name], values=values)
        other = replace(given, streams={**given.streams, name: changed})
        moved = model.features(model.splice(other, model.media(other))) != before
        assert "".join(str(int(one)) for one in moved.any(1)) == seen[medium]


def test_parts_must_fit():
    eye = {"towers": {"picture": Eye()}, "placeholders": {"picture": PICTURE}, "language": "text"}
    with pytest.raises(ConfigError, match="rows of width 6, the words have 10"):
        CrossAttended(decoder=decoder(), connectors={"picture": Unchanged(width=INNER)}, **eye)
    with pytest.raises(ConfigError, match="found a reach of 0"):
        CrossAttended(decoder=decoder(INNER), connectors={"picture": Unchanged(width=INNER)}, reach=0, **eye)
    with pytest.raises(ConfigError, match="two modalities have the same placeholder"):
        CrossAttended(
            decoder=decoder(INNER),
            language="text",
            towers={"picture": Eye(), "clip": Eye()},
            connectors={name: Unchanged(width=INNER) for name in ("picture", "clip")},
            placeholders={"picture": PICTURE, "clip": PICTURE},
        )
    blind = decoder()
    blind.trunk.blocks = blind.trunk.blocks[:1]
    with pytest.raises(ConfigError, match="no block of this language model looks at other rows"):
        CrossAttended(decoder=blind, connectors={"picture": Unchanged(width=INNER)}, **eye)


def test_places_and_media_must_agree():
    given = batch(SEQUENCES)
    given.streams["text"].values[0, 1] = 4
    with pytest.raises(DataError, match="'a': its words hold 1 places for picture"):
        network()(given)
