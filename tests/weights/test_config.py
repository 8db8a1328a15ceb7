from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensorium.core.errors import CapabilityError, CheckpointError, ConfigError
from sensorium.weights.config import Config
from sensorium.weights.config_fields import CODE, NEUTRAL, UNUSED

#: What transformers of early 2022 wrote into each section of a config, besides what describes the model.
TAIL = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "bos_token_id": 0,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "finetuning_task": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "model_type": "clip_text_model",
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "sep_token_id": None,
    "task_specific_params": None,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tokenizer_class": None,
    "top_k": 50,
    "top_p": 1.0,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "typical_p": 1.0,
    "use_bfloat16": False,
}
TOWER = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 512,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 2048,
    "layer_norm_eps": 1e-05,
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "tie_word_embeddings": True,
}
CLIP: dict[str, Any] = {
    "_name_or_path": "openai/clip-vit-base-patch32",
    "architectures": ["CLIPModel"],
    "initializer_factor": 1.0,
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": TAIL
    | TOWER
    | {"eos_token_id": 2, "max_position_embeddings": 77, "pad_token_id": 1, "vocab_size": 49408},
    "text_config_dict": {"hidden_size": 512, "num_hidden_layers": 12},
    "torch_dtype": "float32",
    "transformers_version": None,
    "vision_config": TAIL
    | TOWER
    | {
        "eos_token_id": None,
        "image_size": 224,
        "num_channels": 3,
        "pad_token_id": None,
        "patch_size": 32,
        "out": [1, 2],
    },
    "vision_config_dict": None,
}
IGNORED = ("projection_dim", "initializer_range", "initializer_factor", "dropout", "tie_word_embeddings")


def read(config: Config) -> Iterator[Any]:
    """What a page of recipes/ does: every value that it takes."""
    yield config.take("projection_dim", int, 512, least=1)
    yield config.take("logit_scale_init_value", float, 2.6592)
    config.ignore("initializer_factor")
    text = config.section("text_config", "text_config_dict")
    vision = config.section("vision_config", "vision_config_dict")
    for tower in (text, vision):
        for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"):
            yield tower.take(name, int, TOWER[name], least=1)
        yield tower.take("layer_norm_eps", float, 1e-5, least=0)
        yield tower.take("hidden_act", str, "quick_gelu", among=("quick_gelu", "gelu"))
        tower.expect("attention_dropout", 0.0)
        tower.ignore(*IGNORED)
    yield text.take("vocab_size", int, 49408, least=1)
    yield text.take("max_position_embeddings", int, 77, least=1)
    yield text.take("eos_token_id", int, 2)
    text.ignore("pad_token_id")
    for name in ("image_size", "num_channels", "patch_size"):
        yield vision.take(name, int, 32, least=1)
    yield vision.take("out", list[int], [], least=0)
    config.finish()


def config_of(fields: Any, directory: Path) -> Config:
    (directory / "config.json").write_text(json.dumps(fields))
    return Config.read(directory / "config.json")


def test_a_real_config(tmp_path) -> None:
    config = config_of(CLIP, tmp_path)
    text = [512, 2048, 8, 12, 1e-5, "quick_gelu"]
    assert list(read(config)) == [512, 2.6592, *text, *text, 49408, 77, 2, 224, 3, 32, [1, 2]]
    assert config.notices == []


def test_what_transformers_saves_today(tmp_path) -> None:
    from transformers import CLIPConfig

    CLIPConfig(text_config={"hidden_size": 64, "num_attention_heads": 4}).save_pretrained(tmp_path)
    values = list(read(Config.read(tmp_path / "config.json")))
    assert values[2] == 64


def mutations(fields: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of every section (path), with a few other values."""
    for name, value in fields.items():
        here = (*path, name)
        if name.endswith("_config"):
            yield from mutations(value, here)
        for other in (None, True, -1, 3, 0.5, "other", [], [7], {}, {"a": 1}):
            if other != value or type(other) is not type(value):
                yield here, other
        yield (*path, name + "_x"), value


def test_no_field_is_passed_over(tmp_path) -> None:
    """A changed field changes what is taken, or is declared to have no influence, or is named by an error."""
    values = list(read(config_of(CLIP, tmp_path)))
    count = 0
    for path, other in mutations(CLIP):
        fields = copy.deepcopy(CLIP)
        place = fields
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = other
        count += 1
        try:
            changed = list(read(Config(fields, "c.json"))) != values
        except (ConfigError, CapabilityError) as error:
            said = str(error)
            assert said.startswith("c.json: "), said
            assert path[0].removesuffix("_dict") in said, (path, said)
            assert path[-1].removesuffix("_dict") in said or path[-1].startswith("text_config"), (path, said)
        else:
            declared = {*UNUSED, *IGNORED, "pad_token_id", "vision_config_dict", "text_config_dict"}
            neutral = any(other == value for value in NEUTRAL.get(path[-1], ()))
            same = (path[-1] == "attention_dropout" and other == 0) or (
                path == ("text_config",) and not other
            )
            assert changed or path[-1] in declared or neutral or same, (path, other)
    assert count > 1500


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, [0, -3, 10**12], [True, 1.0, "1", None, [1]]),
        (float, [0.5, 3, -1e300], [True, "1", None]),
        (bool, [True, False], [0, 1, None, "true"]),
        (str, ["", "a"], [1, None, ["a"]]),
        (list[int], [[], [1, 2]], [[1, 2.0], [True], 1, None, [[1]]]),
        (list[list[int]], [[[1], []]], [[1]]),
        (int | None, [1, None], [1.0, True, "1"]),
        (int | list[int], [1, [1, 2]], [[1.5], None, "1"]),
        (float | list[float], [1, [1, 0.5]], [[True], None]),
        (dict, [{}, {"a": 1}], [[], None]),
    ],
)
def test_kinds(kind: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        found = Config({"x": value}, "c.json").take("x", kind)
        assert found == value
    for value in bad:
        with pytest.raises(ConfigError, match=r"^c\.json: x: expected .*, found "):
            Config({"x": value}, "c.json").take("x", kind)


def test_whole_numbers_become_floats() -> None:
    config = Config({"a": 3, "b": [1, 2.5], "c": 3}, "c.json")
    assert type(config.take("a", float)) is float
    assert [type(item) for item in config.take("b", list[float])] == [float, float]
    assert type(config.take("c", int | float)) is int


def test_defaults_and_required_fields() -> None:
    config = Config({}, "c.json")
    assert config.take("x", int, 7) == 7
    assert config.take("x", int | None, None) is None
    with pytest.raises(ConfigError, match=r"^c\.json: x: expected int, but the field is missing"):
        config.take("x", int)


def test_what_is_assumed_goes_before_defaults_and_after_the_file() -> None:
    config = Config({"depth": 3, "heads": None}, "config.json")
    config.assume({"depth": 12, "width": 768, "heads": 4})
    assert [config.take(name, int | None, 1) for name in ("depth", "width", "heads")] == [3, 768, None]
    assert config.take("width", int) == 768
    config.finish()


def test_without_fields_that_were_read_elsewhere() -> None:
    config = Config({"a": 1, "b": 2, "c": {"d": 3}}, "config.json")
    config.ignore("a")
    view = config.without("a")
    assert view.take("a", int, 7) == 7
    assert view.take("b", int) == 2
    view.section("c").take("d", int)
    config.finish()
    assert config.ignored() == {"a": 1}


def test_bounds() -> None:
    config = Config({"x": 0, "list": [3, -1], "name": "b", "nothing": None}, "c.json")
    with pytest.raises(ConfigError, match=r"c\.json: x: expected at least 1, found 0"):
        config.take("x", int, least=1)
    with pytest.raises(ConfigError, match=r"c\.json: list: expected at least 0 and at most 5, found -1"):
        config.take("list", list[int], least=0, most=5)
    with pytest.raises(ConfigError, match=r"c\.json: name: expected one of 'a', 'c', found 'b'"):
        config.take("name", str, among=("a", "c"))
    assert config.take("nothing", int | None, least=1) is None


def test_expect() -> None:
    config = Config({"kind": "relative", "flag": 1, "zero": 0, "none": None}, "c.json")
    with pytest.raises(
        CapabilityError, match=r"c\.json: kind: only 'absolute' or 'none' is .*, found 'relative'"
    ):
        config.expect("kind", "absolute", "none")
    with pytest.raises(CapabilityError, match=r"c\.json: flag: only True is supported, found 1"):
        config.expect("flag", True)
    config.expect("kind", "relative")
    config.expect("zero", 0.0)
    config.expect("none", None)
    config.expect("absent", 3)


def test_unknown_fields() -> None:
    config = Config({"hidden_sise": 3, "inner": {"deep": {"x": 1}}}, "c.json")
    config.take("hidden_size", int, 8)
    with pytest.raises(
        ConfigError, match=r"^c\.json: hidden_sise: unknown field \(did you mean 'hidden_size'\?\)"
    ):
        config.finish()
    config.ignore("hidden_sise")
    with pytest.raises(ConfigError, match=r"^c\.json: inner: unknown field"):
        config.finish()
    deep = config.section("inner").section("deep")
    with pytest.raises(ConfigError, match=r"^c\.json: inner\.deep\.x: unknown field"):
        config.finish()
    assert deep.take("x", int) == 1
    config.finish()


def test_sections() -> None:
    config = Config({"a": {"x": 1}, "b": None, "c": 3}, "c.json")
    assert config.section("a") is config.section("a")
    assert config.section("a").take("x", int) == 1
    assert config.section("b").take("x", int, 5) == config.section("absent").take("x", int, 5) == 5
    with pytest.raises(ConfigError, match=r"c\.json: c: expected an object, found 3"):
        config.section("c")
    assert "a" in config
    assert "b" not in config
    assert config.raw["c"] == 3


def test_two_sections_for_one_thing() -> None:
    """The replacement counts, with its defaults; the other must not say anything else."""

    def width(old: dict | None, new: dict | None) -> int:
        config = Config({"t": old, "t_dict": new}, "c.json")
        found = config.section("t", "t_dict").take("width", int, 8)
        config.finish()
        return found

    assert width({"width": 4}, None) == width({"width": 4}, {"width": 4}) == width(None, {"width": 4}) == 4
    assert width({"width": 8}, {}) == 8
    for old, new in (({"width": 4}, {"width": 5}), ({"width": 4}, {}), ({"width": True}, {"width": 1})):
        with pytest.raises(ConfigError, match=r"c\.json: t\.width: contradictory: .* here, .* in the other"):
            width(old, new)
    with pytest.raises(ConfigError, match=r"c\.json: t\.depth: unknown field"):
        width({"depth": 4}, {})
    with pytest.raises(CapabilityError, match=r"c\.json: t\.is_decoder: only False"):
        width({"is_decoder": True}, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pruned_heads", {"0": [1]}),
        ("is_decoder", True),
        ("is_decoder", 0),
        ("is_encoder_decoder", True),
        ("quantization_config", {"bits": 4}),
        ("per_layer_config", {"0": {}}),
        ("pad_token_id", 1),
    ],
)
def test_common_fields_that_would_change_the_model(name: str, value: Any) -> None:
    with pytest.raises(CapabilityError, match=rf"c\.json: {name}: only .* is supported, found"):
        Config({name: value}, "c.json").finish()
    taken = Config({name: value}, "c.json")
    taken.ignore(name)
    taken.finish()


@pytest.mark.parametrize("name", CODE)
def test_code_is_not_run_and_said(name: str) -> None:
    config = Config({"inner": {name: {"AutoModel": "modeling.py"}}, name: None}, "c.json")
    assert config.code == ()
    config.section("inner")
    config.finish()
    assert config.notices == [f"c.json: inner.{name}: names code, which is never run"]


def test_common_fields_are_of_one_kind() -> None:
    assert not UNUSED & NEUTRAL.keys()
    assert not UNUSED & set(CODE)


def test_damaged_files(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read: No such file"):
        Config.read(tmp_path / "config.json")
    for content, reason in (
        ('{"a": 1, "a": 2}', "occurs twice"),
        ('{"a": NaN}', "not finite"),
        ("[]", "expected a JSON object"),
        ('{"a": "' + "x" * 10_000_000 + '"}', "at most 10,000,000 bytes"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=rf"config\.json: .*{reason}"):
            Config.read(tmp_path / "config.json")
