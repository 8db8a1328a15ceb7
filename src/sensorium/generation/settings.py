"""How text is written: the settings of decoding, checked when they are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from ..core.errors import ConfigError

_MOST_TOKENS = 32_768
_MOST_SEQUENCES = 128  # of one prompt
_MOST_STOPS, _LONGEST_STOP = 128, 1_000
_MOST_BIASED = 10_000
_LARGEST_ID = 2**31 - 1
_COLDEST = 1e-5  # below, logits divided by the temperature overflow


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen, and when to stop.

    ``temperature`` 0 takes the likeliest token; otherwise it is drawn with ``seed``: from the ``top_k`` likeliest (0:
    all; Fan et al. 2018, arXiv:1805.04833), from the fewest that hold ``top_p`` of the probability (Holtzman et al.
    2019, arXiv:1904.09751) and from those at least ``min_p`` times as likely as the likeliest (Nguyen et al. 2024,
    arXiv:2407.01082).

    ``repetition_penalty`` divides positive and multiplies negative logits of tokens of the prompt and the text (Keskar
    et al. 2019, arXiv:1909.05858). Of tokens of the text alone, ``presence_penalty`` is taken off once and
    ``frequency_penalty`` as often as they stand in it. No ``no_repeat_ngram`` tokens in a row come twice (0: they may;
    Paulus et al. 2017, arXiv:1705.04304). ``bias`` is added to the logits of tokens; ``banned`` ones are never written.

    ``beams`` above 1 searches for the ``n`` texts of the highest sum of log-probabilities divided by length **
    ``length_penalty``; ``early_stopping`` True ends as soon as there are ``beams`` texts, False when no better one is
    likely, "never" when none is possible. Without beams, ``n`` is how many texts are drawn.

    ``stop``: a text ends before any of these strings. ``min_new_tokens``: no stop token comes earlier. ``logprobs``:
    with each token its log-probability and those of so many likeliest ones (None: without).

    Raises ConfigError for a value out of its range and for settings that contradict each other.
    """

    max_new_tokens: int = 64
    _: KW_ONLY
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)
    banned: Sequence[int] = ()
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    n: int = 1
    stop: Sequence[str] = ()
    logprobs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("max_new_tokens", self.max_new_tokens, 1, _MOST_TOKENS)
        _whole("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens)
        _number("temperature", self.temperature, 0, 100)
        if 0 < self.temperature < _COLDEST:
            raise ConfigError(
                f"temperature must be 0, which takes the likeliest token, or at least {_COLDEST}, "
                f"found {self.temperature}"
            )
        _whole("top_k", self.top_k, 0, _LARGEST_ID)
        _number("top_p", self.top_p, 0, 1)
        _number("min_p", self.min_p, 0, 1)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _number("presence_penalty", self.presence_penalty, -100, 100)
        _number("frequency_penalty", self.frequency_penalty, -100, 100)
        _whole("no_repeat_ngram", self.no_repeat_ngram, 0, self.max_new_tokens)
        _whole("beams", self.beams, 1, _MOST_SEQUENCES)
        _number("length_penalty", self.length_penalty, -10, 10)
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ConfigError(
                f"early_stopping must be True, False or 'never', found {_show(self.early_stopping)}"
            )
        _whole("n", self.n, 1, _MOST_SEQUENCES)
        if self.logprobs is not None:
            _whole("logprobs", self.logprobs, 0, 20)
        _whole("seed", self.seed, 0, 2**63 - 1)
        self._check_tokens()
        self._check_stop()
        self._check_together()

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0

    def _check_tokens(self) -> None:
        if not isinstance(self.bias, Mapping) or len(self.bias) > _MOST_BIASED:
            raise ConfigError(
                f"bias must map at most {_MOST_BIASED} token ids to numbers, found {_show(self.bias)}"
            )
        for token, value in self.bias.items():
            _whole("a token id of bias", token, 0, _LARGEST_ID)
            _number(f"bias of token {token}", value, -100, 100)
        if not isinstance(self.banned, list | tuple) or len(self.banned) > _MOST_BIASED:
            raise ConfigError(
                f"banned must list at most {_MOST_BIASED} token ids, found {_show(self.banned)}"
            )
        for token in self.banned:
            _whole("a token id of banned", token, 0, _LARGEST_ID)

    def _check_stop(self) -> None:
        if not isinstance(self.stop, list | tuple) or len(self.stop) > _MOST_STOPS:
            raise ConfigError(f"stop must list at most {_MOST_STOPS} strings, found {_show(self.stop)}")
        for place, text in enumerate(self.stop):
            if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_STOP:
                raise ConfigError(
                    f"stop[{place}] must be a string of 1 to {_LONGEST_STOP} characters, found {_show(text)}"
                )

    def _check_together(self) -> None:
        if self.beams == 1:
            if self.n > 1 and not self.samples:
                raise ConfigError(
                    f"n={self.n} texts of one prompt would all be the same: set temperature above 0, or beams to "
                    f"at least {self.n}"
                )
            return
        if self.n > self.beams:
            raise ConfigError(f"n must be at most beams, found n={self.n} and beams={self.beams}")
        if self.samples:
            raise ConfigError(
                f"beams={self.beams} takes the likeliest texts and draws none: temperature must be 0, found "
                f"{self.temperature}"
            )
        if self.stop or self.logprobs is not None:
            name = "stop" if self.stop else "logprobs"
            raise ConfigError(f"{name} needs beams=1, found beams={self.beams}")


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} must be from {low} to {high}, a whole number, found {_show(value)}")


def _number(name: str, value: Any, low: float, high: float) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if not right or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, found {_show(value)}")


def _show(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown)} characters)"
