"""Ordered rules over parameter names: what is frozen, how fast the rest learns, what decays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from ..core.errors import ConfigError, nearest
from .settings import within


@dataclass(frozen=True)
class Rule:
    """Parameters whose name matches ``pattern`` (a regular expression, anywhere in the name) get these settings.

    ``rate`` multiplies the learning rate; 0 freezes. ``decay`` multiplies the weight decay. None leaves a setting as
    an earlier rule made it.
    """

    pattern: str
    rate: float | None = None
    decay: float | None = None

    def __post_init__(self) -> None:
        within(f"the rate of the rule {self.pattern!r}", self.rate or 0, 0)
        within(f"the decay of the rule {self.pattern!r}", self.decay or 0, 0)


@dataclass(frozen=True)
class Treatment:
    """What applies to one parameter after all rules."""

    rate: float = 1.0
    decay: float = 1.0


def treatments(named: Iterable[tuple[str, nn.Parameter]], rules: Sequence[Rule]) -> dict[str, Treatment]:
    """The treatment of each parameter: later rules win. A rule that matches nothing is a ConfigError.

    Before any rule, vectors (biases, norms, scales) do not decay.
    """
    found = {name: Treatment(decay=1.0 if parameter.ndim > 1 else 0.0) for name, parameter in named}
    for rule in rules:
        try:
            matched = [name for name in found if re.search(rule.pattern, name)]
        except re.error as error:
            raise ConfigError(f"the rule {rule.pattern!r} is not a regular expression: {error}") from None
        if not matched:
            raise ConfigError(f"the rule {rule.pattern!r} matches no parameter{nearest(rule.pattern, found)}")
        for name in matched:
            before = found[name]
            found[name] = Treatment(
                before.rate if rule.rate is None else rule.rate,
                before.decay if rule.decay is None else rule.decay,
            )
    return found
