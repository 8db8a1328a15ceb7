"""docs/extend.md as its reader meets it: files written, commands run, examples executed in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from sensorium.cli import main
from sensorium.core import Spec
from sensorium.training.rules import Rule

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
_BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: its language, the file that it is or "", and its text."""

    language: str
    title: str
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


def files() -> dict[str, str]:
    return {block.title: block.text for block in blocks() if block.title}


def commands() -> list[list[str]]:
    lines = [line for block in blocks() if block.language == "sh" for line in block.text.splitlines()]
    return [shlex.split(line) for line in lines]


@dataclass(frozen=True)
class Walk:
    """The folder in which the page was followed, and what each command printed."""

    folder: Path
    printed: dict[str, str]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Every file of the page written and every command run, in a folder of its own."""
    folder = tmp_path_factory.mktemp("extend")
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    programs = {"python": sys.executable, "sensorium": str(Path(sys.executable).with_name("sensorium"))}
    printed = {}
    for command in commands():
        line = [programs[command[0]], *command[1:]]
        ran = subprocess.run(
            line,
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        )
        assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout}\n{ran.stderr}"
        printed[shlex.join(command)] = ran.stdout
    return Walk(folder, printed)


def test_the_extension_is_short():
    assert len(files()["my_file.py"].splitlines()) < 100


def test_the_page_has_the_commands_that_it_promises():
    verbs = [command[1] for command in commands() if command[0] == "sensorium"]
    assert verbs == ["inspect", "train", "evaluate", "ask", "ask", "embed"]


def test_its_checks_were_run(walk: Walk):
    assert "3 passed" in walk.printed["python -m pytest test_my_file.py"]


def test_it_learns_from_the_new_modality(walk: Walk):
    lines = [json.loads(line) for line in (walk.folder / "runs/inertial/log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "losses" in line]
    assert len(steps) == 30
    assert {"contrastive/inertial-text", "masked/inertial", "language"} <= set(steps[-1]["losses"])
    assert steps[-1]["loss"] < steps[0]["loss"] / 1.5
    figures = json.loads((walk.folder / "runs/inertial/evaluation.json").read_text())["figures"]
    assert figures["classify"]["inertial accuracy"]["value"] > 0.6  # "most"; chance is 0.25
    assert figures["inertial-text"]["R@1"]["n"] == 60
    assert "answer without inertial" in figures["withheld"]
    assert "<polyline" in (walk.folder / "runs/inertial/report.html").read_text()


def test_what_fit_learnt_is_saved(walk: Walk):
    saved = json.loads((walk.folder / "runs/inertial/modalities/inertial.json").read_text())
    assert saved["mean"][2] == pytest.approx(9.8, abs=0.1)  # gravity
    assert min(saved["std"]) > 0


def test_it_answers_and_embeds(walk: Walk):
    asked = [text for line, text in walk.printed.items() if line.startswith("sensorium ask")]
    assert len(asked) == 2
    assert all(text.strip() for text in asked)
    vectors = np.load(walk.folder / "traces.npy")
    assert vectors.shape[0] == 300
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_without_code_the_run_is_refused(walk: Walk, capsys: pytest.CaptureFixture[str]):
    """The error says what to do."""
    with pytest.raises(SystemExit) as left:
        main(["ask", str(walk.folder / "runs/inertial"), "what?"])
    assert left.value.code == 2
    assert "--code" in capsys.readouterr().err


def test_examples(walk: Walk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The examples without a file of their own, one after the other as in one session."""
    monkeypatch.chdir(walk.folder)
    monkeypatch.syspath_prepend(str(walk.folder))
    names: dict = {}
    try:
        for block in blocks():
            if block.language == "python" and not block.title:
                exec(compile(block.text, PAGE.name, "exec"), names)
    finally:
        for name in files():
            sys.modules.pop(name.removesuffix(".py"), None)
    assert names["vectors"].shape == (2, 128)
    assert names["deeper"].model.trunk.depth == 6
    assert names["plain"].model.encoders["inertial"].stem.channels == 6
    assert set(names["modest_motion"].objectives) >= {"language", "confidence"}
    assert names["source"][0].labels["device"] in ("phone", "watch")
    assert set(names["found"].figures["classify by device"]) == {"phone", "watch"}
    printed = capsys.readouterr().out
    assert str(names["source"][0].labels) in PAGE.read_text()  # the page shows what is printed
    assert str(names["source"][0].labels) in printed
    assert "phone: " in printed


def test_rules_apply(walk: Walk, monkeypatch: pytest.MonkeyPatch):
    """The patterns of the page match what the page says they do."""
    monkeypatch.chdir(walk.folder)
    monkeypatch.syspath_prepend(str(walk.folder))
    text = next(block.text for block in blocks() if "Spec(Rule" in block.text)
    try:
        from my_file import my_recipe

        names: dict = {"Spec": Spec, "spec": my_recipe()}
        exec(text, names)
        system = names["careful"].build()
        with torch.device("meta"):
            network = system.model.build()
        training = system.training.build()
        assert all(isinstance(rule, Rule) for rule in training.rules)
        optimizer = training.optimizer.make(network.named_parameters(), training.rules)
    finally:
        sys.modules.pop("my_file", None)
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("trunk.blocks.0.") for name in frozen)
    own = training.optimizer.others.lr / training.optimizer.lr  # of what Muon leaves to AdamW
    for part, full in zip(optimizer.parts, (1.0, own), strict=True):
        rates = {round(group["rate"], 6) for group in part.param_groups}
        assert rates <= {round(full, 6), round(0.1 * full, 6)}
        assert round(0.1 * full, 6) in rates
