"""Text encoders with the tokenizers of their checkpoints: from strings to numbers, as transformers has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from modalities import layouts
from recipes.parity import reference
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraForPreTraining,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

import sensorium as sm
from sensorium.core import Sample, Segment
from sensorium.data.collate import collate
from sensorium.data.item import Draws, prepare
from sensorium.public import open_network
from sensorium.weights.family import Folder

TEXTS = ["The cat sat on the mat.", "A dog!", "Once upon a time there was a fox, and it was red"]
SIZES = {"vocab_size": 1200, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 4}  # fmt: skip
CASES: dict[str, tuple[Callable[[Path], None], type, type, dict[str, Any]]] = {
    "bert": (layouts.bert, BertConfig, BertForMaskedLM, {"max_position_embeddings": 16}),
    "electra": (
        lambda folder: layouts.bert(folder, "ElectraTokenizer"),
        ElectraConfig,
        ElectraForPreTraining,
        {"max_position_embeddings": 512},
    ),
    "roberta": (layouts.roberta, RobertaConfig, RobertaForMaskedLM, {"max_position_embeddings": 18}),
    "xlm-roberta": (
        layouts.xlm_roberta,
        XLMRobertaConfig,
        XLMRobertaForMaskedLM,
        {"max_position_embeddings": 514},
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A checkpoint's directory, and the model in it."""
    files, config, cls, sizes = CASES[request.param]
    theirs = reference(cls, config(**(SIZES | sizes)), "random")
    theirs.save_pretrained(tmp_path)
    files(tmp_path)
    return tmp_path, theirs


@torch.no_grad()
def test_features_of_strings(case: tuple[Path, Any]):
    """Texts are cut to what the table of positions holds."""
    folder, theirs = case
    places = theirs.config.max_position_embeddings - (2 if "roberta" in theirs.config.model_type else 0)
    model = sm.load(folder)
    model.network.double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer(TEXTS, padding=True, truncation=True, max_length=places, return_tensors="pt")
    expected = getattr(theirs, theirs.base_model_prefix, theirs)(**given)
    found = model.features(text=TEXTS)
    for rows, theirs_rows, real in zip(found, expected.last_hidden_state, given.attention_mask, strict=True):
        torch.testing.assert_close(rows.double(), theirs_rows[real.bool()], atol=1e-5, rtol=0)


def test_the_mask_is_that_of_the_vocabulary(case: tuple[Path, Any]):
    folder, _ = case
    spec, network = open_network(Folder(folder), torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert spec.model.masking.mask == tokenizer.mask_token_id
    words = spec.modalities["text"].build()
    words.load(folder)
    samples = [Sample(str(row), (Segment("text", one),)) for row, one in enumerate(TEXTS)]
    batch = collate(
        [prepare(one, {"text": words}, draws=Draws(corrupt=1.0)) for one in samples], {"text": words}
    )
    stream = batch.streams["text"]
    drawn = network.masking(stream, spec.model.tower.embedding.vocabulary)
    assert drawn.masked.sum(1).min() >= 1
    assert not set(stream.values[drawn.masked].tolist()) & {tokenizer.cls_token_id, tokenizer.sep_token_id}
