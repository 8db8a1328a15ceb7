"""The unified model: a sample's results depend on itself alone, and nothing looks where it must not."""

from __future__ import annotations

import pytest
import torch
from nn.toys import MODALITIES, batch, model, sample

from sensorium.core import CapabilityError, ConfigError, Sample, Segment
from sensorium.data.item import Draws

CLOSE = {"atol": 1e-10, "rtol": 0.0}
MIXED = [
    sample(0),
    sample(1, ("picture", "caption")),
    sample(2, ("wave", "caption", "turn")),
    sample(3, ("caption",)),
    sample(4, ("wave", "picture", "turn")),
    sample(5, ("picture",)),
]


@pytest.mark.parametrize("experts", [0, 3])
def test_batched_equals_single(experts):
    """Missing modalities, padding and neighbours change nothing; masks are drawn per sample."""
    net = model(experts=experts)
    draws = Draws(corrupt=0.5)
    whole = net(batch(MIXED, draws))
    for index, one in enumerate(MIXED):
        alone = net(batch([one], draws))
        for name, found in alone.embeddings.items():
            expected = whole.embeddings[name]
            torch.testing.assert_close(found.vectors, expected.vectors[expected.owner == index], **CLOSE)
        mine = whole.language.owner == index
        torch.testing.assert_close(alone.language.logits, whole.language.logits[mine], **CLOSE)
        assert torch.equal(alone.language.target, whole.language.target[mine])
        mine = whole.masked_tokens["words"].owner == index
        torch.testing.assert_close(
            alone.masked_tokens["words"].logits, whole.masked_tokens["words"].logits[mine], **CLOSE
        )


def test_every_parameter_gets_a_gradient_without_any_data_for_it():
    """So that ranks with different modalities agree on what to exchange."""
    net = model()
    out = net(batch([sample(3, ("caption",))]))
    total = out.language.logits.sum() + out.scale + sum(e.vectors.sum() for e in out.embeddings.values())
    total = (
        total
        + sum(p.values.sum() for p in out.masked_patches.values())
        + out.masked_tokens["words"].logits.sum()
    )
    total.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def _logits(samples, **changes):
    out = model()(batch(samples))
    return out.language


def _with(value_of, one: Sample, index: int) -> Sample:
    segments = list(one.segments)
    old = segments[index]
    segments[index] = Segment(old.modality, value_of(old.value), old.role, old.target, old.turn)
    return Sample(one.key, tuple(segments))


def test_targets_are_causal_and_turns_do_not_see_captions():
    one = sample(0)  # picture, wave, caption, question, answer
    caption = len(one.segments[2].value) - 1
    base = _logits([one]).logits
    changed = _logits(
        [_with(lambda v: torch.cat([v[:2], (v[2:-1] + 1).clamp(4, 19), v[-1:]]), one, 2)]
    ).logits
    torch.testing.assert_close(changed[:2], base[:2], **CLOSE)  # what precedes the change
    assert not torch.allclose(changed[2:caption], base[2:caption])
    torch.testing.assert_close(changed[caption:], base[caption:], **CLOSE)  # the answer


def test_context_reaches_targets_and_the_question_only_its_answer():
    one = sample(0)
    caption = len(one.segments[2].value) - 1
    base = _logits([one]).logits
    picture = _logits([_with(lambda v: v + 1, one, 0)]).logits
    assert not torch.allclose(picture[:caption], base[:caption])
    assert not torch.allclose(picture[caption:], base[caption:])
    question = _logits([_with(lambda v: v.flip(0), one, 3)]).logits
    torch.testing.assert_close(question[:caption], base[:caption], **CLOSE)
    assert not torch.allclose(question[caption:], base[caption:])


def test_a_hidden_segment_is_as_if_absent():
    import dataclasses

    full, without = batch([sample(0)]), batch([sample(0, ("wave", "caption", "turn"))])
    # The draw of the wave's values must be the same in both, so take the stream of the full one.
    streams = dict(full.streams)
    streams["picture"] = dataclasses.replace(streams["picture"], hidden=torch.tensor([True]))
    absent = dict(full.streams) | {"picture": without.streams["picture"]}
    net = model()
    hidden = net(dataclasses.replace(full, streams=streams)).language.logits
    gone = net(dataclasses.replace(full, streams=absent)).language.logits
    torch.testing.assert_close(hidden, gone, **CLOSE)


def test_masked_values_cannot_be_seen():
    """A reconstruction is the same whatever stood under the mask."""
    draws = Draws(corrupt=1.0, withhold=0.0)
    net = model()
    first = batch([sample(0, ("picture",))], draws)
    out = net(first)
    stream = first.streams["picture"]
    masked = net.encoders["picture"](stream.values, stream.lengths, stream.corrupt, stream.seed).masked[0]
    values = first.streams["picture"].values.clone()
    for token in masked.nonzero()[:, 0].tolist():
        row, column = divmod(token, 2)
        values[0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 7.0
    import dataclasses

    streams = dict(first.streams) | {"picture": dataclasses.replace(first.streams["picture"], values=values)}
    again = net(dataclasses.replace(first, streams=streams))
    assert masked.any()
    torch.testing.assert_close(
        again.masked_patches["picture"].values, out.masked_patches["picture"].values, **CLOSE
    )
    assert not torch.allclose(again.masked_patches["picture"].target, out.masked_patches["picture"].target)


def test_decoding_with_caches_equals_the_full_pass():
    net = model()
    samples = [sample(i) for i in range(4)]
    full = net(batch(samples)).language
    contexts = [
        Sample(s.key, s.segments[:2] + s.segments[3:4]) for s in samples
    ]  # without caption and answer
    ordinal = torch.ones(4, dtype=torch.long)
    answers = [s.segments[4].value for s in samples]
    first = torch.stack([answer[0] for answer in answers])
    segment = torch.full((4,), 4)
    state = net.begin(batch(contexts), segment, turn=ordinal, ordinal=ordinal, ids=first)
    rows = torch.tensor([0, 1, 2, 3])
    for step in range(max(map(len, answers)) - 1):
        for index, logits in zip(rows.tolist(), state.logits, strict=True):
            if step < len(answers[index]) - 1:
                mine = full.logits[full.owner == index]
                start = len(samples[index].segments[2].value) - 1
                torch.testing.assert_close(logits, mine[start + step], **CLOSE)
        order = torch.tensor([2, 0, 3, 1])
        state.select(order)
        rows = rows[order]
        chosen = [answers[index] for index in rows.tolist()]
        state.extend(torch.stack([answer[min(step + 1, len(answer) - 1)] for answer in chosen]))


def test_parts_that_do_not_fit_are_named():
    from sensorium.nn.architectures.unified import Unified
    from sensorium.nn.encoders.tokens import TokenEncoder
    from sensorium.nn.layers.blocks import block
    from sensorium.nn.layers.transformer import Transformer

    words = TokenEncoder(vocabulary=9, width=8, mask_id=3)
    with pytest.raises(ConfigError, match="words encoder has width 8, the trunk 16"):
        Unified(
            encoders={"words": words},
            trunk=Transformer(width=16, depth=2, block=block(width=16, heads=2, hidden=64)),
            alone=1,
            embedding=4,
            language="words",
        )
    with pytest.raises(ConfigError, match="alone must lie between 1 and 1"):
        Unified(
            encoders={"words": words},
            trunk=Transformer(width=8, depth=2, block=block(width=8, heads=2, hidden=32)),
            alone=2,
            embedding=4,
            language="words",
        )
    assert set(MODALITIES) == {"picture", "wave", "words"}


@pytest.mark.parametrize("name", ["picture", "wave"])
@torch.no_grad()
def test_what_it_restores(name: str):
    """Visible values stay, hidden ones are those of the patch head, and each sample has its own."""
    net, samples = model(), [sample(index, (name,)) for index in range(4)]
    whole = batch(samples)
    found = net.restore(name, whole)
    values = whole.streams[name].values
    assert torch.equal(found.values, values)
    assert found.hidden.shape == values.shape[:-1]
    assert torch.equal(found.restored[~found.hidden], values[~found.hidden])
    assert not bool((found.restored == values)[found.hidden].any())
    assert 0.1 < float(found.hidden.float().mean()) < 0.9
    for index, one in enumerate(samples):
        alone = net.restore(name, batch([one]))
        length = alone.values.shape[1]
        torch.testing.assert_close(alone.restored[0], found.restored[index, :length], **CLOSE)
    assert net.restore(name, batch([])).restored.shape[0] == 0


def test_words_are_not_restored():
    with pytest.raises(CapabilityError, match="restores no hidden parts of words"):
        model().restore("words", batch([sample(0)]))
