"""From real recordings to transcripts, with a tiny model from scratch. Needs the spoken digits beside the project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import sensorium as sm
from sensorium.run import Plan, train

SPOKEN = Path(__file__).parents[3] / "shared" / "data" / "digits" / "spoken"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPEAKERS = ("jackson", "nicolas")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SPOKEN.is_dir(), reason=f"there are no recordings in {SPOKEN}"),
]


def write_data(folder: Path) -> list[dict[str, str]]:
    """Two speakers, split as the data set says; what to test on."""
    rows: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for file in sorted(SPOKEN.glob("*.wav")):
        digit, speaker, index = file.stem.split("_")
        if speaker in SPEAKERS:
            shutil.copy(file, folder)
            rows[int(index) >= 5].append({"audio": file.name, "text": WORDS[int(digit)]})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[True]))
    return rows[False]


def test_digits_are_learnt(tmp_path: Path):
    held_out = write_data(tmp_path)
    run = tmp_path / "run"
    train(Plan("wav2vec2:tiny", [str(tmp_path / "train.jsonl")], run, duration={"steps": 300}))
    model = sm.load(run)
    recordings = [str(tmp_path / row["audio"]) for row in held_out]
    texts = model.transcribe(recordings)
    right = sum(text == row["text"] for text, row in zip(texts, held_out, strict=True))
    assert right / len(held_out) > 0.6, f"{right} of {len(held_out)}"
    model.save_pretrained(tmp_path / "public")
    assert sm.load(tmp_path / "public").transcribe(recordings) == texts
    assert torch.isfinite(sm.load(tmp_path / "public").embed(audio=recordings[:3])).all()
