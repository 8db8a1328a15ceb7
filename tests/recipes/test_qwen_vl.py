"""Qwen2-VL and Qwen2.5-VL against transformers: pictures and clips among words, logits, loss, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.language import alone, checked, real, same_logits, sequences, stream
from recipes.parity import INITIALISATIONS, edited, reference, settings, written
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from safetensors import safe_open
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.objectives import NextToken
from sensorium.public import open_network, open_public, public_files, read_public, save_public
from sensorium.recipes import _qwen_vl, find
from sensorium.recipes._qwen_vl import IMAGE, VIDEO
from sensorium.speaking import conversation
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

STILL, MOVING = 98, 97
MODELS: dict[str, Any] = {
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
}
MERGE, PATCH, FRAMES = 2, 4, 2


@pytest.fixture(autouse=True)
def _turned_without_rounding(monkeypatch: pytest.MonkeyPatch):
    """The towers of the reference turn in single precision, whatever they are in."""

    def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        def half(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)

        c, s = cos.unsqueeze(-2).double(), sin.unsqueeze(-2).double()
        return q * c + half(q) * s, k * c + half(k) * s

    for module in (modeling_qwen2_5_vl, modeling_qwen2_vl):
        monkeypatch.setattr(module, "apply_rotary_pos_emb_vision", turned)


def config(kind: str, vocabulary: int = 99, still: int = STILL, moving: int = MOVING, **changes: Any) -> Any:
    """A tiny one; windows are of 2 x 2 squares."""
    vision: dict[str, Any] = {"depth": 3, "num_heads": 4, "patch_size": PATCH, "spatial_merge_size": MERGE,
              "temporal_patch_size": FRAMES, "in_channels": 3}  # fmt: skip
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 44, "out_hidden_size": 64, "window_size": 16,
                   "fullatt_block_indexes": [1], "tokens_per_second": 2}  # fmt: skip
    words = {"hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": vocabulary, "max_window_layers": 1, "pad_token_id": 0,
             "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}  # fmt: skip
    return MODELS[kind][0](
        vision_config=vision | changes.pop("vision", {}),
        text_config=words | changes.pop("words", {}),
        image_token_id=still,
        video_token_id=moving,
        **changes,
    )


SIZES = {"image": [(1, 4, 6), (1, 10, 6), (1, 2, 2)], "video": [(2, 4, 4), (3, 2, 6)]}
OWNERS = {"image": [0, 0, 1], "video": [0, 3]}
SECONDS = [1.5, 0.4]


def batch(timed: bool = False) -> Batch:
    """Two pictures and a clip in the first sequence, a picture in the second, words in the third, then a clip."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, 96, (4, 60), generator=generator)
    rows = {name: [t * r * c // MERGE**2 for t, r, c in sizes] for name, sizes in SIZES.items()}
    first, second, third = rows["image"]
    moving, last = rows["video"]
    ids[0, 2 : 2 + first] = ids[0, 12 : 12 + second] = ids[1, 1 : 1 + third] = STILL
    ids[0, 30 : 30 + moving] = ids[3, 4 : 4 + last] = MOVING
    found = sequences(ids, [45, 12, 9, 20], first=3)
    for name, sizes in SIZES.items():
        counts = torch.tensor([t * r * c for t, r, c in sizes])
        values = torch.randn(
            len(sizes), int(counts.max()), FRAMES * PATCH**2 * 3, generator=generator, dtype=torch.float64
        )
        layout = torch.tensor(sizes)
        if timed and name == "video":
            steps = torch.tensor([round(step * 1e9) for step in SECONDS])
            layout = torch.cat([layout, steps[:, None]], dim=1)
        found.streams[name] = stream(values, counts, torch.tensor(OWNERS[name]), layout=layout)
    return found


def media(given: Batch, timed: bool = False) -> dict[str, Any]:
    """Patches and grids as the reference takes them: channels first, without padding."""
    found: dict[str, Any] = {}
    for name, ending in (("image", ""), ("video", "_videos")):
        one = given.streams[name]
        if one.layout is None or not len(one):
            continue
        patches = torch.cat(
            [row[:count] for row, count in zip(one.values, one.lengths.tolist(), strict=True)]
        )
        patches = patches.unflatten(1, (FRAMES, PATCH, PATCH, 3)).movedim(-1, 1).flatten(1)
        found |= {f"pixel_values{ending}": patches, f"{name}_grid_thw": one.layout[:, :3]}
        if timed and name == "video":
            found["second_per_grid_ts"] = (one.layout[:, 3] / 1e9).tolist()
    words = given.streams["text"].values
    kinds = (words == STILL).int() + 2 * (words == MOVING).int()
    return found | ({"mm_token_type_ids": kinds} if found else {})


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "sliding": {"words": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_parity(kind: str, variant: str, initialisation: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        MODELS[kind][1], config(kind, **VARIANTS[variant]), initialisation, tmp_path
    )
    timed = kind == "qwen2_5_vl"
    given = batch(timed)
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    for model in (theirs, again):
        same_logits(given, ours, model(words.values, attention_mask=mask, **media(given, timed)).logits)
    found, expected = settings(again.config), settings(theirs.config)
    assert found.pop("text_config").items() >= expected.pop("text_config").items()
    assert found == expected
    assert (ours.decoder.head is None) == (variant == "tied")


@pytest.mark.parametrize("kind", MODELS)
def test_writing(kind: str, tmp_path: Path):
    theirs, _, ours, _ = checked(MODELS[kind][1], config(kind), "random", tmp_path)
    written_alike(theirs, ours, batch(), media, 32)


def flat(folder: Path, twice: bool = False) -> None:
    """The config of a folder as it was published: what the language model has is not in a section, or there as well."""
    file = folder / "config.json"
    fields = json.loads(file.read_text())
    words = fields["text_config"] if twice else fields.pop("text_config")
    scaling = {"type": "mrope", "mrope_section": words.pop("rope_parameters")["mrope_section"]}
    words |= {"rope_scaling": scaling, "rope_theta": 1e4}
    outside = {name: value for name, value in words.items() if name != "model_type"}
    file.write_text(json.dumps(outside | {"sliding_window": 32_768} | fields))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_as_published(kind: str, twice: bool, tmp_path: Path):
    """A flat config and names without the model's prefix; and files of other versions."""
    theirs = reference(MODELS[kind][1], config(kind), "random")
    theirs.save_pretrained(tmp_path)
    flat(tmp_path, twice)
    if twice:  # names as they are in memory
        tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
        assert "model.visual.blocks.0.attn.qkv.weight" in tensors
        write_tensors(tmp_path, tensors)
    else:
        with safe_open(tmp_path / "model.safetensors", "pt") as held:
            assert {"visual.blocks.0.attn.qkv.weight", "model.layers.0.mlp.up_proj.weight"} <= set(
                held.keys()
            )
    spec, ours = open_network(Folder(tmp_path), torch.float64)
    given = batch()
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    same_logits(given, ours.eval(), theirs(words.values, attention_mask=mask, **media(given)).logits)
    assert ("text_config" in public_files(find.family(kind, "transformers"), spec)["config.json"]) == twice
    again = written(spec, ours, MODELS[kind][1], tmp_path / "ours")
    same_logits(given, ours, again(words.values, attention_mask=mask, **media(given)).logits)


PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "hidden_size": 2048, "intermediate_size": 11_008, "max_window_layers": 70, "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 2, "tie_word_embeddings": True, "vocab_size": 151_936,
        "vision_config": {
            "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
            "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2, "temporal_patch_size": 2,
        },
    },
    "qwen2_vl": {
        "hidden_size": 3584, "intermediate_size": 18_944, "max_window_layers": 28, "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "tie_word_embeddings": False, "vocab_size": 152_064,
        "vision_config": {
            "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3, "hidden_size": 3584,
            "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_configs(kind: str, tmp_path: Path):
    """Of 3 and 7 billion parameters, with the file about pictures that they have beside them."""
    both = {
        "architectures": [MODELS[kind][1].__name__], "attention_dropout": 0.0, "bos_token_id": 151_643,
        "eos_token_id": 151_645, "vision_start_token_id": 151_652, "vision_end_token_id": 151_653,
        "vision_token_id": 151_654, "image_token_id": 151_655, "video_token_id": 151_656, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 128_000, "model_type": kind, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "sliding_window": 32_768, "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2", "use_cache": True, "use_sliding_window": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    pictures = {
        "min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[kind] | both))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
    spec = read_public(Folder(tmp_path))
    network, newer = spec.model, kind == "qwen2_5_vl"
    assert network.towers["image"].window == (8 if newer else None)
    assert network.positions.rate == (2 if newer else None)
    assert (network.decoder.head is None) == newer
    assert network.decoder.trunk.block.attention.rotary.sections.sizes == [16, 24, 24]
    assert spec.modalities["image"].geometry[-1].most == 12_845_056
    assert spec.modalities["video"].geometry[-1].arguments.get("timed", False) == newer
    assert "text_config" not in public_files(find.family(kind, "transformers"), spec)["config.json"]


def test_what_is_said_twice_must_agree(tmp_path: Path):
    config("qwen2_vl").save_pretrained(tmp_path)
    edited(tmp_path, vocab_size=98)
    with pytest.raises(CapabilityError, match="vocab_size: only 99 is supported, found 98"):
        read_public(Folder(tmp_path))


@pytest.mark.parametrize(
    ("section", "field", "value", "error", "match"),
    [
        (
            "text_config",
            "rope_parameters",
            {"rope_theta": 1e4},
            ConfigError,
            "rope_scaling: expected the mrope_section",
        ),
        ("text_config", "head_dim", 32, CapabilityError, "head_dim: only 16 or None is supported, found 32"),
        ("vision_config", "in_channels", 4, CapabilityError, "in_channels: only 3"),
        (
            "vision_config",
            "rope_parameters",
            {"rope_type": "yarn"},
            CapabilityError,
            "rope_type: only 'axial'",
        ),
        ("vision_config", "model_type", "clip", ConfigError, "no recipe reads a part 'clip'"),
    ],
)
def test_refusals(section: str, field: str, value: object, error: type, match: str, tmp_path: Path):
    config("qwen2_5_vl").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    edited(tmp_path, **{section: fields[section] | {field: value}})
    with pytest.raises(error, match=match):
        read_public(Folder(tmp_path))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"patch_size": 14}, "preprocessor_config.json: only patches of .'patch': 4"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "one tower reads pictures and clips"),
    ],
)
def test_what_does_not_fit_the_tower(fields: dict[str, Any], match: str, tmp_path: Path):
    config("qwen2_5_vl").save_pretrained(tmp_path)
    cut = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": FRAMES}
    for name, more in (("preprocessor_config.json", cut | fields), ("video_preprocessor_config.json", cut)):
        (tmp_path / name).write_text(json.dumps(more))
    with pytest.raises(CapabilityError, match=match):
        read_public(Folder(tmp_path))


def without_clips(cls: Any) -> Any:
    """A processor of the reference without clips, for which it needs torchvision."""

    def check(self: Any, name: str, argument: Any) -> type | None:
        return cls.check_argument_for_proper_class(self, name, argument) if argument else None

    def save(self: Any, folder: Path) -> None:
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    return type(cls.__name__, (cls,), {"check_argument_for_proper_class": check, "save_pretrained": save})


@pytest.mark.parametrize(
    ("kind", "processes"), [("qwen2_5_vl", Qwen2_5_VLProcessor), ("qwen2_vl", Qwen2VLProcessor)]
)
@torch.no_grad()
def test_a_conversation(kind: str, processes: Any, tmp_path: Path):
    words = tokenizer(IMAGE, VIDEO, "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
    prepares = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=FRAMES,
        size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48},
    )
    processor = without_clips(processes)(prepares, words, None, chat_template=_qwen_vl.TEMPLATE)
    still, moving = words.convert_tokens_to_ids([IMAGE, VIDEO])
    theirs = reference(MODELS[kind][1], config(kind, len(words), still, moving), "random")
    messages = [
        message("user", picture(50, 91), picture(32, 40, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", "And this?", picture(9, 10, 2)),
    ]
    opened, given, prepared = read_alike(theirs, processor, messages, tmp_path / "theirs")
    image = given.streams["image"]
    assert image.layout.tolist() == prepared["image_grid_thw"].tolist()
    pixels = opened.network.towers["image"].embedding.values
    rows = torch.cat([row[:count] for row, count in zip(image.values, image.lengths.tolist(), strict=True)])
    found = pixels(rows.unflatten(1, (FRAMES, PATCH, PATCH, 3))).movedim(-1, 1).flatten(1)
    torch.testing.assert_close(found, prepared["pixel_values"].double(), atol=1e-6, rtol=0)

    # a clip at 3 frames per second, of which two a second are seen: places of time are those of the reference
    frames = np.stack([np.asarray(picture(40, 60, seed)) for seed in range(12)])
    clip = {
        "role": "user",
        "content": [{"type": "video", "video": (frames, 3.0)}, {"type": "text", "text": "What?"}],
    }
    item = conversation([clip], opened.modalities, opened.modalities["text"])
    given = collate([item], opened.modalities)
    layout = given.streams["video"].layout
    assert layout is not None
    grid = layout[:, :3]
    text = processor.apply_chat_template([clip], add_generation_prompt=True, tokenize=False)
    held = VIDEO * int(grid.prod() // MERGE**2)
    ids = torch.tensor([words(text.replace(VIDEO, held), add_special_tokens=False).input_ids])
    assert given.streams["text"].values.tolist() == ids.tolist()
    assert grid[0, 0] == 4
    timed = {"second_per_grid_ts": torch.tensor([2 / (8 / 12 * 3)])} if kind == "qwen2_5_vl" else {}
    expected, _ = theirs.model.get_rope_index(ids, (ids == moving).int() * 2, video_grid_thw=grid, **timed)
    places = opened.network.positions(opened.network._sequences(given))
    assert places.movedim(-1, 0).tolist() == expected.tolist()

    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = open_public(tmp_path / "ours")
    assert again.spec.modalities == opened.spec.modalities
    assert again.spec.model == opened.spec.model
    Qwen2VLImageProcessorPil.from_pretrained(tmp_path / "ours")


def test_words_alone_train_every_parameter(tmp_path: Path):
    """A batch without pictures has a gradient for each, as other ranks have."""
    reference(Qwen2_5_VLForConditionalGeneration, config("qwen2_5_vl"), "random").save_pretrained(tmp_path)
    _, network = open_network(Folder(tmp_path), torch.float64)
    given = alone(batch(), 2)
    assert [len(given.streams[name]) for name in SIZES] == [0, 0]
    NextToken(stream="text").totals(network(given))["language"].backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
