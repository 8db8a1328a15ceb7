"""BLIP-2 against transformers: pictures among words, with both kinds of language models, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import checked, real, stream, unscaled
from recipes.parity import INITIALISATIONS, close
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
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
)

from sensorium.core import Sample, Segment
from sensorium.data.item import prepare
from sensorium.model import Model
from sensorium.nn.architectures.queried_retrieval import similarity


def config(name: str, seen: dict | None = None, asked: dict | None = None) -> Blip2Config:
    return Blip2Config(
        vision_config=Blip2VisionConfig(**VISION | (seen or {})),
        qformer_config=Blip2QFormerConfig(**QFORMER | (asked or {})),
        text_config=trunk(name),
        num_query_tokens=QUERIES,
        image_token_index=PLACE,
    )


VARIANTS = {
    "opt": ("opt", {}, {}),
    "t5": ("t5", {}, {}),
    "other": ("opt", {"qkv_bias": False, "hidden_act": "relu"}, {"cross_attention_frequency": 1}),
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        Blip2ForConditionalGeneration, config(*VARIANTS[variant]), initialisation, tmp_path
    )
    unscaled(ours, "image")
    pixels, given = batch()
    for model in (theirs, again):
        same_language(given, pixels, ours, model)


@pytest.mark.parametrize("name", ["opt", "t5"])
@torch.no_grad()
def test_writing(name: str, tmp_path: Path):
    theirs, _, ours, _ = checked(Blip2ForConditionalGeneration, config(name), "random", tmp_path)
    unscaled(ours, "image")
    pixels, given = batch()
    same_writing(given, pixels, ours, theirs)


def processor(tokens: Any, queries: int | None) -> Blip2Processor:
    return Blip2Processor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokens, queries)


@pytest.mark.parametrize("name", ["opt", "t5"])
def test_the_whole_way(name: str, tmp_path: Path):
    processes = processor(vocabulary(name, tmp_path / "words"), QUERIES)
    questions = ["Question: what is this? Answer:", "a photo of"]
    opened = the_whole_way(Blip2ForConditionalGeneration, config(name), processes, tmp_path, questions)
    one = Model(opened.network, opened.modalities, opened.spec)
    said = one.chat([message("user", picture(40, 50), questions[0])], max_new_tokens=8)
    assert said == one.generate(questions[0], image=picture(40, 50), max_new_tokens=8)
    assert one.generate(image=picture(40, 50), max_new_tokens=8)  # a caption


def test_what_is_learnt(tmp_path: Path):
    """OPT ends what it says with the line, T5 with its end token; after a question, a space comes first."""
    shown = Segment("image", picture(40, 50))
    question = Segment("text", "Answer:", role="user", turn=1)
    answer = Segment("text", "two cats", role="assistant", turn=1, target=True)
    for name, told, seen in (("opt", " two cats\n", "two cats\n"), ("t5", "two cats", "two cats")):
        folder = tmp_path / name
        folder.mkdir()
        tokens = vocabulary(name, folder / "words")
        made = processor(tokens, QUERIES)
        opened = the_whole_way(Blip2ForConditionalGeneration, config(name), made, folder, [])
        caption = Segment("text", "two cats", target=True)
        for segments, text in (((shown, question, answer), told), ((shown, caption), seen)):
            words = prepare(Sample("a", segments), opened.modalities).pieces[-1]
            expected = tokens(text).input_ids[1:] if name == "opt" else tokens(text).input_ids
            assert words.values[words.learnt].tolist() == expected


def retrieval(**changes) -> Blip2Config:
    asked = QFORMER | {"use_qformer_text_input": True}
    return Blip2Config(
        vision_config=Blip2VisionConfig(**VISION),
        qformer_config=Blip2QFormerConfig(**asked),
        text_config=trunk("opt"),
        num_query_tokens=QUERIES,
        image_text_hidden_size=18,
        **changes,
    )


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_texts_and_pictures_are_compared_and_matched(initialisation: str, tmp_path: Path):
    theirs, _, ours, again = checked(Blip2ForImageTextRetrieval, retrieval(), initialisation, tmp_path)
    unscaled(ours, "image")
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(1, 60, (3, 11), generator=generator)
    lengths = [11, 4, 7]
    pictures = stream(pixels, torch.full((3,), 32), torch.arange(3))
    texts = stream(ids, torch.tensor(lengths), torch.arange(3))
    seen, said = ours.embed("image", pictures), ours.embed("text", texts)
    for model in (theirs, again):
        given = {"pixel_values": pixels.movedim(-1, 1), "input_ids": ids, "attention_mask": real(ids, lengths)}
        compared = model(**given)
        close(seen, compared.image_embeds)
        close(said, compared.text_embeds)
        close(similarity(seen, said), compared.logits_per_image)
        matched = model(**given, use_image_text_matching_head=True)
        close(ours.match("image", pictures, texts), matched.logits_per_image)
