"""The harness: every task on one source, whatever is missing or broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sensorium.core import ConfigError, DataError
from sensorium.evaluation import Retrieval, default_tasks, evaluate
from sensorium.evaluation.gallery import Item, Mistake, Neighbour, Neighbours, Place, select
from sensorium.evaluation.material import size_of


def test_everything_at_once(kit, tmp_path: Path) -> None:
    found = evaluate(kit.predictor(), kit.source(kit.world(12, label=True)), name="mine", compare=kit.judge)
    assert list(found.figures) == [
        "audio-image", "audio-text", "image-text", "classify", "caption", "answer", "withheld",
        "reconstruct",
    ]  # fmt: skip
    assert found.flat()["image-text R@1"] == found.figures["image-text"]["R@1"].value == 1
    assert found.skipped == {}
    assert found.counts == {
        "in the data": 12, "evaluated": 12, "left out": 0, "combinations": {"image+audio+text": 12},
    }  # fmt: skip

    path = found.write(tmp_path / "mine")
    assert path == tmp_path / "mine" / "evaluation.json"
    saved = json.loads(path.read_text())
    assert saved["data"] == "mine"
    assert saved["figures"]["answer"]["accuracy"]["n"] == 12
    lines = [json.loads(line) for line in (path.parent / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == len(found.records) == 12 * 3 + 12 + 12 + 24 + 12
    gallery = json.loads((path.parent / "gallery.json").read_text())
    assert {item["kind"] for item in gallery["items"]} >= {
        "neighbours",
        "completion",
        "confusion",
        "reliance",
        "restored",
    }
    for item in found.gallery:
        for key, modality in item.places():
            assert modality in gallery["media"][key]
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "evaluation.json",
        "gallery.json",
        "samples.jsonl",
    ]


def test_media_are_decoded_once_for_all_tasks(kit) -> None:
    predictor = kit.predictor()
    evaluate(predictor, kit.source(kit.world(12)))
    assert predictor.modalities["image"].reads == 12
    assert predictor.modalities["audio"].reads == 12


def test_memory_is_bounded(kit) -> None:
    plenty, little = kit.predictor(), kit.predictor()
    source = kit.source(kit.world(12))
    assert evaluate(plenty, source).flat() == evaluate(little, source, memory=1500).flat()
    assert little.modalities["image"].reads > 12


def test_broken_samples_are_named_and_left_out(kit) -> None:
    early = DataError("bad JSON", file="test.jsonl", line=9)
    items = [*kit.world(6), kit.thing("bad", "broken"), DataError("no such file", key="gone")]
    found = evaluate(kit.predictor(), kit.source(items, problems=[early]))
    assert [error.record() for error in found.problems] == [
        {"key": "bad", "file": "test.jsonl", "line": 1, "field": "image", "reason": "cannot be decoded"},
        {"key": "gone", "reason": "no such file"},
        {"file": "test.jsonl", "line": 9, "reason": "bad JSON"},
    ]
    assert found.counts["evaluated"] == 6
    assert found.counts["left out"] == 3


def test_a_source_that_also_lists_what_it_raises_is_not_counted_twice(kit) -> None:
    error = DataError("no such file", key="gone")
    found = evaluate(kit.predictor(), kit.source([*kit.world(3), error], problems=[error]))
    assert len(found.problems) == 1


def test_missing_and_unknown_modalities(kit) -> None:
    samples = [*kit.world(6, modalities=["image"]), kit.thing("heard", "red star", modalities=["audio"])]
    found = evaluate(kit.predictor(modalities=["text", "image"]), kit.source(samples))
    assert list(found.figures) == ["image-text", "caption", "answer", "withheld", "reconstruct"]
    assert found.notes == ["the model does not know audio: 1 segments were left out"]
    assert found.skipped == {"classify": "no sample has a label"}
    assert found.counts["combinations"] == {"image+text": 6, "text": 1}


def test_what_a_model_cannot_do_is_skipped_with_the_reason(kit) -> None:
    found = evaluate(kit.predictor(can=["embed"]), kit.source(kit.world(6)))
    assert set(found.figures) == {"audio-image", "audio-text", "image-text"}
    assert found.skipped["caption"] == "this model cannot complete: it has no head for it"


def test_limit_draws_from_the_whole_source(kit) -> None:
    source = kit.source(kit.world(200))
    found = evaluate(kit.predictor(), source, tasks=[Retrieval()], limit=20)
    keys = [record["key"] for record in found.records if record["task"] == "image-text"]
    assert len(keys) == 20
    assert keys == sorted(keys)
    assert keys[-1] > "s150"
    again = evaluate(kit.predictor(), source, tasks=[Retrieval()], limit=20)
    assert again.records == found.records
    other = evaluate(kit.predictor(), source, tasks=[Retrieval()], limit=20, seed=1)
    assert other.records != found.records


@pytest.mark.parametrize("bad", [0, 2])
def test_nothing_to_evaluate(kit, bad: int) -> None:
    source = kit.source([DataError("no such file", key=f"k{i}") for i in range(bad)])
    with pytest.raises(ConfigError, match=rf"mine: there is nothing to evaluate \({bad} samples"):
        evaluate(kit.predictor(), source, name="mine")


def test_progress(kit) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(
        kit.predictor(),
        kit.source(kit.world(2)),
        tasks=default_tasks()[:2],
        progress=lambda *state: seen.append(state),
    )
    assert seen == [
        ("reading", 1, 2),
        ("reading", 2, 2),
        ("retrieval", 0, 2),
        ("classify", 1, 2),
        ("done", 2, 2),
    ]


def test_large_fragments_are_not_kept(kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.evaluation.harness._LARGEST_FRAGMENT", 1000)
    found = evaluate(kit.predictor(), kit.source(kit.world(6)))
    shown = {modality for fragments in found.media.values() for modality in fragments}
    assert shown == {"image", "text", "image whole", "image hidden", "image restored"}


def test_gallery_takes_tasks_in_turn_within_its_limits() -> None:
    def query(task: str, key: str) -> Neighbours:
        found = (Neighbour(f"{key}-other", 0.5, False),)
        return Neighbours(task, "image", "audio", key, rank=1, worst=False, among=9, found=found)

    def mistake(key: str) -> Mistake:
        return Mistake("classify", key, "image", expected="a", found="b", confidence=0.9)

    def cost(place: Place) -> int:
        return {"image": 10, "audio": 40}[place[1]]

    def chosen(samples: int, budget: int) -> list[str]:
        return [item.key for item in select(many, samples=samples, cost=cost, budget=budget)]

    many: list[list[Item]] = [[query(task, f"{task}{i}") for i in range(5)] for task in "ab"]
    assert chosen(100, 199) == ["a0", "b0", "a1"]
    assert chosen(5, 1000) == ["a0", "b0"]
    # items about one sample have half of both to themselves, and get what is left over
    many.append([mistake(f"m{i}") for i in range(5)])
    assert chosen(100, 89) == ["m0", "m1", "m2", "m3", "m4"]
    assert chosen(100, 90) == ["a0", "m0", "m1", "m2", "m3"]
    assert chosen(100, 100) == ["a0", "m0", "m1", "m2", "m3", "m4"]
    assert chosen(4, 1000) == ["a0", "m0", "m1"]


def test_size_of_decoded_values(kit) -> None:
    from PIL import Image
    from torch import zeros

    assert size_of(zeros(10)) == 40
    assert size_of(Image.new("RGB", (10, 20))) == 600
    assert size_of({"a": [zeros(1), zeros(2)]}) == 12
    assert size_of("x" * 1000) >= 1000
