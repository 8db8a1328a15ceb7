"""CTC of wav2vec 2.0 against transformers, and which recording is paired with which transcript."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.reference import assert_same
from nn.speech import KINDS, config, pair, stream, tower, waves
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from sensorium.core import Batch, ConfigError
from sensorium.nn.architectures.transcriber import Transcriber
from sensorium.nn.heads.classes import ClassHead
from sensorium.objectives import CTC

WORDS = torch.tensor([[3, 4, 4, 9], [7, 1, 0, 0], [2, 0, 0, 0]])
SAID = torch.tensor([4, 2, 1])


def build(of: Wav2Vec2Config) -> Transcriber:
    head = ClassHead(width=of.hidden_size, classes=of.vocab_size, dropout=of.final_dropout)
    return Transcriber(name="sound", tower=tower(of), head=head, transcripts="words", blank=of.pad_token_id)


def batch(*sizes: int, words: Tensor = WORDS, said: Tensor = SAID, **changes: Any) -> Batch:
    values, lengths = waves(*sizes)
    yes = torch.ones(len(words), dtype=torch.bool)
    streams = {"sound": stream(values, lengths), "words": stream(words, said, **({"target": yes} | changes))}
    return Batch(streams, tuple(map(str, sizes)), lengths)


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_parity(norm: str, stable: bool, how: str, reduction: str, monkeypatch: pytest.MonkeyPatch):
    of = config(norm, stable, ctc_loss_reduction=reduction, attention_dropout=0.0)
    theirs, ours = pair(Wav2Vec2ForCTC, of, build, how)
    sizes = (203, 203, 203) if norm == "group" else (203, 87, 120)
    given = batch(*sizes)
    values, lengths = waves(*sizes)
    mask = (torch.arange(max(sizes)) < lengths[:, None]).long() if norm == "layer" else None
    with monkeypatch.context() as patch:
        log_softmax = torch.log_softmax
        patch.setattr(torch.nn.functional, "log_softmax", lambda x, dim, dtype: log_softmax(x, dim))
        labels = WORDS.masked_fill(WORDS == 0, -100)
        expected = theirs(values[..., 0], mask, labels=labels)
    outputs = ours(given)
    found = outputs.transcription
    for row, logits in zip(expected.logits, found.logits.split(found.lengths.tolist()), strict=True):
        assert_same(logits, row[: len(logits)])
    loss = CTC(stream="words", reduction=reduction)
    total, count = loss.totals(outputs)["ctc"], loss.counts(given)["ctc"]
    assert count == 3
    assert_same(total if reduction == "sum" else total / count, expected.loss)
    expected.loss.backward()
    (total if reduction == "sum" else total / count).backward()
    assert_same(ours.head.project.weight.grad, theirs.lm_head.weight.grad)
    their_norm = theirs.wav2vec2.feature_extractor.conv_layers[0].layer_norm
    assert_same(ours.towers["sound"].stem.layers[0].norm.weight.grad, their_norm.weight.grad)


@torch.no_grad()
def test_totals_add_up():
    ours, loss = build(config()).double().eval(), CTC(stream="words")
    whole = loss.totals(ours(batch(203, 87, 120)))["ctc"]
    values, lengths = waves(203, 87, 120)
    parts = []
    for index in range(3):
        row = slice(index, index + 1)
        sound = stream(values[row, : lengths[index]], lengths[row])
        words = stream(WORDS[row, : SAID[index]], SAID[row], target=torch.ones(1, dtype=torch.bool))
        parts.append(loss.totals(ours(Batch({"sound": sound, "words": words}, ("one",), lengths[:1])))["ctc"])
    assert_same(whole, sum(parts))


@torch.no_grad()
def test_pairs():
    """Each transcript goes to the recording of its sample and place; what is alone is left out."""
    ours = build(config()).double().eval()
    swapped = batch(203, 87, 120, owner=torch.tensor([2, 0, 7]))
    found = ours(swapped).transcription
    assert found.lengths.tolist() == [int(ours.logits(swapped.streams["sound"])[1][i]) for i in (0, 2)]
    assert found.target_lengths.tolist() == [2, 4]
    assert found.target.tolist() == [7, 1, 3, 4, 4, 9]
    no_target = batch(203, 87, 120, target=torch.tensor([True, False, True]))
    assert ours(no_target).transcription.target_lengths.tolist() == [4, 1]
    assert CTC(stream="words").counts(no_target) == {"ctc": 2}


def test_no_pairs_give_zero_and_gradients():
    ours = build(config()).double().train()
    total = CTC().totals(ours(batch(203, 87, 120, owner=torch.tensor([7, 8, 9]))))["ctc"]
    total.backward()
    assert total.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_two_modalities():
    with pytest.raises(ConfigError, match="found 'sound' for both"):
        Transcriber(name="sound", tower=tower(config()), head=torch.nn.Identity(), transcripts="sound")
