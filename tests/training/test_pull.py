"""Tiles, cached gradients and ranks compose: every contrastive loss and gradient is that of plain autograd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training import aligned
from training.aligned import CASES, divisions, expected, remembered, stepped
from training.kit import exact

from sensorium.training.distributed import World

TESTS = Path(__file__).parents[1]
CLOSE = {"atol": 1e-10, "rtol": 1e-9}


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("aligned")
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, aligned.__file__, "2", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def _assert_close(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-9)
    assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-9)
    assert found["gradients"].keys() == wanted["gradients"].keys()
    for name, gradient in wanted["gradients"].items():
        a, b = torch.tensor(found["gradients"][name]), torch.tensor(gradient)
        torch.testing.assert_close(a, b, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("how", ["whole", "cached"])
@pytest.mark.parametrize("case", CASES)
def test_one_process(case, how):
    """Missing modalities, concepts, dropout; the whole batch at once or cached."""
    of = divisions()[how]
    wanted = expected(case, of, 5, 0.3)
    _assert_close(stepped(case, World(), of[0], 5, 0.3), wanted)
    named = {name.removeprefix("student."): one for name, one in wanted["gradients"].items()}
    assert abs(named["log_scale"]) > 1e-4
    assert (abs(named["offset"]) > 1e-4) == ("sigmoid" in case)


@pytest.mark.parametrize("how", ["ranks", "cached ranks"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_each_with_its_own_rows(ranks, case, how):
    wanted = expected(case, divisions()[how], 5, 0.3)
    for found in ranks:
        _assert_close(found[f"{case}/{how}"], wanted)


@pytest.mark.parametrize("how", ["ranks", "cached ranks"])
def test_what_is_remembered_is_that_of_all_processes_in_order(ranks, how):
    wanted = remembered(World(), divisions()["whole"][0])
    assert wanted["filled"] == [6, 6]
    for found in ranks:
        assert found[f"remembered/{how}"].keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(torch.tensor(found[f"remembered/{how}"][name]), torch.tensor(value))


@pytest.mark.parametrize("case", CASES)
def test_however_it_is_divided_it_is_one_batch(case):
    """Without dropout, which draws by micro-batch."""
    found = [stepped(case, World(), divisions()[how][0], 5, 0.0) for how in ("whole", "cached")]
    _assert_close(found[1], found[0])
