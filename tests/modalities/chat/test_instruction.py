"""What is asked, in a second vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from modalities.layouts import bert
from transformers import BertTokenizer

from sensorium.core import CheckpointError
from sensorium.modalities.chat import Message, Part
from sensorium.modalities.chat.instruction import Instruction


def said(role: str, *texts: str) -> Message:
    return Message(role, (Part("image", None), *(Part("text", text) for text in texts)))


def test_what_people_say_is_one_text(tmp_path: Path):
    folder = tmp_path / "qformer_tokenizer"
    folder.mkdir()
    bert(folder)
    one, other = Instruction(), Instruction()
    one.load(tmp_path)
    (tmp_path / "again").mkdir()
    one.save(tmp_path / "again")
    other.load(tmp_path / "again")
    tokens = BertTokenizer.from_pretrained(folder)
    for messages, text in (
        ([said("user", "Where is the cat?")], "Where is the cat?"),
        ([said("user", "A photo of", "two dogs"), said("assistant", "no"), said("user", "Left?")],
         "A photo of two dogs Left?"),
        ([said("user")], ""),
    ):  # fmt: skip
        for instruction in (one, other):
            assert instruction.write(messages).tolist() == tokens(text).input_ids


def test_it_is_cut_and_must_be_there(tmp_path: Path):
    with pytest.raises(CheckpointError, match="expected a second vocabulary in asked, found none"):
        Instruction(folder="asked").load(tmp_path)
    (tmp_path / "asked").mkdir()
    bert(tmp_path / "asked")
    short = Instruction(folder="asked", max_tokens=4)
    short.load(tmp_path)
    assert len(short.write([said("user", "a photo of the cat and two dogs")])) == 4
