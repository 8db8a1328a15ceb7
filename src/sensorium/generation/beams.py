"""Beam search: the likeliest text as a whole, not token by token (Graves 2012, arXiv:1211.3711; Sutskever et al. 2014,
arXiv:1409.3215).

The rules of length and ending are those of the public tools. Of all continuations of a prompt's beams the best are
looked at. Those that end, if among the first ``beams``, become texts of a score: the sum of log-probabilities over
length ** length_penalty (Wu et al. 2016, arXiv:1609.08144, in its plain form). The best of the others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from .controls import Controls, nothing_left
from .settings import Decoding
from .state import State
from .text import Decode
from .written import Written

_FAR = -1e9  # the score of what is not to be chosen


@torch.no_grad()
def search(state: State, how: Decoding, *, stop_ids: Collection[int], decode: Decode) -> list[list[Written]]:
    """The ``how.n`` best texts of each prompt, the best first. Raises what ``write`` raises."""
    prompts, ends = list(state.history), frozenset(stop_ids)
    if not prompts:
        return []
    device, vocabulary, beams = state.logits.device, state.logits.shape[1], how.beams
    state.select(torch.arange(len(prompts), device=device).repeat_interleave(beams))
    controls = Controls(how, [p for p in prompts for _ in range(beams)], ends, vocabulary, device)
    kind = torch.promote_types(state.logits.dtype, torch.float32)
    everyone = [_Beams(how, ends, vocabulary) for _ in prompts]
    running = everyone
    for _ in range(how.max_new_tokens):
        logs = controls(state.logits.to(kind).log_softmax(1)).unflatten(0, (-1, beams))
        scores = torch.tensor([one.scores for one in running], dtype=kind, device=device)
        best, places = (logs + scores[:, :, None]).flatten(1).topk(running[0].width, dim=1)
        for row, (one, values, found) in enumerate(zip(running, best.tolist(), places.tolist(), strict=True)):
            if not values[0] > float("-inf"):
                logits = state.logits[row * beams : (row + 1) * beams]
                raise nothing_left(logits, everyone.index(one), one.length)
            one.extend(values, found)
        kept = [row for row, one in enumerate(running) if not one.closed]
        if not kept:
            break
        parents = [row * beams + parent for row in kept for parent in running[row].parents]
        running = [running[row] for row in kept]
        if parents != list(range(len(state.logits))):
            rows = torch.tensor(parents, device=device)
            state.select(rows)
            controls.select(rows)
        ids = torch.tensor([ids[-1] for one in running for ids in one.ids], device=device)
        state.extend(ids)
        controls.extend(ids)
    return [one.best(decode) for one in everyone]


class _Beams:
    """The beams of one prompt: their ``ids`` and ``scores``, and which of the last ones each continues (``parents``).

    ``length`` is how many tokens each has; ``closed``, whether there is nothing more to find.
    """

    def __init__(self, how: Decoding, ends: frozenset[int], vocabulary: int) -> None:
        self.how, self.vocabulary = how, vocabulary
        self.ids: list[list[int]] = [[] for _ in range(how.beams)]
        # At first all are the same: only one may be continued.
        self.scores = [0.0] + [_FAR] * (how.beams - 1)
        self.parents = list(range(how.beams))
        self.length = 0
        self.closed = False
        #: How many continuations are looked at: enough that ``beams`` go on, whichever end.
        self.width = min(max(2, 1 + len(ends)), vocabulary) * how.beams
        self._ends = ends
        self._texts: list[tuple[float, list[int]]] = []

    def extend(self, scores: Sequence[float], places: Sequence[int]) -> None:
        """Take the best continuations, in order: place ``beam * vocabulary + token``."""
        how, room = self.how, self.how.beams
        self.length += 1
        last = self.length == how.max_new_tokens
        going, ended = [], []
        for rank, (score, place) in enumerate(zip(scores, places, strict=True)):
            beam, token = divmod(place, self.vocabulary)
            if not last and token not in self._ends:
                going.append((score, beam, token))
                continue
            ended.append((score + _FAR, beam, token))
            if rank < room:
                self._keep(score / self.length**how.length_penalty, [*self.ids[beam], token])
        # Where the vocabulary is so small that too few go on, ended ones take their places, from afar.
        going = [*going, *ended][:room]
        self.ids = [[*self.ids[beam], token] for _, beam, token in going]
        self.scores, self.parents = [score for score, _, _ in going], [beam for _, beam, _ in going]
        self.closed = last or self._is_settled()

    def best(self, decode: Decode) -> list[Written]:
        """The best texts."""
        return [self._written(score, ids, decode) for score, ids in self._texts[: self.how.n]]

    def _keep(self, score: float, ids: list[int]) -> None:
        """Among the best texts, where it is one; behind those as good that came before."""
        self._texts = sorted([*self._texts, (score, ids)], key=lambda text: -text[0])[: self.how.beams]

    def _is_settled(self) -> bool:
        """Whether the texts are as many as beams and none of those that go on is expected to be better."""
        how = self.how
        if len(self._texts) < how.beams:
            return False
        if how.early_stopping is True:
            return True
        longest = how.early_stopping == "never" and how.length_penalty > 0
        length = how.max_new_tokens if longest else self.length
        return self.scores[0] / length**how.length_penalty <= self._texts[-1][0]

    def _written(self, score: float, ids: list[int], decode: Decode) -> Written:
        stopped = ids[-1] in self._ends
        ids = ids[:-1] if stopped else ids
        return Written(ids, decode(ids), "stop" if stopped else "length", score=score)
