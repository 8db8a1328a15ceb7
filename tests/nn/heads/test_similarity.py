"""Temperatures: where they begin, what they learn, and where they stop."""

from __future__ import annotations

import math

import pytest
import torch

from sensorium.nn.heads.similarity import Similarity, Temperature, TwoScales


def test_clip_begins_at_its_temperature_and_stays_below_a_hundred():
    made = Similarity()
    assert float(made.scale.detach()) == pytest.approx(1 / 0.07)
    assert made.bias is None
    with torch.no_grad():
        made.log_scale.fill_(math.log(250.0))
    assert float(made.scale.detach()) == pytest.approx(100.0)
    made.scale.backward()
    assert float(made.log_scale.grad) == 0.0  # beyond the limit nothing pulls


def test_siglip_has_a_bias_and_no_limit():
    made = Similarity(scale=10.0, most=None, bias=-10.0)
    assert float(made.scale.detach()) == pytest.approx(10.0)
    assert float(made.bias.detach()) == -10.0
    with torch.no_grad():
        made.log_scale.fill_(math.log(250.0))
    assert float(made.scale.detach()) == pytest.approx(250.0, rel=1e-5)
    assert {name for name, _ in made.named_parameters()} == {"log_scale", "bias"}


def test_the_logarithm_is_what_learns():
    made = Similarity(scale=5.0)
    made.scale.backward()
    assert float(made.log_scale.grad) == pytest.approx(5.0)


def test_align_divides_by_what_it_learns():
    made = Temperature(temperature=0.25)
    assert float(made.scale.detach()) == 4.0
    made.scale.backward()
    assert float(made.temperature.grad) == -16.0
    assert made.bias is None


def test_clap_learns_one_scale_and_keeps_the_other():
    made = TwoScales(scale=20.0)
    assert [name for name, _ in made.named_parameters()] == ["log_scale"]
    with torch.no_grad():
        made.log_scale.fill_(math.log(30.0))
    assert float(made.scale.detach()) == pytest.approx(30.0)
    assert float(made.back) == pytest.approx(20.0)
    assert "log_back" in made.state_dict()
    with torch.no_grad():
        made.log_scale.fill_(9.0)
    assert float(made.scale.detach()) == pytest.approx(100.0)
