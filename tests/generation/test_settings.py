"""Settings of decoding: each is checked by itself and with the others, before anything runs."""

from __future__ import annotations

import pytest

from sensorium.core import ConfigError
from sensorium.generation.settings import Decoding

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be from 1 to 32768, a whole number, found 0"),
        ({"max_new_tokens": -1}, "max_new_tokens must be from 1 .* found -1"),
        ({"max_new_tokens": 10**12}, "max_new_tokens must be from 1 .* found 1000000000000"),
        ({"max_new_tokens": True}, "max_new_tokens must be from 1 .* found True"),
        ({"max_new_tokens": 8.0}, "max_new_tokens must be from 1 .* found 8.0"),
        ({"max_new_tokens": NAN}, "max_new_tokens must be from 1 .* found nan"),
        ({"max_new_tokens": "8"}, "max_new_tokens must be from 1 .* found '8'"),
        ({"max_new_tokens": 4, "min_new_tokens": 5}, "min_new_tokens must be from 0 to 4, .* found 5"),
        ({"temperature": NAN}, "temperature must be a number from 0 to 100, found nan"),
        ({"temperature": INF}, "temperature must be a number"),
        ({"temperature": -1.0}, "temperature must be a number"),
        ({"temperature": True}, "temperature must be a number"),
        ({"temperature": None}, "temperature must be a number"),
        ({"temperature": 1e-30}, "temperature must be 0, .* or at least 1e-05, found 1e-30"),
        ({"top_k": -1}, "top_k must be from 0"),
        ({"top_k": 1.5}, "top_k must be from 0"),
        ({"top_p": 1.1}, "top_p must be a number from 0 to 1, found 1.1"),
        ({"min_p": NAN}, "min_p must be a number from 0 to 1, found nan"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number from 0.01"),
        ({"presence_penalty": INF}, "presence_penalty must be a number"),
        ({"frequency_penalty": "x"}, "frequency_penalty must be a number .* found 'x'"),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram must be from 0"),
        ({"beams": 0}, "beams must be from 1 to 128"),
        ({"beams": 129}, "beams must be from 1 to 128"),
        ({"length_penalty": INF}, "length_penalty must be a number"),
        ({"early_stopping": "always"}, "early_stopping must be True, False or 'never', found 'always'"),
        ({"early_stopping": 1}, "early_stopping must be True, False or 'never', found 1"),
        ({"n": 0}, "n must be from 1"),
        ({"logprobs": 21}, "logprobs must be from 0 to 20, .* found 21"),
        ({"logprobs": True}, "logprobs must be from 0 to 20"),
        ({"seed": -1}, "seed must be from 0"),
        ({"bias": {1: NAN}}, "bias of token 1 must be a number"),
        ({"bias": {"a": 1.0}}, "a token id of bias must be from 0 .* found 'a'"),
        ({"bias": [1]}, r"bias must map at most 10000 token ids to numbers, found \[1\]"),
        ({"banned": [-1]}, "a token id of banned must be from 0"),
        ({"banned": list(range(10_001))}, r"banned must list at most 10000 token ids, .* characters\)"),
        ({"stop": "word"}, "stop must list at most 128 strings, found 'word'"),
        ({"stop": ["a"] * 129}, "stop must list at most 128 strings"),
        ({"stop": ["a", ""]}, r"stop\[1\] must be a string of 1 to 1000 characters, found ''"),
        ({"stop": [3]}, r"stop\[0\] must be a string"),
        ({"n": 2}, "n=2 texts of one prompt would all be the same: set temperature above 0, or beams"),
        ({"n": 3, "beams": 2}, "n must be at most beams, found n=3 and beams=2"),
        ({"beams": 2, "temperature": 1.0}, "temperature must be 0, found 1.0"),
        ({"beams": 2, "stop": ["a"]}, "stop needs beams=1, found beams=2"),
        ({"beams": 2, "logprobs": 0}, "logprobs needs beams=1, found beams=2"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 32_768, "min_new_tokens": 32_768},
        {"temperature": 1, "top_k": 10**6, "top_p": 0, "min_p": 1, "n": 128, "seed": 2**63 - 1},
        {"temperature": 0.0, "top_p": 0.9},
        {"beams": 4, "n": 4, "early_stopping": "never", "length_penalty": -1},
        {"stop": ["a", "\n\n"], "logprobs": 0, "bias": {5: -100}, "banned": (0, 1)},
    ],
)
def test_settings_at_their_limits(options):
    assert Decoding(**options).max_new_tokens >= 1
