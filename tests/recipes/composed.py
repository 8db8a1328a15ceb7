"""What every composition must do: as many places as rows, gradients where something learns, a loss that falls, the same
numbers alone and in a batch, answers, and the same loss after being saved and read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import sensorium as sm
from sensorium.core import Sample, Segment, Spec
from sensorium.core.batch import Batch
from sensorium.data.world import Scene, ask, describe, draw_scene
from sensorium.data.world.render import clip, picture
from sensorium.data.world.sound import RATE, waveform
from sensorium.model import Model
from sensorium.nn.architectures.multimodal_lm import MultimodalLM
from sensorium.nn.connectors.connector import Rows
from sensorium.testing.material import Material, ready


def scenes(count: int) -> list[Scene]:
    return [draw_scene(0, "train", index, moving=True) for index in range(count)]


def shown(scene: Scene, kind: str) -> object:
    """A scene as a modality has it."""
    if kind == "audio":
        return waveform(scene), RATE
    return picture(scene) if kind == "image" else (clip(scene), 8.0)


def told(index: int, scene: Scene, *kinds: str) -> Sample:
    """What there is to see and hear of a scene, a caption and a question."""
    question = ask(scene, scene.generator("questions"))[0]
    return Sample(
        f"s{index}",
        (
            *(Segment(kind, shown(scene, kind), field=kind) for kind in kinds),
            Segment("text", describe(scene.facts), target=True),
            Segment("text", question.question, role="user", turn=1),
            Segment("text", question.answer, role="assistant", target=True, turn=1),
        ),
    )


def made(spec: Spec, samples: Sequence[Sample]) -> Material:
    """The parts of a System, with what its rules freeze frozen."""
    material = ready(spec, samples)
    material.training.optimizer.make(material.network.named_parameters(), material.training.rules)
    return material


def rows(material: Material) -> dict[str, Rows]:
    """Those of all media, of which there are as many as places held."""
    network, batch = material.network, material.batch(material.samples)
    assert isinstance(network, MultimodalLM)
    with torch.no_grad():
        found = network.media(batch)
    words = batch.streams[network.language]
    for name, token in network.placeholders.items():
        held = (words.values == token).sum(1)
        mine = torch.zeros_like(held).index_add(0, batch.streams[name].owner, found[name].lengths)
        assert mine.tolist() == held.tolist(), name
        assert found[name].rows.shape == (int(held.sum()), network.decoder.width)
    return found


def loss(material: Material, batches: Sequence[Batch]) -> float:
    material.network.zero_grad(set_to_none=True)
    return float(material.step(batches)[0])


def check(material: Material, *, steps: int = 12, falls: float = 0.9) -> None:
    """All of it; in ``steps`` the loss falls to a share of ``falls`` at least."""
    rows(material)
    whole = material.batch(material.samples)
    before = loss(material, [whole])
    parts = loss(material, [material.batch([sample]) for sample in material.samples])
    torch.testing.assert_close(parts, before, rtol=1e-4, atol=0)
    _check_gradients(material)
    _learn(material, whole, steps)
    after = loss(material, [whole])
    assert after < falls * before, (before, after)


def _check_gradients(material: Material) -> None:
    """Everything that learns has a gradient, and one that is not zero somewhere."""
    found = material.gradients([material.batch(material.samples)])
    assert [name for name, gradient in found.items() if gradient is None] == []
    weights = {name: g for name, g in found.items() if g is not None and name.endswith("weight")}
    assert [name for name, gradient in weights.items() if not gradient.any()] == []
    words = [
        replace(sample, segments=tuple(s for s in sample.segments if s.modality == material.network.language))
        for sample in material.samples
    ]
    alone = material.gradients([material.batch(words)])
    assert [name for name, gradient in alone.items() if gradient is None] == []


def _learn(material: Material, batch: Batch, steps: int) -> None:
    optimizer = material.training.optimizer.make(material.network.named_parameters(), material.training.rules)
    material.network.train()
    for _ in range(steps):
        loss(material, [batch])
        torch.nn.utils.clip_grad_norm_(material.network.parameters(), material.training.clip)
        optimizer.step()
    material.network.eval()


def saved(material: Material, folder: Path) -> Model:
    """The model that is read back, which has the same loss."""
    material.model().save_pretrained(folder)
    again = sm.load(folder)
    sample = material.samples[0]
    torch.testing.assert_close(again.score(sample), material.model().score(sample))
    return again
