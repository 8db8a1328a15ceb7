"""Question answering: every question of a dialogue, answered from the media and what was said before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from ...core import DataError, Sample
from ..gallery import Completion
from ..metrics import bootstrap, exact_match, token_f1
from ..protocol import TEXT, Compare, Predictor
from .task import Example, Scored, TaskResult, media, spread, subset, withhold


@dataclass(frozen=True)
class _Question:
    """One thing to be answered: the prompt holds all media, and the dialogue of its turn up to there."""

    prompt: Sample
    number: int  # among the questions of its sample
    text: str
    expected: str
    type: str | None


class Answer(Scored):
    """Exact match ("accuracy") of every answer, overall and by ``labels["types"]``, and token F1.

    Earlier answers of the same turn are given as they should have been; captions that the model is to
    produce are not given. Intervals treat the questions of one sample as one unit. ``limit`` counts samples.
    """

    name = "answer"

    def __init__(self, limit: int | None = 500, max_new_tokens: int = 32, shown: int = 12) -> None:
        self.limit, self.max_new_tokens, self.shown = limit, max_new_tokens, shown

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        if TEXT not in set(modalities):
            return "the model knows no text"
        if not any(_asks(sample) for sample in samples):
            return "no sample has a question with an answer to be generated"
        return None

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        questions, problems = self._questions(samples)
        result = TaskResult(self.name, {}, problems=problems)
        if not questions:
            return [result]
        found = self._complete(predictor, questions, batch_size)
        expected = [question.expected for question in questions]
        exact = exact_match(found, expected)
        keys: dict[str, int] = {}
        groups = torch.tensor([keys.setdefault(question.prompt.key, len(keys)) for question in questions])
        result.metrics["accuracy"] = bootstrap(exact, groups=groups)
        for kind in sorted({question.type for question in questions if question.type}):
            rows = torch.tensor([question.type == kind for question in questions])
            result.metrics[f"accuracy: {kind}"] = bootstrap(exact[rows], groups=groups[rows])
        result.metrics["token F1"] = bootstrap(token_f1(found, expected), groups=groups)
        for question, text, right in zip(questions, found, exact.tolist(), strict=True):
            result.records.append(
                {
                    "key": question.prompt.key,
                    "number": question.number,
                    "prompt": question.text,
                    "type": question.type,
                    "expected": question.expected,
                    "found": text,
                    "right": right == 1,
                }
            )
        result.gallery.extend(
            Completion(
                task=self.name,
                key=questions[i].prompt.key,
                inputs=media(questions[i].prompt),
                prompt=questions[i].text,
                expected=expected[i],
                found=found[i],
                right=bool(exact[i] == 1),
            )
            for i in spread(range(len(questions)), self.shown)
        )
        return [result]

    def score(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        withheld: Collection[str] = (),
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> dict[Example, float]:
        questions = [
            replace(question, prompt=prompt)
            for question in self._questions(samples)[0]
            for prompt in withhold([question.prompt], withheld)
        ]
        found = self._complete(predictor, questions, batch_size)
        right = exact_match(found, [question.expected for question in questions]).tolist()
        return {(q.prompt.key, q.number): value for q, value in zip(questions, right, strict=True)}

    def _complete(self, predictor: Predictor, questions: Sequence[_Question], batch_size: int) -> list[str]:
        prompts = [question.prompt for question in questions]
        return predictor.complete(prompts, max_new_tokens=self.max_new_tokens, batch_size=batch_size)

    def _questions(self, samples: Sequence[Sample]) -> tuple[list[_Question], list[DataError]]:
        questions: list[_Question] = []
        problems: list[DataError] = []
        for sample in subset([sample for sample in samples if _asks(sample)], self.limit):
            try:
                questions += _of(sample)
            except DataError as error:
                problems.append(error)
        return questions, problems


def _answers(sample: Sample) -> list[int]:
    """Where the answers to be generated stand among the segments."""
    return [
        i for i, s in enumerate(sample.segments) if s.role == "assistant" and s.modality == TEXT and s.target
    ]


def _asks(sample: Sample) -> bool:
    return bool(_answers(sample)) and any(segment.role == "user" for segment in sample.segments)


def _of(sample: Sample) -> list[_Question]:
    """The questions of a sample. Raises DataError if ``labels["types"]`` does not name one type for each."""
    places = _answers(sample)
    types = sample.labels.get("types", [None] * len(places))
    if not isinstance(types, list | tuple) or len(types) != len(places):
        found = f"{len(types)}" if isinstance(types, list | tuple) else repr(types)
        reason = f"expected one type for each of {len(places)} questions, found {found}"
        raise DataError(reason, key=sample.key, file=sample.file or None, line=sample.line, field="types")
    questions = []
    for number, (place, kind) in enumerate(zip(places, types, strict=True)):
        answer = sample.segments[place]
        before = [s for s in sample.segments[:place] if s.turn in (0, answer.turn)]
        prompt = tuple(replace(s, target=False) for s in before if not (s.role == "content" and s.target))
        asked = [s.value for s in prompt if s.role == "user" and s.modality == TEXT]
        questions.append(
            _Question(
                prompt=replace(sample, segments=prompt),
                number=number,
                text=str(asked[-1]) if asked else "",
                expected=str(answer.value),
                type=None if kind is None else str(kind),
            )
        )
    return questions
