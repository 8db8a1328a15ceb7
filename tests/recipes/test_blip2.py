"""BLIP-2 against transformers: pictures among words, with both kinds of language models, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from modalities.layouts import bert
from recipes.language import checked, real, stream, unscaled
from recipes.parity import INITIALISATIONS, close, edited, reference
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
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
)

from sensorium.core import CapabilityError, ConfigError, Sample, Segment
from sensorium.core.outputs import products
from sensorium.data.item import prepare
from sensorium.evaluation.tasks.retrieval import embedded
from sensorium.model import Model, load
from sensorium.public import read_public
from sensorium.weights.family import Folder


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
        given = {
            "pixel_values": pixels.movedim(-1, 1),
            "input_ids": ids,
            "attention_mask": real(ids, lengths),
        }
        compared = model(**given)
        close(seen, compared.image_embeds)
        close(said, compared.text_embeds)
        close(products(seen, said), compared.logits_per_image)
        matched = model(**given, use_image_text_matching_head=True)
        close(ours.match("image", pictures, texts), matched.logits_per_image)


@torch.no_grad()
def test_from_pictures_and_words_to_how_well_they_fit(tmp_path: Path):
    (tmp_path / "words").mkdir()
    bert(tmp_path / "words")
    processes = processor(BertTokenizer.from_pretrained(tmp_path / "words"), None)
    made = retrieval()
    made.qformer_config.vocab_size = len(processes.tokenizer)
    theirs = reference(Blip2ForImageTextRetrieval, made, "random").float()
    theirs.save_pretrained(tmp_path / "theirs")
    processes.save_pretrained(tmp_path / "theirs")
    one = load(tmp_path / "theirs")
    one.save_pretrained(tmp_path / "ours")
    again = load(tmp_path / "ours")
    pictures, texts = [picture(40, 50), picture(30, 64, 1)], ["a photo of the cat", "two dogs"]
    given = processes(images=pictures, text=texts, return_tensors="pt", padding=True)
    compared, matched = theirs(**given), theirs(**given, use_image_text_matching_head=True)
    near = {"atol": 1e-5, "rtol": 0}
    for model in (one, again):
        seen, said = model.embed(image=pictures), model.embed(text=texts)
        torch.testing.assert_close(products(seen, said), compared.logits_per_image, **near)
        torch.testing.assert_close(products(said, seen), compared.logits_per_image.T, **near)
        fits = model.match(image=pictures, text=texts)
        torch.testing.assert_close(fits, matched.logits_per_image.softmax(1)[:, 1], **near)
        likely = compared.logits_per_image.softmax(1)
        torch.testing.assert_close(model.classify(texts, image=pictures), likely, **near)
    samples = [
        Sample(str(place), (Segment("image", shown), Segment("text", text)))
        for place, (shown, text) in enumerate(zip(pictures, texts, strict=True))
    ]
    assert embedded(one, samples, "image", 2).shape == (2, QUERIES, 18)
    with pytest.raises(ConfigError, match=r"match needs image and text, found \['image'\]"):
        one.match(image=pictures)
    with pytest.raises(CapabilityError, match="reads but does not write"):
        one.generate("what?", image=pictures[0])


@pytest.mark.parametrize(
    ("section", "fields", "said"),
    [
        (
            "qformer_config",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type: only 'absolute'",
        ),
        ("vision_config", {"num_channels": 1}, "vision_config.num_channels: only 3"),
        ("vision_config", {"model_type": "clip"}, "only 'blip_2_vision_model'"),
        (None, {"use_decoder_only_language_model": False}, "use_decoder_only_language_model: only True"),
    ],
)
def test_what_is_not_built_is_refused(section: str | None, fields: dict, said: str, tmp_path: Path):
    config("opt").save_pretrained(tmp_path)
    held = json.loads((tmp_path / "config.json").read_text())
    edited(tmp_path, **(fields if section is None else {section: held[section] | fields}))
    with pytest.raises(CapabilityError, match=said):
        read_public(Folder(tmp_path))


def test_older_files(tmp_path: Path):
    """Those without a placeholder: it is the first token behind the vocabulary."""
    for name, token in (("opt", 50_265), ("t5", 32_100)):
        config(name).save_pretrained(tmp_path)
        edited(tmp_path, image_token_index=None)
        assert read_public(Folder(tmp_path)).model.placeholders == {"image": token}
