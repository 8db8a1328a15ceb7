"""InstructBLIP against transformers: pictures seen with an instruction, both kinds of language models, and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from modalities.layouts import bert
from recipes.language import checked, unscaled
from recipes.parity import INITIALISATIONS, reference
from recipes.pictured import message, picture
from recipes.queried import (
    PLACE,
    QFORMER,
    QUERIES,
    VISION,
    batch,
    same_language,
    same_writing,
    the_whole_way,
    trunk,
    vocabulary,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
)

from sensorium.core import CheckpointError, Sample, Segment
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.data.item import prepare
from sensorium.model import Model
from sensorium.public import open_network, open_public
from sensorium.speaking import Session
from sensorium.weights.family import Folder


def config(name: str, **asked: int) -> InstructBlipConfig:
    return InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(**VISION),
        qformer_config=InstructBlipQFormerConfig(**QFORMER | asked),
        text_config=trunk(name),
        num_query_tokens=QUERIES,
        image_token_index=PLACE,
    )


def asked() -> tuple[Tensor, Batch, dict[str, Tensor]]:
    """The pictures of each sequence are asked about alike, in as many words as there are for it."""
    pixels, given = batch()
    seen = given.streams["image"]
    ids = torch.randint(1, 60, (3, 9), generator=torch.Generator().manual_seed(5))
    real = torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
    about = ids.masked_fill(~real, -1)[seen.owner]
    streams = given.streams | {"image": replace(seen, asked=about)}
    words = {"qformer_input_ids": about.clamp(min=0), "qformer_attention_mask": (about >= 0).long()}
    return pixels, Batch(streams, given.keys, given.concept), words


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("name", ["opt", "llama", "t5"])
@torch.no_grad()
def test_parity(initialisation: str, name: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        InstructBlipForConditionalGeneration, config(name), initialisation, tmp_path
    )
    unscaled(ours, "image")
    pixels, given, words = asked()
    for model in (theirs, again):
        same_language(given, pixels, ours, model, **words)


@pytest.mark.parametrize("name", ["llama", "t5"])
@torch.no_grad()
def test_writing(name: str, tmp_path: Path):
    theirs, _, ours, _ = checked(InstructBlipForConditionalGeneration, config(name), "random", tmp_path)
    unscaled(ours, "image")
    pixels, given, words = asked()
    same_writing(given, pixels, ours, theirs, **words)


#: Of a Q-Former that reads what its tokenizer writes.
WORDS = {"vocab_size": 900, "max_position_embeddings": 40}


def processor(name: str, folder: Path) -> InstructBlipProcessor:
    seeing = BlipImageProcessorPil(size={"height": 32, "width": 32})
    (folder / "asked").mkdir()
    bert(folder / "asked")
    asking = BertTokenizer.from_pretrained(folder / "asked")
    return InstructBlipProcessor(seeing, vocabulary(name, folder / "words"), asking, QUERIES)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_whole_way(name: str, tmp_path: Path):
    made, processes = config(name, **WORDS), processor(name, tmp_path)
    questions = ["What is unusual about this image?", "Isn't it red, the cat?"]
    opened = the_whole_way(InstructBlipForConditionalGeneration, made, processes, tmp_path, questions)
    session, one = Session(), Model(opened.network, opened.modalities, opened.spec)
    for question in questions:  # a picture is seen anew for each
        messages = [message("user", picture(40, 50), question)]
        assert one.chat(messages, session=session, max_new_tokens=8) == one.chat(messages, max_new_tokens=8)


@torch.no_grad()
def test_questions_of_a_sample_see_its_picture_each_by_itself(tmp_path: Path):
    made, processes = config("t5", **WORDS), processor("t5", tmp_path)
    opened = the_whole_way(InstructBlipForConditionalGeneration, made, processes, tmp_path, ["a cat"])
    shown = Segment("image", picture(40, 50))

    def turn(number: int, question: str, answer: str) -> tuple[Segment, Segment]:
        asks = Segment("text", question, role="user", turn=number)
        return asks, Segment("text", answer, role="assistant", turn=number, target=True)

    caption = Segment("text", "a red circle", target=True)
    first, second = turn(1, "Who runs?", "two dogs"), turn(2, "Where is the circle?", "left")
    samples = [(shown, caption, *first, *second), (shown, caption), (shown, *first), (shown, *second)]
    whole, *apart = (
        collate([prepare(Sample("a", segments), opened.modalities)], opened.modalities)
        for segments in samples
    )
    assert len(whole.streams["image"]) == 3
    logits = torch.cat([opened.network(one).language.logits for one in apart])
    torch.testing.assert_close(opened.network(whole).language.logits, logits, atol=1e-4, rtol=1e-4)


def test_a_missing_vocabulary(tmp_path: Path):
    made, processes = config("t5", **WORDS), processor("t5", tmp_path)
    the_whole_way(InstructBlipForConditionalGeneration, made, processes, tmp_path, [])
    shutil.rmtree(tmp_path / "theirs" / "qformer_tokenizer")
    with pytest.raises(CheckpointError, match="expected a second vocabulary in qformer_tokenizer"):
        open_public(tmp_path / "theirs")


def test_older_files(tmp_path: Path):
    """Positions that are counted were once saved."""
    theirs = reference(InstructBlipForConditionalGeneration, config("t5"), "default")
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"qformer.embeddings.position_ids": torch.arange(20)[None]}, file)
    open_network(Folder(tmp_path))
