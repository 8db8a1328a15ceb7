"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training.kit import lines, trainer, weights

from sensorium.training.average import Average


def test_it_is_the_recurrence_with_a_window_that_grows():
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    average, expected = Average([("p", parameter)], 0.9), torch.zeros(3, dtype=torch.float64)
    for step in range(1, 201):
        with torch.no_grad():
            parameter += 1
        average.update(step)
        keep = min(0.9, step / (step + 10))
        expected = keep * expected + (1 - keep) * parameter.detach()
        torch.testing.assert_close(average.values["p"], expected, rtol=1e-12, atol=0.0)


def test_a_second_swap_undoes_the_first():
    parameter = nn.Parameter(torch.randn(4))
    average = Average([("p", parameter)], 0.9)
    with torch.no_grad():
        parameter *= 3
    current, mean = parameter.detach().clone(), average.values["p"].clone()
    average.swap()
    assert torch.equal(parameter, mean)
    assert torch.equal(average.values["p"], current)
    average.swap()
    assert torch.equal(parameter, current)
    assert torch.equal(average.values["p"], mean)


def test_validation_sees_the_average_in_evaluation_mode_and_all_is_restored(tmp_path):
    seen = []

    def validate(network):
        seen.append(({n: p.detach().clone() for n, p in network.named_parameters()}, network.training))
        return {"figures": {"toy R@1": 0.5}, "examples": []}

    watched = trainer(tmp_path / "a", settings={"validate": 3}, validate=validate)
    watched.run()
    plain = trainer(tmp_path / "b")
    plain.run()
    for name, value in weights(plain).items():
        assert torch.equal(value, watched.named[name]), "validation changes nothing"
        assert torch.equal(plain.average.values[name], watched.average.values[name])
    assert len(seen) == 3
    assert not any(training for _, training in seen)
    assert watched.model.training
    assert all(torch.equal(seen[-1][0][name], value) for name, value in plain.average.values.items())
    events = [line for line in lines(tmp_path / "a" / "log.jsonl") if line.get("event") == "validation"]
    assert [event["step"] for event in events] == [2, 4, 6]
    assert events[0]["figures"] == {"toy R@1": 0.5}


def test_the_weights_come_back_when_validation_fails(tmp_path):
    def validate(network):
        raise RuntimeError("no")

    failing = trainer(tmp_path / "a", settings={"validate": 1}, validate=validate)
    with pytest.raises(RuntimeError, match="no"):
        failing.run()
    plain = trainer(tmp_path / "b")
    plain.run()
    assert all(torch.equal(value, failing.named[name]) for name, value in weights(plain).items())
