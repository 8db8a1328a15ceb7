"""Writing: the tokens of the public tools, each sequence independent of its neighbours, stopped where it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from generation.states import STOP, VOCABULARY, Recomputed, Script, llama, prompts

from sensorium.core import ConfigError, DataError
from sensorium.generation.settings import Decoding
from sensorium.generation.write import stream, write
from sensorium.generation.written import TokenLogprob

SAMPLED = Decoding(24, temperature=0.9, top_k=12, top_p=0.95, min_p=0.01, repetition_penalty=1.1)


def spelt(ids: list[int]) -> str:
    """One letter for each token."""
    return "".join(chr(ord("A") + token) for token in ids)


def tokens(text: str) -> list[int]:
    return [ord(letter) - ord("A") for letter in text]


def written(model, given, how, **options):
    return write(Recomputed(model, given), how, stop_ids={STOP}, decode=spelt, **options)


def expected(model, prompt: list[int], **options) -> list[int]:
    """What the public tool writes, without the token that stops."""
    ids = torch.tensor([prompt])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **options)
    found = found[0, len(prompt) :].tolist()
    return found[:-1] if found[-1] == STOP else found


@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_tokens_are_those_of_the_public_tool(seed: int):
    model, given = llama(seed), prompts(8)
    found = written(model, given, Decoding(64))
    assert [one.ids for (one,) in found] == [expected(model, ids, max_new_tokens=64) for ids in given]
    assert [one.text for (one,) in found] == [spelt(one.ids) for (one,) in found]
    assert all(one.reason == ("length" if len(one.ids) == 64 else "stop") for (one,) in found)


def test_some_stop_and_some_do_not():
    """So that the tests above and below see both."""
    reasons = {one.reason for seed in range(4) for (one,) in written(llama(seed), prompts(8), Decoding(64))}
    assert reasons == {"stop", "length"}


def test_controls_are_those_of_the_public_tool():
    model, given = llama(1), prompts(4)
    how = Decoding(40, repetition_penalty=1.2, no_repeat_ngram=3, min_new_tokens=20, banned=[5])
    found = written(model, given, how)
    options = {
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 20,
        "suppress_tokens": [5],
    }
    assert [one.ids for (one,) in found] == [
        expected(model, ids, max_new_tokens=40, **options) for ids in given
    ]
    assert found != written(model, given, Decoding(40))


@pytest.mark.parametrize(
    "how", [Decoding(32), SAMPLED, replace(SAMPLED, top_k=0), replace(SAMPLED, n=3, no_repeat_ngram=2)]
)
def test_a_batch_is_its_prompts_one_by_one(how: Decoding):
    model, given = llama(2), prompts(8)
    together = written(model, given, how)
    assert [[one.ids for one in texts] for texts in together] == [
        [one.ids for one in written(model, [ids], how)[0]] for ids in given
    ]
    assert len({len(one.ids) for texts in together for one in texts}) > 1


def test_finished_sequences_are_left_out():
    model, given = llama(0), prompts(8)
    state = Recomputed(model, given)
    found = write(state, Decoding(64), stop_ids={STOP}, decode=spelt)
    assert len(state.history) < 8
    assert state.rows < 8 * max(len(one.ids) + 1 for (one,) in found)


def test_draws_depend_on_the_seed_alone():
    model, given = llama(3), [prompts(1)[0]] * 2

    def draw(how: Decoding = SAMPLED, **options):
        return [[one.ids for one in texts] for texts in written(model, given, how, **options)]

    assert draw() == draw()
    assert draw()[0] == draw()[1]
    assert draw() != draw(replace(SAMPLED, seed=1))
    first, second = draw(seeds=[5, 6])
    assert first != second
    assert [second, first] == draw(seeds=[6, 5])
    assert first == draw(replace(SAMPLED, seed=5))[0]
    assert draw(replace(SAMPLED, top_k=1)) == draw(Decoding(24, repetition_penalty=1.1))
    with pytest.raises(ConfigError, match="seeds must hold one for each of the 2 prompts, found 3"):
        draw(seeds=[1, 2, 3])


def test_several_texts_of_a_prompt():
    model, given = llama(3), prompts(2)
    three = written(model, given, replace(SAMPLED, n=3))
    assert [len(texts) for texts in three] == [3, 3]
    assert len({tuple(one.ids) for one in three[0]}) == 3
    assert [texts[0] for texts in three] == [texts[0] for texts in written(model, given, SAMPLED)]


def test_log_probabilities_are_the_networks():
    model, given = llama(2), prompts(5)
    found = written(model, given, replace(SAMPLED, logprobs=3, bias={4: 3.0}))
    for prompt, (one,) in zip(given, found, strict=True):
        whole = torch.tensor([prompt + one.ids])
        logs = model(whole).logits[0, len(prompt) - 1 : -1].detach().log_softmax(1)
        assert one.logprobs is not None
        assert [score.id for score in one.logprobs] == one.ids
        for score, row in zip(one.logprobs, logs, strict=True):
            best = row.topk(3)
            assert score.logprob == pytest.approx(float(row[score.id]), abs=1e-9)
            assert [token for token, _ in score.top] == best.indices.tolist()
            assert [value for _, value in score.top] == pytest.approx(best.values.tolist(), abs=1e-9)
    plain = written(model, given, Decoding(3, logprobs=0))[0][0]
    assert plain.logprobs is not None
    assert all(isinstance(score, TokenLogprob) and score.top == () for score in plain.logprobs)
    assert written(model, given, Decoding(3))[0][0].logprobs is None


@pytest.mark.parametrize(
    ("text", "stop", "kept", "reason", "tokens_read"),
    [
        ("HELLOWORLD", ["LO"], "HEL", "stop_string", 5),
        ("HELLOWORLD", ["OW", "LLOW"], "HE", "stop_string", 6),  # both are there: the earliest place counts
        ("HELLOWORLD", ["H"], "", "stop_string", 1),
        ("HELLOWORLD", ["LOX"], "HELLOWORLD", "length", 10),
        ("HELLOWORLD", ["RLDX"], "HELLOWORLD", "length", 10),  # held back, then given
        ("HELLOWORLD", ["LD"], "HELLOWOR", "stop_string", 10),
        ("LLLLLO", ["LLO"], "LLL", "stop_string", 6),
        ("HELLOCORLD", ["LOC"], "HEL", "stop_string", 6),
        ("HELLOCORLD", ["XYZ"], "HELLO", "stop", 5),  # C stops
    ],
)
def test_stop_strings(text: str, stop: list[str], kept: str, reason: str, tokens_read: int):
    how = Decoding(10, stop=stop)
    ids = tokens(text) + [tokens("Z")[0]] * (10 - len(text))
    stop_ids = {STOP} if reason == "stop" else set()
    ((one,),) = write(Script([ids]), how, stop_ids=stop_ids, decode=spelt)
    assert (one.text, one.reason, len(one.ids)) == (kept, reason, tokens_read)
    pieces = list(stream(Script([ids]), how, stop_ids=stop_ids, decode=spelt))
    assert "".join(piece.text for piece in pieces) == kept
    assert pieces[-1].written == one
    assert [piece.written for piece in pieces[:-1]] == [None] * (len(pieces) - 1)


def test_nothing_is_streamed_that_is_taken_back():
    said = []
    for piece in stream(Script([tokens("ABCABD")]), Decoding(6, stop=["ABD"]), stop_ids=(), decode=spelt):
        said.append(piece.text)
    assert said == ["ABC", ""]


def test_bytes_are_streamed_as_whole_characters():
    text = "né 日本 😀👍🏽 end"
    ids = list(text.encode())

    def decode(ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    how = Decoding(len(ids))
    pieces = list(stream(Script([ids]), how, stop_ids=(), decode=decode))
    assert [piece.text for piece in pieces] == list(text)
    ((one,),) = write(Script([ids]), replace(how, stop=["本 😀"]), stop_ids=(), decode=decode)
    assert (one.text, one.reason) == ("né 日", "stop_string")
    cut = list(stream(Script([ids]), Decoding(2), stop_ids=(), decode=decode))
    assert "".join(piece.text for piece in cut) == cut[-1].written.text == decode(ids[:2]) == "n�"


def test_streaming_gives_what_writing_gives():
    model, given = llama(2), prompts(6)
    how = replace(SAMPLED, n=2, logprobs=1)
    free = [one.text for texts in written(model, given, how) for one in texts]
    how = replace(how, stop=[free[0][3:5], free[1][2:4]])
    pieces = list(stream(Recomputed(model, given), how, stop_ids={STOP}, decode=spelt))
    whole = [one for texts in written(model, given, how) for one in texts]
    for place, one in enumerate(whole):
        mine = [piece for piece in pieces if piece.sequence == place]
        assert "".join(piece.text for piece in mine) == one.text
        assert mine[-1].written == one
    assert {one.reason for one in whole} == {"stop", "length", "stop_string"}


def test_a_stream_needs_no_end():
    pieces = stream(Script([tokens("ABCDEFG")]), Decoding(7), stop_ids=(), decode=spelt)
    assert next(pieces).text == "A"
    assert torch.is_grad_enabled()
    assert next(pieces).text == "B"


def test_no_prompts_no_texts():
    assert write(Script([]), Decoding(4), stop_ids={STOP}, decode=spelt) == []
    assert write(Script([]), Decoding(4, beams=2), stop_ids={STOP}, decode=spelt) == []
    assert list(stream(Script([]), Decoding(4), stop_ids={STOP}, decode=spelt)) == []


def test_a_beam_search_is_not_streamed():
    with pytest.raises(ConfigError, match="beams must be 1, found 2"):
        stream(Script([[3]]), Decoding(4, beams=2), stop_ids=(), decode=spelt)


class Broken(Script):
    """Its second sequence has no numbers from its third token on."""

    @property
    def logits(self) -> torch.Tensor:
        found = super().logits.clone()
        if self.step >= 2 and len(found) > 1:
            found[1] = float("nan")
        return found


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 3}])
def test_logits_that_are_no_numbers_are_an_error(options):
    texts = [tokens("HELLO"), tokens("WORLD")]
    with pytest.raises(
        DataError, match="sequence 1 after 2 tokens: expected logits that are numbers, found NaN"
    ):
        write(Broken(texts), Decoding(5, **options), stop_ids=(), decode=spelt)
    # One that has ended already matters to nobody.
    ((one,), _) = write(Broken(texts), Decoding(5, **options), stop_ids={tokens("O")[0]}, decode=spelt)
    assert one.text == "HELL"


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"beams": 2}])
def test_settings_that_forbid_everything_are_an_error(options):
    how = Decoding(5, no_repeat_ngram=1, banned=[0, 1], **options)
    with pytest.raises(ConfigError, match="sequence 0 after 2 tokens: expected a token to choose"):
        write(Script([[2, 3, 2, 3, 2]], vocabulary=4), how, stop_ids=(), decode=spelt)


def test_stop_ids_beyond_the_vocabulary_are_an_error():
    with pytest.raises(ConfigError, match=f"stop_ids must hold tokens from 0 to {VOCABULARY - 1}, found 99"):
        write(Recomputed(llama(0), prompts(1)), Decoding(2), stop_ids={99}, decode=spelt)
