"""The page: everything on it, nothing from outside it, nothing that runs but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sensorium.core import ConfigError, DataError
from sensorium.evaluation import evaluate
from sensorium.evaluation.report import Command, write_report
from sensorium.evaluation.report import words as w

HOSTILE = "a <script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"
_VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects addresses, handlers, tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture
def run(kit, tmp_path: Path) -> Path:
    folder = tmp_path / "my run"
    samples = kit.world(24, label=True)
    samples[3] = kit.thing("hostile<b>", "red circle", caption=HOSTILE, label=True)
    samples.append(kit.thing("bad", "broken", label=True))
    for name, skill, description in (("test", 0.8, ""), ("compositional", 0.4, "unseen pairs")):
        found = evaluate(
            kit.predictor(skill=skill),
            kit.source(samples),
            name=name,
            description=description,
            compare=kit.judge,
        )
        found.write(folder / "evaluation" / name)
    log = [
        {
            "step": step,
            "seconds": step * 0.9,
            "loss": 5 - step / 100,
            "losses": {"contrastive/image-text": 3.0, "<i>odd</i>": float("nan")},
            "learning_rate": 1e-3,
            "gradient_norm": 0.8,
            "samples_per_second": 210.0,
        }
        for step in range(10, 210, 10)
    ]
    log += [
        {
            "step": step,
            "event": "validation",
            "figures": {"image-text R@1": step / 250},
            "examples": [
                {"key": "v1", "prompt": HOSTILE, "expected": "red", "found": "blue" if step < 200 else "red"}
            ],
        }
        for step in (100, 200)
    ]
    log.append({"event": "skipped", "step": 70, "reason": "loss nan", "keys": ["s1"]})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log) + '{"step": 21')
    sources = [{"name": "pairs.csv", "weight": 0.5, "samples": 8000, "combinations": {"image+text": 8000}}]
    (folder / "data.json").write_text(json.dumps({"sources": sources, "validation": None}))
    (folder / "spec.json").write_text(
        json.dumps({"class": "a.b:System", "model": {"class": "a.b:Net", "width": 8}})
    )
    (folder / "facts.json").write_text(json.dumps({"parameters": 1234567, "machine": "2 cores"}))
    (folder / "quarantine.jsonl").write_text(
        json.dumps({"key": "k", "file": "x.csv", "line": 3, "reason": HOSTILE}) + "\n"
    )
    return folder


def test_page_is_whole_and_self_contained(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert page.handlers == []
    assert page.addresses
    assert all(re.match(r"data:(image|audio)/|#", address) for address in page.addresses)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert len(text) < 8_000_000
    assert "link" not in page.tags


def test_only_its_own_script_may_run(run: Path) -> None:
    text = write_report(run).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_hostile_strings_are_shown_as_they_are(run: Path) -> None:
    text = write_report(run).read_text()
    assert "<script>alert" not in text
    assert " ".join(HOSTILE.split()) in Page(text).words
    assert "49" not in re.findall(r"quoted.{0,20}", text)[0]


def test_every_figure_is_on_it(run: Path) -> None:
    words = Page(write_report(run).read_text()).words
    for name in ("test", "compositional"):
        saved = json.loads((run / "evaluation" / name / "evaluation.json").read_text())
        for task, figures in saved["figures"].items():
            assert task in words
            for metric, figure in figures.items():
                assert w.arrows(metric) in words
                shown = f"{100 * figure['value']:.1f} %" if w.is_share(metric) else f"{figure['value']:g}"
                assert shown in words, (task, metric)


def test_what_it_tells(run: Path) -> None:
    commands = [Command("Ask it", "sensorium ask run --image x.png")]
    page = Page(
        write_report(run, title="First light", facts={"machine": "a laptop"}, commands=commands).read_text()
    )
    words = page.words
    for part in (
        "First light",
        "8 000 samples from pairs.csv in 3 min",
        "1 234 567",
        "a laptop",
        "From test to compositional (unseen pairs)",
        "contrastive/image-text",
        "steps skipped as not finite: 1",
        "Lines that could not be read: 1",
        "Watching it learn",
        "text → image",
        "audio → image",
        "right one first of 24",
        "from image + audio",
        "what colour?",
        "rows are the true label",
        "without",
        "% sure",
        "What it restores",
        "whole hidden restored 80 % of it restored",
        "cannot be decoded",
        "sensorium ask run --image x.png",
    ):
        assert part in words, part
    assert "2 cores" not in words
    assert page.tags.count("audio") > 5
    assert page.tags.count("img") > 20


def test_a_model_of_one_modality(kit, tmp_path: Path) -> None:
    samples = kit.world(8, modalities=["image"])
    found = evaluate(kit.predictor(modalities=["image"], can=["embed", "reconstruct"]), kit.source(samples))
    found.write(tmp_path)
    page = Page(write_report(tmp_path).read_text())
    assert "What it finds alike image 6 queries, evenly picked" in page.words
    assert "right one" not in page.words
    assert "No retrieval was measured on test" in page.words
    assert {"#alike", "#restored"} <= set(page.addresses)
    assert "reconstruct" in page.words
    assert page.tags.count("figcaption") == 18


def test_media_budget(run: Path, tmp_path: Path) -> None:
    large = write_report(run)
    small = write_report(run, output=tmp_path / "small.html", media_budget=20_000)
    assert small == tmp_path / "small.html"
    assert small.stat().st_size < large.stat().st_size / 2
    assert "are only named, to keep the page small" in small.read_text()
    assert "are only named" not in large.read_text()


def test_an_empty_run_says_what_is_absent(tmp_path: Path) -> None:
    words = Page(write_report(tmp_path).read_text()).words
    for part in (
        "Not evaluated yet.",
        "no evaluation yet",
        "no data.json",
        "no spec.json",
        "no log.jsonl",
        "Nothing was left out",
        "sensorium evaluate",
    ):
        assert part in words


def test_a_single_evaluation_beside_the_run_has_no_gap(kit, tmp_path: Path) -> None:
    samples = kit.world(6, modalities=["image"], questions=False)
    evaluate(kit.predictor(modalities=["text", "image"], can=["embed"]), kit.source(samples)).write(tmp_path)
    words = Page(write_report(tmp_path).read_text()).words
    assert "image ↔ text" in words
    assert "gap" not in words.split()
    assert "caption was not asked on test: this model cannot complete" in words
    assert "No captions were generated." in words
    assert "No classes were asked for." in words


def test_evaluations_come_in_order_of_their_time(run: Path) -> None:
    file = run / "evaluation" / "test" / "evaluation.json"
    later = json.loads(file.read_text()) | {"finished": "2999-01-01T00:00:00+00:00"}
    file.write_text(json.dumps(later))
    assert "From compositional to test" in Page(write_report(run).read_text()).words


def test_looks_on_the_way_give_place_to_an_evaluation(kit, tmp_path: Path) -> None:
    def shown(name: str) -> str:
        found = evaluate(kit.predictor(), kit.source(kit.world(6)), name=name)
        found.write(tmp_path / "evaluation" / name)
        return Page(write_report(tmp_path).read_text()).words

    assert "Tested on 6 samples of validation." in shown("validation")
    assert "Tested on 6 samples of test." in shown("test")


def test_damaged_files_are_named(run: Path, tmp_path: Path) -> None:
    file = run / "evaluation" / "test" / "evaluation.json"
    file.write_text('{"data": "test"}')
    with pytest.raises(DataError, match=r"evaluation\.json: is not an evaluation: 'description'"):
        write_report(run)
    file.write_text("{")
    with pytest.raises(DataError, match=r"evaluation\.json: is not JSON"):
        write_report(run)
    file.write_text("[]")
    with pytest.raises(DataError, match="expected a JSON object, found list"):
        write_report(run)
    with pytest.raises(ConfigError, match="expected the folder of a run, found nothing"):
        write_report(tmp_path / "nowhere")
