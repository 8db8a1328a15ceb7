"""Towers of several checkpoints, bound to one of them: samples have the anchor and one of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from modalities import layouts
from rich.console import Console
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

import sensorium as sm
from sensorium.core import ConfigError
from sensorium.data.sources.open import open_source
from sensorium.data.world import write_world
from sensorium.evaluation import Retrieval, evaluate
from sensorium.run import Plan, train

ANCHORED = ("loading.batch=8", "contrastive.anchor=image", "optimizer.lr=1e-3")
PAIRS = {"audio-image", "image-text"}


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> dict[str, str]:
    """A tiny CLIP and a tiny wav2vec 2.0, as public checkpoints."""
    folder = tmp_path_factory.mktemp("towers")
    seen, heard = folder / "clip", folder / "wav2vec2"
    seen.mkdir()
    layouts.clip(seen)
    words = json.loads((seen / "vocab.json").read_text())
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    vision = size | {"image_size": 32, "patch_size": 8}
    text = size | {
        "max_position_embeddings": 32,
        "vocab_size": len(words),
        "bos_token_id": words["<|startoftext|>"],
        "eos_token_id": words["<|endoftext|>"],
        "pad_token_id": words["<|endoftext|>"],
    }
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).save_pretrained(seen)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(seen)
    convolutions = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (10, 8, 4)}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    still = dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
    )
    config = Wav2Vec2Config(**size, **convolutions, **positions, **still, layerdrop=0.0, mask_time_prob=0.0)
    Wav2Vec2Model(config).save_pretrained(heard)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(heard)
    return {"image": str(seen), "text": str(seen), "audio": str(heard)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Pictures, each with a text or with a sound but never both, and a few that are alone."""
    place = tmp_path_factory.mktemp("pairs") / "w"
    write_world(
        place, 40, test_samples=12, compositional_samples=0, validation_samples=4, clips=0.0, workers=1
    )
    lines = [json.loads(line) for line in (place / "train.jsonl").read_text().splitlines()]
    kept = [("image", "text"), ("image", "audio"), ("image", "text"), ("image", "audio"), ("image",)]
    few = [
        {name: line[name] for name in ("key", "split", *kept[index % len(kept)])}
        for index, line in enumerate(lines)
    ]
    (place / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in few))
    return place


def trained(towers: dict[str, str], pairs: Path, out: Path, *more: str, steps: int = 4) -> list[dict]:
    plan = Plan(
        "dual", [str(pairs / "train.jsonl")], out, (*ANCHORED, *more), {"steps": steps}, towers=towers
    )
    assert train(plan, console=Console(quiet=True)).finished
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record for record in log if "loss" in record]


@pytest.fixture(scope="module")
def bound(towers, pairs, tmp_path_factory) -> tuple[Path, list[dict]]:
    out = tmp_path_factory.mktemp("bound") / "run"
    return out, trained(towers, pairs, out, steps=40)


def test_only_pairs_with_the_anchor_are_contrasted(bound):
    _, steps = bound
    assert set().union(*(step["losses"] for step in steps)) == {f"contrastive/{pair}" for pair in PAIRS}
    assert all(step["losses"] for step in steps)
    first, last = (sum(step["loss"] for step in part) / 5 for part in (steps[:5], steps[-5:]))
    assert last < first - 0.05


def test_what_was_never_together_can_be_compared(bound, pairs):
    out, _ = bound
    model = sm.load(out)
    source = open_source(str(pairs / "test.jsonl"), modalities=model.modalities)
    found = evaluate(model, source, name="test", tasks=[Retrieval()])
    assert {name.partition(" ")[0] for name in found.flat()} >= {*PAIRS, "audio-text"}


def test_however_the_batch_is_divided_the_loss_is_the_same(towers, pairs, tmp_path):
    """Most micro-batches lack a modality altogether; the towers draw nothing at random."""
    whole = trained(towers, pairs, tmp_path / "whole", steps=2)
    cut = trained(towers, pairs, tmp_path / "cut", "loading.accumulate=8", steps=2)
    assert [step["keys"] for step in cut] == [step["keys"] for step in whole]
    for one, other in zip(cut, whole, strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


def test_an_anchor_that_is_no_tower(towers, pairs, tmp_path):
    with pytest.raises(ConfigError, match=r"contrastive.anchor is 'picture'"):
        trained(towers, pairs, tmp_path / "run", "contrastive.anchor=picture", steps=1)
