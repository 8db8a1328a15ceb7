"""A small world for evaluation: coloured shapes that are seen and heard, and a model of adjustable skill."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import struct
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from sensorium.core import CapabilityError, DataError, Modality, Sample, Segment
from sensorium.core.outputs import Reconstruction

COLOURS = {"red": "#d33b2c", "green": "#2f9e5b", "blue": "#2b6fd1", "yellow": "#e8b81e"}
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Thing:
    """A decoded fake value: what it depicts."""

    word: str
    nbytes: int = 100


class Fake(Modality):
    """Counts what it decodes; the source "broken" cannot be decoded."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, source: Any) -> Thing:
        if isinstance(source, Thing):
            return source
        self.reads += 1
        if source == "broken":
            raise DataError("cannot be decoded")
        return Thing(source)

    def check(self, raw: Thing) -> None:
        if not raw.word:
            raise DataError("is empty")

    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> torch.Tensor:
        raise NotImplementedError

    def blank(self) -> torch.Tensor:
        raise NotImplementedError

    def size(self, raw: Any) -> tuple[float, str]:
        return 1.0, "px"


class Picture(Fake):
    name = "image"

    def show(self, raw: Thing) -> str:
        colour, _, shape = raw.word.partition(" ")
        noise = hashlib.sha256(raw.word.encode()).digest()
        picture = Image.new("RGB", (64, 64), (225 + noise[0] % 20, 225 + noise[1] % 20, 225 + noise[2] % 20))
        pen, box = ImageDraw.Draw(picture), (14, 14, 50, 50)
        ink = COLOURS.get(colour, "#555555")
        if shape == "circle":
            pen.ellipse(box, fill=ink)
        elif shape == "square":
            pen.rectangle(box, fill=ink)
        else:
            pen.polygon([(32, 12), (52, 50), (12, 50)], fill=ink)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        uri = base64.b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{uri}" alt="{html.escape(raw.word)}">'


class Sound(Fake):
    name = "audio"

    def show(self, raw: Thing) -> str:
        pitch = 200 + 40 * (hashlib.sha256(raw.word.encode()).digest()[0] % 12)
        samples = [int(12000 * math.sin(2 * math.pi * pitch * t / 8000)) for t in range(3200)]
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
        uri = base64.b64encode(buffer.getvalue()).decode()
        return f'<audio controls preload="none" src="data:audio/wav;base64,{uri}"></audio>'


class Words(Modality):
    name = "text"
    inline = True

    def read(self, source: Any) -> str:
        return str(source)

    def check(self, raw: str) -> None:
        if not raw.strip():
            raise DataError("is empty")

    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> torch.Tensor:
        raise NotImplementedError

    def blank(self) -> torch.Tensor:
        raise NotImplementedError

    def size(self, raw: str) -> tuple[float, str]:
        return len(raw), "characters"

    def show(self, raw: str) -> str:
        return f"<p>{html.escape(raw)}</p>"


class FakePredictor:
    """Recognises what it sees and hears; one value in ``1 / (1 - skill)`` it takes for something else.

    ``calls`` lists what it was asked. ``can`` says what it is able to do.
    """

    def __init__(
        self,
        skill: float = 1.0,
        modalities: Sequence[str] = ("text", "image", "audio"),
        can: Sequence[str] = ("embed", "complete", "classify", "reconstruct"),
    ) -> None:
        every = {"text": Words, "image": Picture, "audio": Sound}
        self.modalities: Mapping[str, Modality] = {name: every[name]() for name in modalities}
        self.skill, self.can = skill, can
        self.calls: list[tuple[str, Any]] = []

    def embed(self, *, batch_size: int = 64, **values: Sequence[Any]) -> torch.Tensor:
        ((modality, items),) = values.items()
        self._need("embed", modality)
        reader = self.modalities[modality]
        rows = [
            self._vector(modality, self._word(reader.load_value(item)), i) for i, item in enumerate(items)
        ]
        return torch.stack(rows)

    def complete(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, batch_size: int = 64
    ) -> list[str]:
        self._need("complete", list(samples))
        return [self._continue(sample) for sample in samples]

    def classify(
        self, labels: Sequence[str], templates: Sequence[str], **values: Sequence[Any]
    ) -> torch.Tensor:
        (modality,) = values
        self._need("classify", (modality, tuple(templates)))
        found = self.embed(**values)
        texts = [[template.replace("{}", name) for template in templates] for name in labels]
        classes = torch.stack([self.embed(text=text).mean(0) for text in texts])
        return (found @ classes.T * 10).softmax(dim=1)

    def reconstruct(self, *, batch_size: int = 64, **values: Sequence[Any]) -> list[Reconstruction]:
        """Pictures only: what is hidden is a grey one, and what is restored the thing itself or another."""
        ((modality, items),) = values.items()
        self._need("reconstruct", modality)
        if modality != "image":
            raise CapabilityError(f"this model restores nothing of {modality}")
        words = [self._word(self.modalities[modality].load_value(item)) for item in items]
        return [Reconstruction(Thing(word), Thing("grey square"), Thing(word), self.skill) for word in words]

    def _need(self, ability: str, what: Any) -> None:
        self.calls.append((ability, what))
        if ability not in self.can:
            raise CapabilityError(f"this model cannot {ability}: it has no head for it")

    def _word(self, raw: Any) -> str:
        return raw.word if isinstance(raw, Thing) else raw.removeprefix("a ")

    def _vector(self, modality: str, word: str, row: int) -> torch.Tensor:
        clean = torch.randn(32, generator=_generator(word))
        noise = torch.randn(32, generator=_generator(f"{modality} {word} {row}"))
        mixed = self.skill * clean + (1 - self.skill) * noise
        return mixed / mixed.norm()

    def _continue(self, sample: Sample) -> str:
        seen = next((s.value for s in sample.segments if s.modality in ("image", "audio")), None)
        if seen is None:
            return "red"
        reader = self.modalities["image"]
        word = reader.load_value(seen).word
        if torch.rand((), generator=_generator(sample.key + word)) > self.skill:
            word = "yellow square"
        colour, _, shape = word.partition(" ")
        asked = [s.value for s in sample.segments if s.role == "user"]
        if not asked:
            return f"a {word}"
        return colour if "colour" in asked[-1] else shape


def _generator(text: str) -> torch.Generator:
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))


class FakeSource:
    """Samples, some of which may be errors, and what preflight found."""

    def __init__(self, items: Sequence[Sample | DataError], problems: Sequence[DataError] = ()) -> None:
        self.items, self.problems = list(items), list(problems)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        if isinstance(item, DataError):
            raise item
        return item


def thing(
    key: str,
    word: str,
    *,
    modalities: Sequence[str] = ("image", "audio"),
    caption: str | None = None,
    questions: bool = True,
    label: bool = False,
) -> Sample:
    """A sample of one coloured shape, with a caption to produce and two questions of two types."""
    colour, _, shape = word.partition(" ")
    segments = [Segment(name, word, field=name) for name in modalities]
    segments.append(Segment("text", caption or f"a {word}", target=True, turn=3, field="text"))
    labels: dict[str, Any] = {"attributes": {"colour": colour, "shape": shape}}
    if questions:
        for turn, (question, answer) in enumerate([("what colour?", colour), ("what shape?", shape)], 1):
            segments.append(Segment("text", question, role="user", turn=turn))
            segments.append(Segment("text", answer, role="assistant", target=True, turn=turn))
        labels["types"] = ["colour", "shape"]
    if label:
        labels["label"] = shape
    return Sample(key, tuple(segments), labels=labels, file="test.jsonl", line=1)


def world(count: int = 12, **options: Any) -> list[Sample]:
    words = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return [thing(f"s{i:03d}", words[i % len(words)], **options) for i in range(count)]


def judge(caption: str, attributes: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the attributes a caption names."""
    parts = {name: value in caption.split() for name, value in attributes.items()}
    return parts | {"all": all(parts.values())}


@dataclass(frozen=True)
class Kit:
    """The names of this file for tests, which cannot import it."""

    predictor = FakePredictor
    source = FakeSource
    thing = staticmethod(thing)
    world = staticmethod(world)
    judge = staticmethod(judge)


@pytest.fixture
def kit() -> Kit:
    return Kit()
