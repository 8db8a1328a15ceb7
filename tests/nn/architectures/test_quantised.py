"""A language model in 8 bits: saved and built again, writing with caches, and its measured loss."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from sensorium.core import Batch, ConfigError, Spec, Stream
from sensorium.core.state import saved_tensors
from sensorium.nn.architectures.multimodal_lm import MultimodalLM
from sensorium.nn.architectures.quantised import Quantised, quantisation_loss
from sensorium.nn.decoders.language_model import LanguageModel, VocabularyHead, WordEmbedding
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import PreNorm
from sensorium.nn.layers.feed_forward import GatedMLP
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.quantised import Int8Embedding, Int8Linear, quantise
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.transformer import Transformer
from sensorium.nn.skeleton import Skeleton

WIDTH, VOCABULARY = 32, 90


def spec(tied: bool = True) -> Spec:
    norm = Spec(RMSNorm, width=WIDTH, eps=1e-6)
    attention = Spec(SelfAttention, width=WIDTH, heads=4, groups=2, biases="", rotary=Spec(Rotary, turned=8))
    block = Spec(PreNorm, norm=norm, attention=attention, feed_forward=Spec(GatedMLP, width=WIDTH, hidden=64))
    decoder = Spec(
        LanguageModel,
        embedding=Spec(WordEmbedding, vocabulary=VOCABULARY, width=WIDTH),
        trunk=Spec(Transformer, width=WIDTH, depth=2, block=block),
        norm=norm,
        head=None if tied else Spec(VocabularyHead, width=WIDTH, vocabulary=VOCABULARY),
    )
    return Spec(MultimodalLM, language="words", decoder=decoder)


def network(tied: bool = True) -> MultimodalLM:
    torch.manual_seed(0)
    built = spec(tied).build().eval()
    nn.init.normal_(built.decoder.embedding.token.weight, std=0.4)  # logits that tell tokens apart
    return built


def batch(lengths: list[int], learnt: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(1)
    count = len(lengths)
    values = torch.randint(VOCABULARY, (count, max(lengths)), generator=generator)
    numbers, no = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    known = torch.tensor(lengths)
    real = torch.arange(max(lengths)) < known[:, None]
    stream = Stream(
        values=values.where(real, 0),
        lengths=known,
        owner=numbers,
        order=numbers * 0,
        ordinal=numbers * 0,
        turn=numbers * 0,
        content=no,
        target=~no,
        hidden=no,
        corrupt=no,
        seed=numbers,
        learnt=(real & (torch.arange(max(lengths)) > 0)) if learnt else None,
    )
    return Batch({"words": stream}, tuple(map(str, range(count))), numbers)


def test_its_spec_and_its_weights_make_it_again():
    whole = network()
    held = quantise(whole)
    said = json.loads(json.dumps(Spec(Quantised, network=spec()).to_json()))
    with Skeleton():
        again = Spec.from_json(said).build()
    assert type(again) is MultimodalLM
    assert saved_tensors(again).keys() == saved_tensors(held).keys()
    again.load_state_dict(again.state_dict() | saved_tensors(held))
    given = batch([9, 5])
    assert torch.equal(again(given).language.logits, held(given).language.logits)
    kept = Spec(Quantised, network=spec(), keep=["blocks.1"]).build()
    assert isinstance(kept.decoder.trunk.blocks[0].attention.out, Int8Linear)
    assert not isinstance(kept.decoder.trunk.blocks[1].attention.out, Int8Linear)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_it_writes_with_caches_what_it_writes_without(tied: bool):
    held = quantise(network(tied))
    assert isinstance(held.decoder.embedding.token, Int8Embedding)
    assert held.decoder.vocabulary == VOCABULARY
    assert (held.decoder.head is None) == tied
    given = batch([6, 3, 8], learnt=False)
    state = held.begin(given, room=4)
    ids = [
        row[:length] for row, length in zip(given.streams["words"].values.tolist(), [6, 3, 8], strict=True)
    ]
    for _ in range(4):
        for row, known in enumerate(ids):
            alone = batch([len(known)])
            alone.streams["words"].values.copy_(torch.tensor([known]))
            torch.testing.assert_close(held.begin(alone).logits[0], state.logits[row], atol=1e-5, rtol=0)
        chosen = state.logits.argmax(1)
        state.extend(chosen)
        ids = [[*known, new] for known, new in zip(ids, chosen.tolist(), strict=True)]


def test_the_loss_is_what_the_formula_says():
    whole, given = network(), batch([30, 11, 22])
    held = quantise(whole)
    found = quantisation_loss(whole, held, [given, given])
    first, second = (one(given).language for one in (whole, held))
    p, q = (words.logits.double().log_softmax(1) for words in (first, second))
    assert found.tokens == 2 * (29 + 10 + 21)
    assert found.divergence == pytest.approx(((p - q) * p.exp()).sum(1).mean().item(), rel=1e-6)
    surprise = [-part.gather(1, first.target[:, None]).mean().item() for part in (p, q)]
    assert found.perplexity == pytest.approx(math.exp(surprise[0]))
    assert found.quantised_perplexity == pytest.approx(math.exp(surprise[1]))
    assert found.ratio == pytest.approx(math.exp(surprise[1] - surprise[0]))
    assert found.agreement == pytest.approx((p.argmax(1) == q.argmax(1)).double().mean().item())


def test_little_is_lost():
    whole, given = network(), batch([40] * 8)
    found = quantisation_loss(whole, quantise(whole), [given])
    assert 1e-5 < found.divergence < 1e-3
    assert found.ratio == pytest.approx(1, abs=0.005)
    assert found.agreement > 0.95
    torch.manual_seed(2)
    other = quantisation_loss(whole, quantise(spec().build().eval()), [given])
    assert other.divergence > 1000 * found.divergence
    nothing = quantisation_loss(whole, whole, [given])
    assert nothing.divergence == 0
    assert nothing.ratio == 1
    assert nothing.agreement == 1


def test_without_words_there_is_no_loss():
    whole = network()
    with pytest.raises(ConfigError, match="no word to predict"):
        quantisation_loss(whole, whole, [batch([1])])
    with pytest.raises(ConfigError, match="no word to predict"):
        quantisation_loss(whole, whole, [])
