"""Words with media among them: what is packed, branched, padded or cached gives the numbers of each sequence alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import nn

from sensorium.core import ConfigError, DataError, Spec
from sensorium.core.batch import Batch, Stream
from sensorium.nn.architectures.multimodal_lm import MultimodalLM
from sensorium.nn.architectures.same import Same
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.decoders.language_model import LanguageModel, PlaceEmbedding, WordEmbedding
from sensorium.nn.decoders.places import Positions, Sequences
from sensorium.nn.encoders.tower import Features, Tower
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import PreNorm
from sensorium.nn.layers.experts import Experts
from sensorium.nn.layers.feed_forward import GatedMLP
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.transformer import Transformer
from sensorium.objectives import NextToken, Preferences

PLACE, WIDTH, INNER, WORDS = 30, 16, 6, 31
ROWS = 4  # of a picture


class Eye(Tower):
    """Gives the values as they are."""

    width = pooled_width = INNER

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> Features:
        rows = torch.cat(
            [value[:length] for value, length in zip(values, lengths, strict=True)] or [values[:, 0]]
        )
        return Features(rows, lengths, values.mean(1))


class Counted(Positions):
    """The usual positions, as a part that must be asked."""

    axes = 1

    def __call__(self, sequences: Sequences) -> torch.Tensor:
        return torch.arange(sequences.ids.shape[1]).expand(sequences.ids.shape)


def network(
    window: int | None = None, learned: bool = False, positions: Positions | None = None
) -> MultimodalLM:
    torch.manual_seed(0)
    block = Spec(
        PreNorm,
        norm=Spec(RMSNorm, width=WIDTH),
        attention=Spec(SelfAttention, width=WIDTH, heads=4, groups=2, biases="", window=window,
                       rotary=None if learned else Spec(Rotary, turned=4)),
        feed_forward=Spec(GatedMLP, width=WIDTH, hidden=24),
    )  # fmt: skip
    decoder = LanguageModel(
        embedding=WordEmbedding(vocabulary=WORDS, width=WIDTH),
        trunk=Transformer(width=WIDTH, depth=2, block=block),
        norm=RMSNorm(width=WIDTH),
        positions=PlaceEmbedding(length=64, width=WIDTH) if learned else None,
    )
    made = MultimodalLM(
        language="words",
        decoder=decoder,
        towers={"picture": Eye()},
        connectors={"picture": Projector(inner=INNER, width=WIDTH)},
        placeholders={"picture": PLACE},
        positions=positions,
    ).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def stream(values: torch.Tensor, lengths: list[int], owner: list[int], **more) -> Stream:
    n = len(values)
    zeros, no = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
    return Stream(
        values,
        torch.tensor(lengths),
        torch.tensor(owner),
        zeros,
        zeros,
        zeros,
        no,
        ~no,
        no,
        no,
        zeros,
        **more,
    )


def batch(
    rows: list[list[int]], learnt: list[list[int]], owners: list[int], branch: list[list[int]] | None = None
) -> Batch:
    """Sequences of ids, and pictures of the owners in their order."""
    longest = max(map(len, rows))

    def padded(lists: list[list[int]]) -> torch.Tensor:
        return torch.tensor([one + [0] * (longest - len(one)) for one in lists])

    pictures = torch.randn(9, ROWS, INNER, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    words = stream(
        padded(rows), [len(one) for one in rows], list(range(len(rows))),
        learnt=padded(learnt).bool(), branch=None if branch is None else padded(branch),
    )  # fmt: skip
    seen = stream(pictures[: len(owners)], [ROWS] * len(owners), owners)
    keys = tuple(f"sample {row}" for row in range(len(rows)))
    return Batch({"words": words, "picture": seen}, keys, torch.zeros(len(rows), dtype=torch.long))


def learn(model: MultimodalLM, given: list[Batch]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of all learnt tokens together, and its gradient for every parameter."""
    objective = NextToken(stream="words")
    totals = torch.stack([objective.totals(model(one))["language"] for one in given]).sum()
    count = sum(objective.counts(one)["language"] for one in given)
    loss = totals / count
    return loss.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def same(
    found: tuple[torch.Tensor, list[torch.Tensor]], expected: tuple[torch.Tensor, list[torch.Tensor]]
) -> None:
    """Loss and gradients are equal to 1e-9."""
    torch.testing.assert_close(found[0], expected[0], atol=1e-9, rtol=0)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=0)


PICTURE = [PLACE] * ROWS
SEQUENCES = [
    [1, *PICTURE, 2, 3, *PICTURE, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    [1, 2, 3],
    [*PICTURE, 5, 6],
    [9, 8, 7, 6, 5, 4],
]
LEARNT = [[0] * 15 + [1] * 7, [0, 1, 1], [0] * 4 + [1, 1], [0, 0, 1, 1, 0, 1]]
OWNERS = [0, 0, 2]


@pytest.mark.parametrize("kind", [{}, {"window": 3}, {"learned": True}, {"positions": Counted()}])
def test_packed_is_unpacked(kind: dict):
    """A step over sequences of very unequal lengths is a step over each of them: none sees another."""
    model = network(**kind)
    whole = batch(SEQUENCES, LEARNT, OWNERS)
    pictures = whole.streams["picture"].values
    parts = []
    for row, (ids, learnt) in enumerate(zip(SEQUENCES, LEARNT, strict=True)):
        one = batch([ids], [learnt], [0] * OWNERS.count(row))
        mine = torch.tensor([owner == row for owner in OWNERS])
        seen = replace(one.streams["picture"], values=pictures[mine])
        parts.append(replace(one, streams={**one.streams, "picture": seen}))
    same(learn(model, [whole]), learn(model, parts))


@pytest.mark.parametrize("kind", [{}, {"learned": True}, {"positions": Counted()}])
def test_branches_are_sequences(kind: dict):
    """Several questions about one picture in one sequence are as many sequences with the picture in each; also where
    the first token of a branch is learnt, and beside a sequence without branches.
    """
    model = network(**kind)
    common, branches = [1, *PICTURE, 2], [[3, 4, 5], [6, 7], [8, 9, 10, 11]]
    marks = [[0, 1, 1], [1, 1], [0, 0, 1, 0]]
    merged = batch(
        [common + list(chain(*branches)), SEQUENCES[2]],
        [[0] * 6 + list(chain(*marks)), LEARNT[2]],
        [0, 1],
        [[0] * 6 + [1] * 3 + [2] * 2 + [3] * 4, [0] * 6],
    )
    seen = merged.streams["picture"].values
    alone = batch([common + one for one in branches], [[0] * 6 + one for one in marks], [0, 1, 2])
    alone.streams["picture"].values[:] = seen[0]
    other = batch([SEQUENCES[2]], [LEARNT[2]], [0])
    other.streams["picture"].values[:] = seen[1]
    same(learn(model, [merged]), learn(model, [alone, other]))


def test_a_batch_without_pictures_reaches_every_parameter():
    model = network()
    _, gradients = learn(model, [batch([[1, 2, 3]], [[0, 1, 1]], [])])
    assert all(bool(one.isfinite().all()) for one in gradients)


@pytest.mark.parametrize("window", [None, 3])
@torch.no_grad()
def test_what_is_written_is_what_is_read_again(window: int | None):
    """Unequal prompts in one batch, token by token over caches, and reordered on the way."""
    model = network(window)
    given = batch(SEQUENCES, LEARNT, OWNERS)
    state = model.begin(given, 2)
    new = torch.randint(0, 29, (5, 4), generator=torch.Generator().manual_seed(1))
    for ids in new:
        state.extend(ids)
    longer = [ids + new[:, row].tolist() for row, ids in enumerate(SEQUENCES)]
    expected = model.begin(batch(longer, longer, OWNERS)).logits
    torch.testing.assert_close(state.logits, expected, atol=1e-10, rtol=0)
    order = torch.tensor([2, 0, 0])
    state.select(order)
    state.extend(torch.tensor([3, 4, 5]))
    again = [longer[row] + [token] for row, token in zip(order.tolist(), (3, 4, 5), strict=True)]
    pictures = given.streams["picture"].values
    chosen = batch(again, again, [0, 1, 1, 2, 2])
    chosen.streams["picture"].values[:] = pictures[[2, 0, 1, 0, 1]]
    torch.testing.assert_close(state.logits, model.begin(chosen).logits, atol=1e-10, rtol=0)


def test_experts_say_where_they_sent_the_tokens_of_each_sample():
    model = network()
    assert model(batch(SEQUENCES, SEQUENCES, OWNERS)).routes is None
    for block in model.decoder.trunk.blocks:
        block.feed_forward = Experts(width=WIDTH, hidden=8, experts=4, chosen=2).double()
    found = model(batch(SEQUENCES, SEQUENCES, OWNERS)).routes
    assert len(found.layers) == 2
    assert found.owner.tolist() == [row for row, ids in enumerate(SEQUENCES) for _ in ids]
    assert all(layer.logits.shape == (len(found.owner), 4) for layer in found.layers)


def test_modalities_may_share_a_tower_and_a_connector():
    """Their weights are there once, and rows of both pass through them."""
    decoder = network().decoder
    model = MultimodalLM(
        language="words",
        decoder=decoder,
        towers={"picture": Eye(), "clip": Same(of="picture")},
        connectors={"picture": Projector(inner=INNER, width=WIDTH), "clip": Same(of="picture")},
        placeholders={"picture": PLACE, "clip": PLACE - 1},
    ).double()
    assert [name for name in model.state_dict() if name.startswith("connectors")] == [
        "connectors.picture.layers.0.weight",
        "connectors.picture.layers.0.bias",
    ]
    seen = stream(torch.randn(2, ROWS, INNER, dtype=torch.float64), [ROWS, 2], [0, 0])
    torch.testing.assert_close(model.bridge("clip", seen).rows, model.bridge("picture", seen).rows)
    ids = torch.tensor([[3, *[PLACE] * 6, 4, *[PLACE - 1] * 6, 5]])
    words = stream(ids, [15], [0], learnt=ids == 5)
    streams = {"words": words, "picture": seen, "clip": seen}
    found = model(Batch(streams, ("one",), torch.zeros(1, dtype=torch.long)))
    assert found.language.rows.shape == (1, WIDTH)


def test_places_of_one_token_are_taken_in_the_order_of_the_segments():
    """Clips between pictures, as if all were of one modality; too few places are an error that names the sample."""
    eye = {"picture": Eye(), "clip": Same(of="picture")}
    bridge = {"picture": Projector(inner=INNER, width=WIDTH), "clip": Same(of="picture")}
    model = MultimodalLM(
        language="words",
        decoder=network().decoder,
        towers=eye,
        connectors=bridge,
        placeholders={"picture": PLACE, "clip": PLACE},
    ).double()
    values = torch.randn(4, ROWS, INNER, dtype=torch.float64)
    lengths, owner, order = [4, 2, 3, 1], [0, 0, 0, 1], torch.tensor([0, 1, 2, 0])
    ids = torch.tensor([[3, *[PLACE] * 4, 4, *[PLACE] * 5, 5], [3, PLACE, 6, *[0] * 9]])
    words = stream(ids, [12, 3], [0, 1], learnt=(ids == 5) | (ids == 6))

    def rows(**streams: Stream) -> torch.Tensor:
        two = Batch({"words": words, **streams}, ("one", "two"), torch.zeros(2, dtype=torch.long))
        return model.splice(two, model.media(two)).rows

    every = replace(stream(values, lengths, owner), order=order)
    none = every.select(torch.tensor([], dtype=torch.long))
    mixed = {"picture": every.select(torch.tensor([0, 2])), "clip": every.select(torch.tensor([1, 3]))}
    torch.testing.assert_close(rows(**mixed), rows(picture=every, clip=none))
    with pytest.raises(
        DataError, match=r"key 'one': its words hold 9 places for rows of media .token 30., 2 segments have 7"
    ):
        rows(picture=mixed["picture"], clip=none)


def test_parts_must_fit():
    decoder = network().decoder
    eye = Eye()
    with pytest.raises(ConfigError, match="connector and a placeholder"):
        MultimodalLM(language="words", decoder=decoder, towers={"picture": eye})
    wide = Projector(inner=INNER, width=WIDTH + 1)
    with pytest.raises(ConfigError, match="rows of width 17, the words have 16"):
        MultimodalLM(
            language="words", decoder=decoder, towers={"picture": eye}, connectors={"picture": wide},
            placeholders={"picture": 1},
        )  # fmt: skip


@pytest.mark.parametrize("kind", [{}, {"positions": Counted()}])
def test_two_branches_are_a_preference(kind: dict):
    """Of the sequences with just two branches; the others take no part."""
    model = network(**kind)
    rows, branch = (
        [[1, 2, 3, 4, 5, 6], [7, 8, 9], [3, 2, 1, 4]],
        [[0, 0, 1, 1, 2, 2], [0, 0, 0], [0, 1, 2, 2]],
    )
    learnt = [[0, 0, 1, 1, 0, 1], [0, 1, 1], [0, 1, 1, 1]]
    given = batch(rows, learnt, [], branch)
    objective = Preferences(stream="words", beta=0.3, reference_free=True)
    assert objective.counts(given) == {"preferences": 2}

    def likely(ids: list[int], marks: list[int]) -> torch.Tensor:
        found = model(batch([ids], [marks], [])).language
        return found.logits.log_softmax(1).gather(1, found.target[:, None]).sum()

    first = likely([1, 2, 3, 4], [0, 0, 1, 1]) - likely([1, 2, 5, 6], [0, 0, 0, 1])
    second = likely([3, 2], [0, 1]) - likely([3, 1, 4], [0, 1, 1])
    expected = -nn.functional.logsigmoid(0.3 * torch.stack([first, second])).sum()
    found = objective.totals(model(given))["preferences"]
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
