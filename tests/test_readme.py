"""The README does what it says: its commands exist, and those tagged for it are run as a reader would type them.

A fenced block with ``<!-- test -->`` on the line above it is run; all such blocks run in order in one empty folder.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sensorium import cli

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?P<tag><!-- test -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.M | re.S)
TIMEOUT = 300  # seconds


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    code: str
    tested: bool


def blocks(text: str) -> list[Block]:
    """The blocks of shell commands and Python of a page, in order."""
    return [Block(m["language"], m["code"], m["tag"] is not None) for m in BLOCK.finditer(text)]


def commands(text: str, program: str) -> list[list[str]]:
    """The words of every command of a page's shell blocks that calls ``program``; continued lines are joined."""
    joined = "\n".join(block.code for block in blocks(text) if block.language == "sh").replace("\\\n", " ")
    split = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for words in split if words[:1] == [program]]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


PAGE = """
<!-- test -->
```sh
echo 1
```
```sh
make \\
  test # all
```
```text
make lint
```
<!-- test -->

```sh
```
"""


def test_blocks_are_found():
    assert blocks(PAGE) == [
        Block("sh", "echo 1\n", True),
        Block("sh", "make \\\n  test # all\n", False),
        Block("sh", "", False),
    ]
    assert commands(PAGE, "make") == [["make", "test"]]


def test_it_can_be_tried(readme: str):
    assert any(block.language == "sh" and block.tested for block in blocks(readme))


def test_its_checks_are_those_of_ci(readme: str):
    gate = (ROOT / ".ci" / "run").read_text().splitlines()
    assert gate[0] == "#!/bin/sh"
    assert [line for line in gate[1:] if line and not line.startswith("#")] == [
        "set -eu",
        'cd "$(dirname "$0")/.."',
        "make test",
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert ["make", "test"] in commands(readme, "make")


def test_its_make_targets_exist(readme: str):
    targets = set(re.findall(r"^([.\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {word for words in commands(readme, "make") for word in words[1:] if "=" not in word}
    assert named <= targets


def test_its_verbs_and_options_exist(readme: str):
    for words in commands(readme, "sensorium"):
        assert words[1] in cli.VERBS, shlex.join(words)
        known = {"--" + name.replace("_", "-") for name in inspect.signature(cli.VERBS[words[1]]).parameters}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, shlex.join(words)


@pytest.mark.slow
def test_tagged_blocks_run(readme: str, tmp_path: Path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for block in blocks(readme):
        if block.tested:
            program = ["sh", "-eu"] if block.language == "sh" else [sys.executable, "-"]
            ran = subprocess.run(
                program,
                input=block.code,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
            assert ran.returncode == 0, f"{block.code}\n{ran.stdout}\n{ran.stderr}"
