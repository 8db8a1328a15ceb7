"""wav2vec 2.0 in pre-training against transformers: predictions, codes, losses and gradients for the same draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nn.reference import assert_same
from nn.speech import KINDS, config, pair, stream, tower, waves
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from sensorium.core import Batch, ConfigError
from sensorium.core.outputs import CodePrediction, Outputs
from sensorium.nn.architectures.speech_pretraining import SpeechPretraining, distractors
from sensorium.nn.encoders.spec_augment import spans
from sensorium.nn.heads.quantiser import GumbelQuantiser
from sensorium.objectives import CodeContrast, CodeDiversity


def build(of: Wav2Vec2Config) -> SpeechPretraining:
    return SpeechPretraining(
        name="sound",
        tower=tower(of),
        quantiser=GumbelQuantiser(
            width=of.conv_dim[-1],
            books=of.num_codevector_groups,
            entries=of.num_codevectors_per_group,
            code_width=of.codevector_dim,
        ),
        embedding=of.proj_codevector_dim,
        distractors=of.num_negatives,
        dropout=of.feat_quantizer_dropout,
    )


def drawn(ours: SpeechPretraining, lengths: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Masked frames, our distractors, and the same as the reference wants them: places in the flattened batch."""
    frames = ours.towers["sound"].stem(torch.zeros(len(lengths), int(lengths.max()), 1).double(), lengths)[1]
    seeds = torch.arange(len(lengths)) + seed
    masked = spans(seeds, frames, 0.5, 3, 2)
    others = distractors(seeds, masked.sum(1), 5)
    theirs = torch.zeros(*masked.shape, 5, dtype=torch.long)
    rows = others.split(masked.sum(1).tolist())
    for index, found in enumerate(rows):
        places = masked[index].nonzero()[:, 0] + index * masked.shape[1]
        theirs[index, masked[index]] = places[found]
    return masked, others, theirs


def total(found: CodePrediction) -> dict[str, Tensor]:
    """Both losses with every frame weighing 1, as the reference sums them."""
    outputs = Outputs(codes=replace(found, weight=torch.ones_like(found.weight)))
    return CodeContrast().totals(outputs) | CodeDiversity().totals(outputs)


def straight_through(logits: Tensor, tau: float, hard: bool) -> Tensor:
    """``gumbel_softmax`` without noise, whose hard choices are exact."""
    soft = (logits / tau).softmax(-1)
    return torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]) + (soft - soft.detach())


def exact(model: Wav2Vec2ForPreTraining) -> None:
    """Equal codes are equal after their linear map too, which rounding may not leave so."""
    model.project_q.register_forward_hook(
        lambda _, given, made: made + (made.mul(1e12).round() / 1e12 - made).detach()
    )


def in_double(patch: pytest.MonkeyPatch) -> None:
    """The reference computes its losses in single precision."""
    patch.setattr(torch.Tensor, "float", lambda self: self)


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@pytest.mark.parametrize("sizes", [(203, 203), (260, 131)])
@torch.no_grad()
def test_parity(norm: str, stable: bool, how: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    if norm == "group" and sizes[0] != sizes[1]:
        pytest.skip("the reference's statistics are over padding too")
    theirs, ours = pair(Wav2Vec2ForPreTraining, config(norm, stable), build, how)
    exact(theirs)
    values, lengths = waves(*sizes)
    masked, others, places = drawn(ours, lengths)
    mask = (torch.arange(max(sizes)) < lengths[:, None]).long() if sizes[0] != sizes[1] else None
    with monkeypatch.context() as patch:
        in_double(patch)
        expected = theirs(values[..., 0], mask, masked, places)
    found = ours.predict(*ours.towers["sound"].local(values, lengths), masked, others)
    assert_same(found.predicted, expected.projected_states[masked])
    assert_same(found.codes, expected.projected_quantized_states[masked])
    losses = total(found)
    assert_same(losses["codes"], expected.contrastive_loss)
    assert_same(losses["diversity"], expected.diversity_loss)
    assert_same(losses["codes"] + 0.1 * losses["diversity"], expected.loss)


def test_parity_of_gradients_in_training(monkeypatch: pytest.MonkeyPatch):
    """Without noise and dropout; the code of a frame then goes to its distractors with the same code exactly."""
    off = ("hidden_dropout", "activation_dropout", "attention_dropout", "layerdrop")
    theirs, ours = pair(Wav2Vec2ForPreTraining, config(**dict.fromkeys(off, 0.0)), build)
    exact(theirs.train())
    ours.train()
    values, lengths = waves(203, 203)
    masked, others, places = drawn(ours, lengths)
    monkeypatch.setattr(torch.Tensor, "exponential_", _ones)
    with monkeypatch.context() as patch:
        in_double(patch)
        patch.setattr(torch.nn.functional, "gumbel_softmax", straight_through)
        expected = theirs(values[..., 0], None, masked, places).loss
    expected.backward()
    losses = total(ours.predict(*ours.towers["sound"].local(values, lengths), masked, others))
    loss = losses["codes"] + 0.1 * losses["diversity"]
    loss.backward()
    assert_same(loss, expected)
    assert_same(ours.quantiser.choose.weight.grad, theirs.quantizer.weight_proj.weight.grad)
    assert_same(ours.quantiser.codes.grad.flatten(0, 1)[None], theirs.quantizer.codevectors.grad)
    ours_tower, their_tower = ours.towers["sound"], theirs.wav2vec2
    assert_same(ours_tower.augment.vector.grad, their_tower.masked_spec_embed.grad)
    kernel = their_tower.encoder.pos_conv_embed.conv.parametrizations.weight
    assert_same(ours_tower.positions.scale.grad, kernel.original0.grad)
    assert_same(ours_tower.positions.direction.grad, kernel.original1.grad)
    stem = their_tower.feature_extractor.conv_layers[0]
    assert_same(ours_tower.stem.layers[0].conv.weight.grad, stem.conv.weight.grad)


def _ones(self: Tensor) -> Tensor:
    return self.fill_(1.0)


def batch(sizes: tuple[int, ...], corrupt: list[bool] | None = None, start: int = 0) -> Batch:
    values, lengths = waves(*sizes)
    sound = stream(values, lengths, corrupt=torch.tensor(corrupt or [True] * len(sizes)))
    keep = slice(start, None)
    return Batch(
        {"sound": sound.select(torch.arange(len(sizes))[keep])}, tuple(map(str, sizes))[keep], lengths[keep]
    )


@torch.no_grad()
def test_segments_draw_alone_as_in_a_batch():
    ours = build(config()).double().eval()
    sizes = (260, 131, 203)
    whole = ours(batch(sizes)).codes
    assert whole.lengths.min() >= 3
    assert_same(
        torch.stack([part.sum() for part in whole.weight.split(whole.lengths.tolist())]),
        torch.ones(3).double(),
    )
    values, lengths = waves(*sizes)
    parts = list(zip(*(x.split(whole.lengths.tolist()) for x in (whole.predicted, whole.codes)), strict=True))
    losses = []
    for index in range(3):
        one = stream(values, lengths, corrupt=torch.ones(3, dtype=torch.bool)).select(torch.tensor([index]))
        one = replace(one, values=one.values[:, : int(one.lengths)])
        alone = ours(Batch({"sound": one}, ("one",), lengths[:1]))
        assert_same(alone.codes.predicted, parts[index][0])
        assert_same(alone.codes.codes, parts[index][1])
        losses.append(CodeContrast(stream="sound").totals(alone)["codes"])
    assert_same(CodeContrast(stream="sound").totals(Outputs(codes=whole))["codes"], sum(losses))


def test_only_corrupt_segments_count():
    ours = build(config()).double().eval()
    given = batch((260, 131, 203), [False, True, False])
    found = ours(given)
    one = {"sound": given.streams["sound"].select(torch.tensor([1]))}
    alone = ours(Batch(one, ("one",), given.concept[:1]))
    assert found.codes.lengths.tolist() == alone.codes.lengths.tolist()
    assert_same(found.codes.codes, alone.codes.codes)
    assert CodeContrast(stream="sound").counts(given) == {"codes": 1}
    assert CodeDiversity(stream="sound").counts(given) == {"diversity": 1}


@pytest.mark.parametrize("start", [0, 3])
def test_nothing_to_learn_gives_zero_and_gradients(start: int):
    """No corrupt segment, or no segment at all."""
    ours = build(config()).double().train()
    found = ours(batch((260, 131, 203), [False] * 3, start))
    losses = CodeContrast().totals(found) | CodeDiversity().totals(found)
    assert {name: loss.item() for name, loss in losses.items()} == {"codes": 0.0, "diversity": 0.0}
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_distractors():
    lengths = torch.tensor([4, 1, 0, 50])
    found = distractors(torch.arange(4), lengths, 200)
    assert found.shape == (55, 200)
    assert (found[4] == -1).all(), "there is no other frame"
    first, last = found[:4], found[5:]
    for rows in (first, last):
        own = torch.arange(len(rows))[:, None]
        assert (rows != own).all()
        assert rows.min() == 0
        assert rows.max() == len(rows) - 1
    assert abs((last == 0).float().mean() - 49 / 50 / 49) < 0.005, "uniform over the others"


@pytest.mark.parametrize("augment", ["none", "not active"])
def test_frames_must_be_hidden(augment: str):
    silent = tower(config())
    if augment == "none":
        silent.augment = None
    else:
        silent.augment.active = False
    quantiser = GumbelQuantiser(width=16, books=1, entries=2, code_width=2)
    with pytest.raises(ConfigError, match="active augment"):
        SpeechPretraining(name="sound", tower=silent, quantiser=quantiser, embedding=4)
