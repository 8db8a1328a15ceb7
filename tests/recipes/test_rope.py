"""What configs of both versions of transformers say of rotary positions, read and written again."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig

from sensorium.core import CapabilityError, ConfigError, Spec
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.rotary_scaling import DynamicNTK, LinearScaling, Llama3, LongRope, Yarn
from sensorium.nn.layers.rotary_sections import Chunked, Interleaved
from sensorium.recipes._rope import FULL, SLIDING, rotaries, rotaries_fields, rotary, rotary_fields
from sensorium.weights.config import Config

WIDTH = 8
SHORT, LONG = [1.0, 1.1, 1.2, 1.3], [1.0, 2.0, 3.0, 4.0]
ORIGINAL = "original_max_position_embeddings"


def read(fields: dict[str, Any], **usual: Any) -> Spec:
    config = Config(fields, "config.json")
    spec = rotary(config, WIDTH, **usual)
    config.ignore("max_position_embeddings")
    config.finish()
    spec.build()
    return spec


def made(base: float = 1e4, turned: int = WIDTH, neighbours: bool = False, **more: Any) -> Spec:
    return Spec(Rotary, turned=turned, base=base, neighbours=neighbours, **more)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Spec]] = {
    "nothing said": ({}, {"rope_scaling": None, "rope_parameters": None}, made()),
    "base": ({"rope_theta": 500}, {"rope_parameters": {"rope_theta": 500, "rope_type": "default"}}, made(500.0)),
    "a part": ({"partial_rotary_factor": 0.5}, {"rope_parameters": {"partial_rotary_factor": 0.5}}, made(turned=4)),
    "linear": (
        {"rope_theta": 50.0, "rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}},
        made(50.0, scaling=Spec(LinearScaling, factor=2.0)),
    ),
    "dynamic": (
        {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        made(scaling=Spec(DynamicNTK, factor=2.0, original=64)),
    ),
    "yarn": (
        {"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": None}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, ORIGINAL: 64}, "max_position_embeddings": 256},
        made(scaling=Spec(Yarn, factor=4.0, original=64)),
    ),
    "yarn by its lengths": (
        {"max_position_embeddings": 256, "rope_scaling": {
            "type": "yarn", "factor": None, ORIGINAL: 64, "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.5,
            "beta_fast": 16, "beta_slow": 2}},
        {"rope_parameters": {
            "rope_type": "yarn", "factor": 4.0, ORIGINAL: 64, "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.5,
            "beta_fast": 16, "beta_slow": 2}},
        made(scaling=Spec(Yarn, factor=4.0, original=64, fast=16.0, slow=2.0, truncate=False, mscale=1.0,
                          mscale_all_dim=0.5)),
    ),
    "longrope": (
        {"max_position_embeddings": 256, ORIGINAL: 64,
         "rope_scaling": {"type": "su", "short_factor": SHORT, "long_factor": LONG}},
        {"rope_parameters": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 4.0,
                             ORIGINAL: 64}},
        made(scaling=Spec(LongRope, short=SHORT, long=LONG, original=64, factor=4.0)),
    ),
    "llama3": (
        {"rope_theta": 5e5, "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0, ORIGINAL: 64}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 2.0, ORIGINAL: 64}},
        made(5e5, scaling=Spec(Llama3, factor=8.0, original=64, low=1.0, high=2.0)),
    ),
    "sections": (
        {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}},
        {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
        made(sections=Spec(Chunked, sizes=[2, 1, 1])),
    ),
    "sections in turn, scaled": (
        {"rope_scaling": {"type": "linear", "factor": 2.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}},
        {"rope_parameters": {
            "rope_type": "linear", "factor": 2.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}},
        made(scaling=Spec(LinearScaling, factor=2.0), sections=Spec(Interleaved, sizes=[2, 1, 1])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_read_and_written(case: str):
    older, newer, expected = CASES[case]
    assert read(older) == read(newer) == expected
    assert read(rotary_fields(expected, WIDTH)) == expected


@pytest.mark.parametrize("case", ["linear", "dynamic", "yarn by its lengths", "longrope", "llama3"])
def test_transformers_reads_what_is_written(case: str):
    """The same parameters as those of version 5, for a model whose longest sequence is kept."""
    _, newer, spec = CASES[case]
    longest = {"max_position_embeddings": 64}
    found = LlamaConfig(**longest | rotary_fields(spec, WIDTH)).rope_parameters
    expected = LlamaConfig(**longest | newer).rope_parameters
    assert {name: found[name] for name in expected} == expected


def test_what_configs_leave_out():
    assert read({}, base=7.0, share=0.5, neighbours=True) == made(7.0, 4, neighbours=True)
    assert read({"rope_theta": 9.0, "partial_rotary_factor": 1.0}, base=7.0, share=0.5) == made(9.0)


@pytest.mark.parametrize(("width", "turned"), [(44, 30), (104, 60), (128, 32)])
def test_a_part_is_written_so_that_it_is_read_again(width: int, turned: int):
    share = rotary_fields(made(turned=turned), width)["partial_rotary_factor"]
    assert int(width * share) == turned


@pytest.mark.parametrize(
    ("error", "match", "fields"),
    [
        (CapabilityError, "rope_scaling.type: only .* found 'spiral'", {"rope_scaling": {"type": "spiral"}}),
        (CapabilityError, "rope_parameters.rope_type: only", {"rope_parameters": {"rope_type": "proportional"}}),
        (ConfigError, "rope_scaling.factor: expected float", {"rope_scaling": {"type": "linear"}}),
        (ConfigError, "max_position_embeddings: expected int", {"rope_scaling": {"type": "dynamic", "factor": 2}}),
        (ConfigError, "max_position_embeddings: expected int", {"rope_scaling": {"type": "llama3", "factor": 2}}),
        (ConfigError, "rope_scaling.original_max_position_embeddings: expected max_position_embeddings .64.",
         {"rope_scaling": {"type": "dynamic", "factor": 2, ORIGINAL: 32}, "max_position_embeddings": 64}),
        (ConfigError, "rope_scaling.twist: unknown field", {"rope_scaling": {"type": "default", "twist": 1}}),
        (ConfigError, "rope_parameters.factor: contradictory", {
            "rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"type": "linear", "factor": 3}}),
        (ConfigError, "partial_rotary_factor: expected at least 0 and at most 1", {"partial_rotary_factor": 1.5}),
    ],
)  # fmt: skip
def test_refused(error: Any, match: str, fields: dict[str, Any]):
    with pytest.raises(error, match=match):
        read(fields)


def both(fields: dict[str, Any]) -> dict[str, Spec]:
    config = Config(fields, "config.json")
    found = rotaries(config, WIDTH, full=1e6, sliding=1e4)
    config.finish()
    return found


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Spec]]] = {
    "nothing said": ({}, {"rope_parameters": {FULL: None, SLIDING: None}}, {FULL: made(1e6), SLIDING: made(1e4)}),
    "linear": (
        {"rope_theta": 5e5, "rope_local_base_freq": 50, "rope_scaling": {"rope_type": "linear", "factor": 8}},
        {"rope_parameters": {
            FULL: {"rope_theta": 5e5, "rope_type": "linear", "factor": 8.0},
            SLIDING: {"rope_theta": 50.0, "rope_type": "default"}}},
        {FULL: made(5e5, scaling=Spec(LinearScaling, factor=8.0)), SLIDING: made(50.0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_layers(case: str):
    older, newer, expected = KINDS[case]
    assert both(older) == both(newer) == expected
    assert both(rotaries_fields(expected)) == expected


def test_kinds_that_older_files_cannot_tell():
    specs = {FULL: made(5e5), SLIDING: made(50.0, scaling=Spec(LinearScaling, factor=2.0))}
    assert both(rotaries_fields(specs)) == specs
