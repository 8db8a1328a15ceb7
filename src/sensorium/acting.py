"""Acting with a model that learnt from episodes: what it does next, in any number of environments side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .core import CapabilityError, ConfigError, Sample, Segment
from .data.collate import collate
from .data.item import prepare
from .modalities.control import Actions, Episode
from .model import Model
from .nn.architectures.multimodal_lm import MultimodalLM


@torch.no_grad()
def act(model: Model, samples: Sequence[Sample], actions: Actions) -> list[np.ndarray]:
    """What the model does next in each sample, whose last episode has an action less than steps: the likeliest number
    each time, as float32 or int64 [width].

    Raises CapabilityError for a model that does not act, DataError naming the sample and the field.
    """
    network = model.network
    words = model.modalities.get(network.language or "")
    if not isinstance(network, MultimodalLM) or not isinstance(words, Episode):
        raise CapabilityError("this model does not act: it has not learnt from episodes")
    if not samples:
        return []
    items = [prepare(sample, model.modalities, answer=True) for sample in samples]
    state = network.begin(collate(items, model.modalities).to(model.device), room=actions.width)
    tokens = actions.tokens(words.alphabet)
    chosen: list[Tensor] = []
    for place in range(actions.width):
        if place:
            state.extend(chosen[-1] + tokens.start)
        chosen.append(state.logits[:, tokens.start : tokens.stop].argmax(1))
    return list(actions.read(torch.stack(chosen, 1).cpu().numpy()))


class History:
    """What was seen and done in one environment, of which the last ``horizon`` steps are looked at: as many as the
    model learnt from. ``prompt`` are segments that come before, such as a demonstration's.

    What is seen is a dict of numbers, and of pictures under the names of their modalities.
    """

    def __init__(
        self,
        *,
        horizon: int,
        pictures: Sequence[str] = (),
        prompt: Sequence[Segment] = (),
        text: str | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"a horizon must be at least 1 step, found {horizon}")
        self.horizon, self.pictures, self.prompt, self.text = horizon, tuple(pictures), tuple(prompt), text
        self._seen: list[Mapping[str, Any]] = []
        self._done: list[Any] = []

    def seen(self, observation: Mapping[str, Any]) -> Sample:
        """What ``act`` is to be asked."""
        self._seen = [*self._seen, dict(observation)][-self.horizon :]
        self._done = self._done[len(self._done) + 1 - len(self._seen) :]
        stacked = {name: np.stack([np.asarray(one[name]) for one in self._seen]) for name in observation}
        shown = [Segment(name, stacked.pop(name)) for name in self.pictures]
        episode = {"observations": stacked, "actions": self._done, "text": self.text}
        return Sample("history", (*self.prompt, *shown, Segment("episode", episode)))

    def did(self, action: Any) -> None:
        """What was done then."""
        self._done = [*self._done, action]
