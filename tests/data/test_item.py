"""From a Sample to an Item: what is drawn, what is kept, and what is said of what is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nn.toys import MODALITIES, Words, sample

from sensorium.core import DataError, Sample, Segment
from sensorium.core.modality import Medium
from sensorium.data.item import Cache, Draws, Item, prepare

DRAWS = Draws(turns=2, withhold=0.5, corrupt=0.5)


def _same(a: Item, b: Item) -> bool:
    plain = [[replace(piece, values=torch.zeros(0)) for piece in item.pieces] for item in (a, b)]
    if len(a.pieces) != len(b.pieces) or (a.key, a.concept) != (b.key, b.concept):
        return False
    values = all(torch.equal(x.values, y.values) for x, y in zip(a.pieces, b.pieces, strict=True))
    flags = [[(p.hidden, p.corrupt, p.seed, p.turn, p.target, p.content) for p in pieces] for pieces in plain]
    return values and flags[0] == flags[1]


class Noisy(Words):
    """Adds a number from its generator, and counts how often it was asked."""

    asked = 0

    @property
    def draws(self) -> bool:
        return True

    def prepare(self, raw, generator=None):
        self.asked += 1
        return raw if generator is None else raw + torch.randint(0, 100, (1,), generator=generator)


class Counting(Words):
    """The same for every visit; a path's values are its length."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def draws(self) -> bool:
        return False

    def prepare(self, raw, generator=None):
        self.asked += 1
        return torch.arange(len(raw)) if isinstance(raw, str) else raw


def test_draws_depend_on_the_seed_and_the_key_and_nothing_else():
    one, other = sample(0), sample(1)
    torch.manual_seed(1)
    first = prepare(one, MODALITIES, draws=DRAWS, seed=5)
    prepare(other, MODALITIES, draws=DRAWS, seed=5)
    torch.manual_seed(2)
    assert _same(first, prepare(one, MODALITIES, draws=DRAWS, seed=5))
    renamed = replace(one, key="another")
    seeds = [
        [piece.seed for piece in item.pieces]
        for item in (first, prepare(renamed, MODALITIES, draws=DRAWS, seed=5))
    ]
    assert seeds[0] != seeds[1]


def test_another_seed_draws_differently():
    found = [prepare(sample(0), MODALITIES, draws=DRAWS, seed=seed) for seed in range(20)]
    assert len({tuple(piece.corrupt for piece in item.pieces) for item in found}) > 3
    assert len({tuple(piece.hidden for piece in item.pieces) for item in found}) == 3
    assert len({item.pieces[0].seed for item in found}) == 20


def test_what_a_modality_draws_follows_from_the_same_seed():
    modalities = MODALITIES | {"words": Noisy()}
    one = sample(0, ("caption",))
    values = [prepare(one, modalities, draws=DRAWS, seed=seed).pieces[0].values for seed in (0, 0, 1)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_nothing_is_random_without_draws():
    item = prepare(sample(0), MODALITIES | {"words": Noisy()})
    assert not any(piece.hidden or piece.corrupt for piece in item.pieces)
    assert torch.equal(item.pieces[2].values, sample(0).segments[2].value)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    prepare(sample(0), MODALITIES | {"words": Noisy()}, draws=DRAWS, seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_corrupt_and_withhold_come_as_often_as_asked(share, expected):
    draws = Draws(withhold=share, corrupt=share)
    items = [prepare(sample(index), MODALITIES, draws=draws, seed=0) for index in range(400)]
    corrupt = [piece.corrupt for item in items for piece in item.pieces if piece.content]
    withheld = [any(piece.hidden for piece in item.pieces) for item in items]
    assert sum(corrupt) / len(corrupt) == pytest.approx(expected, abs=0.05)
    assert sum(withheld) / len(withheld) == pytest.approx(expected, abs=0.07)
    assert not any(piece.corrupt for item in items for piece in item.pieces if not piece.content)


def test_some_medium_always_stays_and_targets_are_never_withheld():
    for seed in range(100):
        pieces = prepare(sample(0), MODALITIES, draws=Draws(withhold=1.0), seed=seed).pieces
        media = [piece.hidden for piece in pieces if piece.content and not piece.target]
        assert sorted(media) == [False, True]
        assert not any(piece.hidden for piece in pieces if piece.target or not piece.content)


def test_at_most_so_many_turns_are_kept_and_turn_zero_always():
    words = torch.tensor([1, 5, 2])
    turns = [Segment("words", words, role="user", turn=turn) for turn in (1, 2, 3, 4)]
    one = Sample("k", (Segment("words", words), *turns))
    seen = set()
    for seed in range(40):
        kept = [piece.turn for piece in prepare(one, MODALITIES, draws=Draws(turns=2), seed=seed).pieces]
        assert kept[0] == 0
        assert len(kept) == 3
        assert kept == sorted(kept)
        seen |= set(kept)
    assert seen == {0, 1, 2, 3, 4}
    assert [piece.turn for piece in prepare(one, MODALITIES).pieces] == [0, 1, 2, 3, 4]


def test_unknown_modalities_are_passed_over_but_not_all_of_them():
    one = Sample(
        "k", (Segment("smell", b"x"), Segment("words", torch.tensor([1, 2]))), file="list.jsonl", line=7
    )
    assert [piece.modality for piece in prepare(one, MODALITIES).pieces] == ["words"]
    with pytest.raises(DataError) as caught:
        prepare(replace(one, segments=one.segments[:1]), MODALITIES)
    record = caught.value.record()
    assert (record["key"], record["file"], record["line"]) == ("k", "list.jsonl", 7)
    assert "only smell" in record["reason"]


def test_a_broken_value_is_named_with_file_line_key_and_field():
    class Broken(Words):
        def check(self, raw):
            raise DataError("too short")

    one = Sample("k", (Segment("words", torch.tensor([1]), field="caption"),), file="list.jsonl", line=7)
    with pytest.raises(DataError) as caught:
        prepare(one, {"words": Broken()})
    assert caught.value.record() == {
        "key": "k", "file": "list.jsonl", "line": 7, "field": "caption", "reason": "too short",
    }  # fmt: skip


def test_samples_of_one_class_or_one_caption_are_one_concept():
    def of(key, caption, label=None):
        labels = {} if label is None else {"label": label}
        return prepare(
            Sample(key, (Segment("words", caption, target=True),), labels=labels), {"words": Counting()}
        ).concept

    assert of("a", "a cat") == of("b", "a cat") != of("c", "a dog")
    assert of("a", "a cat", "cat") == of("b", "my cat", "cat") != of("c", "a cat", "dog")
    untitled = [prepare(sample(index, ("picture",)), MODALITIES).concept for index in (0, 1)]
    assert untitled[0] != untitled[1]


def test_the_cache_returns_equal_values_without_preparing_again():
    words, cache = Counting(), Cache(1 << 20)
    one = Sample("k", (Segment("words", "abc"),))
    first = prepare(one, {"words": words}, draws=DRAWS, seed=0, cache=cache)
    again = prepare(one, {"words": words}, draws=DRAWS, seed=0, cache=cache)
    assert words.asked == 1
    assert _same(first, again)
    assert _same(first, prepare(one, {"words": words}, draws=DRAWS, seed=0))


def test_the_cache_keeps_nothing_that_is_drawn_anew():
    noisy, cache = Noisy(), Cache(1 << 20)
    one = Sample("k", (Segment("words", "abc"),))
    modality = {"words": noisy}
    noisy.read = lambda source: torch.tensor([1, 5, 2])
    values = [prepare(one, modality, draws=DRAWS, seed=seed, cache=cache).pieces[0].values for seed in (0, 1)]
    assert not torch.equal(values[0], values[1])
    assert cache.used == 0


def test_the_cache_stays_below_its_limit():
    cache = Cache(10_000)
    for index in range(100):
        cache.put(("words", f"text {index}"), Medium(torch.zeros(100)))
    assert 1_000 < cache.used <= 10_000
    assert cache.get(("words", "text 0")) is not None
    assert cache.get(("words", "text 99")) is None
    cache.put(("words", "text 0"), Medium(torch.zeros(100)))
    assert cache.used <= 10_000


def test_a_sample_of_which_the_model_reads_nothing():
    """In training it takes no part; in use it is a mistake."""
    known = {"text": Words()}
    odd = Sample("odd", (Segment("smell", "roses"),), file="d.jsonl", line=3)
    found = prepare(odd, known, draws=DRAWS, seed=1)
    assert (found.key, found.pieces) == ("odd", ())
    with pytest.raises(DataError, match="has no segment of a modality the model knows"):
        prepare(odd, known)
