"""Beam search: the texts and scores of the public tool."""

from __future__ import annotations

import itertools

import pytest
import torch
from generation.states import STOP, VOCABULARY, Recomputed, Script, llama, prompts

from sensorium.core import DataError
from sensorium.generation.settings import Decoding
from sensorium.generation.write import write


def _expected(model, prompt: list[int], how: Decoding, stop_ids: list[int], **options):
    """Ids without the token that stops, and scores."""
    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=how.beams,
        num_return_sequences=how.n,
        max_new_tokens=how.max_new_tokens,
        length_penalty=how.length_penalty,
        early_stopping=how.early_stopping,
        eos_token_id=stop_ids,
        output_scores=True,
        return_dict_in_generate=True,
        **options,
    )
    texts = []
    for row in found.sequences[:, len(prompt) :].tolist():
        end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
        texts.append(row[:end])
    return texts, found.sequences_scores.tolist()


def _check(model, given, how: Decoding, stop_ids=(STOP,), **options) -> None:
    found = write(Recomputed(model, given), how, stop_ids=stop_ids, decode=str)
    for prompt, texts in zip(given, found, strict=True):
        ids, scores = _expected(model, prompt, how, list(stop_ids), **options)
        assert [one.ids for one in texts] == ids
        assert [one.score for one in texts] == pytest.approx(scores, abs=2e-5)
        assert [one.text for one in texts] == [str(one.ids) for one in texts]
        for one in texts:
            assert one.reason in (("stop",) if len(one.ids) < how.max_new_tokens else ("length", "stop"))


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_texts_and_scores_are_those_of_the_public_tool(seed, length_penalty, early_stopping):
    how = Decoding(12, beams=4, n=3, length_penalty=length_penalty, early_stopping=early_stopping)
    _check(llama(seed, spread=0.5), prompts(3, seed), how)


@pytest.mark.parametrize(("beams", "n"), [(2, 1), (3, 3), (6, 2)])
def test_any_number_of_beams(beams: int, n: int):
    _check(llama(5, spread=0.4), prompts(2, 5), Decoding(16, beams=beams, n=n))


def test_several_tokens_that_stop():
    _check(llama(6, spread=0.4), prompts(3, 6), Decoding(12, beams=3, n=3), stop_ids=(STOP, 9, 11))


def test_with_controls():
    how = Decoding(14, beams=3, n=2, repetition_penalty=1.3, no_repeat_ngram=2, min_new_tokens=5, banned=[4])
    options = {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "min_new_tokens": 5,
        "suppress_tokens": [4],
    }
    _check(llama(7, spread=0.6), prompts(3, 7), how, **options)


def test_both_ends_are_reached():
    """So that the tests above see both."""
    reasons = set()
    for seed in range(3):
        state = Recomputed(llama(seed, spread=0.5), prompts(3, seed))
        found = write(state, Decoding(12, beams=4, n=3), stop_ids={STOP}, decode=str)
        reasons |= {one.reason for texts in found for one in texts}
    assert reasons == {"stop", "length"}


def test_finished_prompts_are_left_out():
    model, given = llama(0, spread=0.5), prompts(6)
    how = Decoding(30, beams=2, early_stopping=True)
    state = Recomputed(model, given)
    write(state, how, stop_ids={STOP, 5, 6, 7, 8}, decode=str)
    assert len(state.history) < 12


def test_wide_beams_find_the_best_text_of_all():
    """With as many beams as there are texts, nothing is missed: compared with every text, one by one."""
    model, steps, beams = llama(8), 2, 64
    prompt = prompts(1)[0]
    how = Decoding(steps, beams=beams, length_penalty=0.0, early_stopping="never")
    ((best,),) = write(Recomputed(model, [prompt]), how, stop_ids=(), decode=str)
    texts = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=steps)))
    whole = torch.cat([torch.tensor([prompt]).expand(len(texts), -1), texts], 1)
    with torch.no_grad():
        logs = model(whole).logits[:, len(prompt) - 1 : -1].log_softmax(2)
    scores = logs.gather(2, texts[:, :, None]).sum((1, 2))
    assert best.ids == texts[scores.argmax()].tolist()
    assert best.score == pytest.approx(float(scores.max()), abs=1e-9)


def test_a_vocabulary_smaller_than_the_beams():
    found = write(Script([[1, 0, 1]], vocabulary=2), Decoding(3, beams=4, n=4), stop_ids={0}, decode=str)
    assert found[0][0].ids == [1]
    assert found[0][0].reason == "stop"


def test_logits_that_are_no_numbers_are_an_error():
    class Broken(Script):
        @property
        def logits(self) -> torch.Tensor:
            return super().logits * (float("nan") if self.step else 1.0)

    with pytest.raises(
        DataError, match="sequence 0 after 1 tokens: expected logits that are numbers, found NaN"
    ):
        write(Broken([[3, 4, 5]]), Decoding(3, beams=2), stop_ids=(), decode=str)
