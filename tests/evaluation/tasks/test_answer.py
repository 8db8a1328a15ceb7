"""Answers to questions, by type."""

from __future__ import annotations

from dataclasses import replace

from sensorium.core import Sample, Segment
from sensorium.evaluation import Answer


def test_accuracy_by_type(kit) -> None:
    (result,) = Answer().run(kit.predictor(), kit.world(6))
    assert list(result.metrics) == ["accuracy", "accuracy: colour", "accuracy: shape", "token F1"]
    assert result.metrics["accuracy"].value == 1
    assert result.metrics["accuracy"].n == 6  # samples: two questions about one thing are one unit
    assert result.records[1] == {
        "key": "s000",
        "number": 1,
        "prompt": "what shape?",
        "type": "shape",
        "expected": "circle",
        "found": "circle",
        "right": True,
    }
    assert {item.prompt for item in result.gallery} == {"what colour?", "what shape?"}


def test_prompts_hold_the_media_and_one_question(kit) -> None:
    predictor = kit.predictor()
    Answer().run(predictor, kit.world(1))
    ((_, prompts),) = predictor.calls
    assert [[(s.modality, s.role) for s in prompt.segments] for prompt in prompts] == [
        [("image", "content"), ("audio", "content"), ("text", "user")]
    ] * 2
    assert [prompt.segments[-1].value for prompt in prompts] == ["what colour?", "what shape?"]


def test_earlier_answers_of_a_turn_are_given(kit) -> None:
    dialogue = (
        Segment("image", "red circle"),
        Segment("text", "what colour?", role="user", turn=1),
        Segment("text", "red", role="assistant", target=True, turn=1),
        Segment("text", "and what shape?", role="user", turn=1),
        Segment("text", "circle", role="assistant", target=True, turn=1),
    )
    predictor = kit.predictor()
    (result,) = Answer().run(predictor, [Sample("a", dialogue)])
    ((_, (_, second)),) = predictor.calls
    assert [s.value for s in second.segments] == ["red circle", "what colour?", "red", "and what shape?"]
    assert not any(s.target for s in second.segments)
    assert result.metrics["accuracy"].value == 1
    assert "accuracy: None" not in result.metrics


def test_wrong_types_are_a_problem_of_that_sample(kit) -> None:
    samples = kit.world(3)
    samples[1] = replace(samples[1], labels={"types": ["colour"]})
    samples[2] = replace(samples[2], labels={"types": "colour"})
    (result,) = Answer().run(kit.predictor(), samples)
    assert {record["key"] for record in result.records} == {"s000"}
    assert [str(error) for error in result.problems] == [
        "test.jsonl:1, key 's001', field 'types': expected one type for each of 2 questions, found 1",
        "test.jsonl:1, key 's002', field 'types': expected one type for each of 2 questions, found 'colour'",
    ]
    (empty,) = Answer().run(kit.predictor(), samples[1:])
    assert empty.metrics == {}


def test_score_without_media_is_guessing(kit) -> None:
    samples = [kit.thing("a", "red circle"), kit.thing("b", "blue square")]
    full = Answer().score(kit.predictor(), samples)
    assert full == {(key, number): 1 for key in "ab" for number in (0, 1)}
    blind = Answer().score(kit.predictor(), samples, withheld=["image", "audio"])
    assert blind == {("a", 0): 1, ("a", 1): 0, ("b", 0): 0, ("b", 1): 0}  # it always says red


def test_reasons_why_not(kit) -> None:
    assert Answer().applies(kit.world(3), ["text"]) is None
    assert "no text" in Answer().applies(kit.world(3), ["image"])
    assert "question" in Answer().applies(kit.world(3, questions=False), ["text"])
