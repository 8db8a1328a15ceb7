"""Controls of logits: the same numbers as the public tools, in float64."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from sensorium.core import ConfigError
from sensorium.generation import choose
from sensorium.generation.controls import Controls
from sensorium.generation.settings import Decoding

BATCH, VOCABULARY, STOPS = 4, 50, (2, 7)


def _logits(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(BATCH, VOCABULARY, generator=generator, dtype=torch.float64)


def _ids(length: int = 40, low: int = 0, high: int = 6) -> torch.Tensor:
    return torch.randint(low, high, (BATCH, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature(temperature: float):
    found = choose.warmed(_logits(), temperature)
    assert torch.equal(found, TemperatureLogitsWarper(temperature)(_ids(), _logits()))


@pytest.mark.parametrize("count", [1, 5, VOCABULARY, 1000])
def test_top_k(count: int):
    logits = _logits()
    logits[0, :10] = logits[0].max()  # as likely as each other
    assert torch.equal(choose.top_k(logits, count), TopKLogitsWarper(count)(_ids(), logits))
    assert torch.equal(choose.top_k(logits, 0), logits)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p(share: float):
    logits = _logits()
    assert torch.equal(choose.top_p(logits, share), TopPLogitsWarper(share)(_ids(), logits))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("sharpness", [0.1, 2.0, 30.0])
def test_top_p_of_a_large_vocabulary(share: float, sharpness: float):
    """Whether the nucleus is small or not."""
    logits = sharpness * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(choose.top_p(logits, share), TopPLogitsWarper(share)(_ids(), logits))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_min_p(share: float):
    logits = _logits()
    assert torch.equal(choose.min_p(logits, share), MinPLogitsWarper(share)(_ids(), logits))


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_counts_prompt_and_text(penalty: float):
    prompt, text = _ids(5), _ids(3, 6, 12)
    controls = _controls(prompt, repetition_penalty=penalty)
    for token in text.unbind(1):
        controls.extend(token)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.cat([prompt, text], 1), _logits())
    assert torch.equal(controls(_logits()), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 12, 40])
def test_no_repeated_ngrams(size: int, length: int):
    ids = _ids(length, high=3)
    expected = NoRepeatNGramLogitsProcessor(size)(ids, _logits())
    assert torch.equal(choose.without_ngrams(_logits(), ids.tolist(), size), expected)
    controls = _controls(ids[:, :1], no_repeat_ngram=size)
    for token in ids[:, 1:].unbind(1):
        controls.extend(token)
    assert torch.equal(controls(_logits()), expected)


def test_no_end_before_its_time():
    controls, ids = _controls(_ids(5), min_new_tokens=2), _ids(5)
    expected = MinNewTokensLengthLogitsProcessor(5, 2, list(STOPS))
    for _ in range(4):
        assert torch.equal(controls(_logits()), expected(ids, _logits()))
        new = ids[:, 0]
        controls.extend(new)
        ids = torch.cat([ids, new[:, None]], 1)


def test_bias_and_banned():
    bias = {3: 2.5, 9: -4.0}
    expected = SequenceBiasLogitsProcessor({(token,): value for token, value in bias.items()})(
        _ids(), _logits()
    )
    expected = SuppressTokensLogitsProcessor([4, 5])(_ids(), expected)
    assert torch.equal(_controls(_ids(), bias=bias, banned=[4, 5])(_logits()), expected)


def test_all_controls_in_the_order_of_the_public_tools():
    prompt = _ids(12)
    how = {
        "bias": {3: 2.5, 11: 6.0},
        "repetition_penalty": 1.4,
        "no_repeat_ngram": 2,
        "min_new_tokens": 3,
        "banned": [8],
    }
    expected = _logits()
    for control in (
        SequenceBiasLogitsProcessor({(3,): 2.5, (11,): 6.0}),
        RepetitionPenaltyLogitsProcessor(1.4),
        NoRepeatNGramLogitsProcessor(2),
        MinNewTokensLengthLogitsProcessor(12, 3, list(STOPS)),
        SuppressTokensLogitsProcessor([8]),
    ):
        expected = control(prompt, expected)
    assert torch.equal(_controls(prompt, **how)(_logits()), expected)


def test_presence_and_frequency_count_the_text_alone():
    controls = _controls(_ids(4, 0, 3), presence_penalty=0.5, frequency_penalty=0.25)
    assert torch.equal(controls(_logits()), _logits())
    for token in (20, 20, 21):
        controls.extend(torch.full((BATCH,), token))
    expected = _logits()
    expected[:, 20] -= 0.5 + 2 * 0.25
    expected[:, 21] -= 0.5 + 0.25
    assert torch.equal(controls(_logits()), expected)


def test_selected_sequences_take_their_past_along():
    how = {"repetition_penalty": 2.0, "frequency_penalty": 1.0, "no_repeat_ngram": 2}
    prompt, text, rows = _ids(6), _ids(4, 3, 9), torch.tensor([2, 2, 0])
    whole, alone = _controls(prompt, **how), _controls(prompt[rows], **how)
    for token in text.unbind(1):
        whole.extend(token)
        alone.extend(token[rows])
    whole.select(rows)
    for token in (torch.tensor([1, 2, 3]), torch.tensor([4, 4, 4])):
        whole.extend(token)
        alone.extend(token)
    assert torch.equal(whole(_logits()[rows]), alone(_logits()[rows]))


@pytest.mark.parametrize("options", [{"bias": {VOCABULARY: 1.0}}, {"banned": [VOCABULARY]}])
def test_tokens_beyond_the_vocabulary_are_named(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must hold tokens from 0 to 49, found 50"):
        _controls(_ids(), **options)


def test_placeholders_beyond_the_vocabulary_do_no_harm():
    controls = _controls(torch.full((BATCH, 3), VOCABULARY + 5), repetition_penalty=2.0, no_repeat_ngram=2)
    assert torch.equal(controls(_logits()), _logits())


def test_without_controls_logits_are_not_touched():
    logits = _logits()
    assert _controls(_ids())(logits) is logits


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[1.0, float("-inf"), 0.0, 2.0]]).expand(40_000, 4)
    uniform = (torch.arange(40_000) + 0.5) / 40_000
    counts = choose.drawn(logits, uniform).bincount(minlength=4) / 40_000
    torch.testing.assert_close(counts, logits[0].softmax(0), atol=1e-4, rtol=0)
    assert counts[1] == 0


def test_extreme_draws_stay_within_what_is_allowed():
    logits = torch.tensor([[float("-inf"), 0.0, 0.0, float("-inf")]])
    assert choose.drawn(logits, torch.tensor([0.0])).item() == 1
    assert choose.drawn(logits, torch.tensor([1 - 2**-24])).item() == 2


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nothing_to_choose_is_outside_the_vocabulary(value: float):
    logits = torch.full((1, 5), value)
    assert choose.likeliest(logits).item() == choose.drawn(logits, torch.tensor([0.5])).item() == 5


def _controls(prompt: torch.Tensor, **options) -> Controls:
    return Controls(Decoding(**options), prompt.tolist(), STOPS, VOCABULARY, torch.device("cpu"))
