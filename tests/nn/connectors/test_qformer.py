"""The Q-Former against those of BLIP-2 and InstructBLIP of transformers: queries, instructions, texts alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from nn.connectors.toys import EXACT, INITIALISATIONS, check_no_rows, features, linear
from nn.reference import reference
from torch import Tensor
from transformers import Blip2QFormerConfig, InstructBlipQFormerConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel, Blip2TextEmbeddings
from transformers.models.instructblip.modeling_instructblip import InstructBlipQFormerModel

from sensorium.core import ConfigError
from sensorium.nn.connectors.qformer import QFormer, Queried
from sensorium.nn.encoders.token_tower import TokenEmbedding

WIDTH, INNER, QUERIES, DEPTH, VOCABULARY, PLACES = 12, 10, 3, 3, 20, 9
SHAPE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 3,
    "intermediate_size": 14,
    "encoder_hidden_size": INNER,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": PLACES,
    "pad_token_id": 0,
}
#: From the names of transformers to ours, after queries, keys and values were joined.
NAMES = [
    (r"^encoder\.layer\.", "blocks."),
    (r"^(embeddings\.)?layernorm\.", "norm_in."),
    (r"^embeddings\.word_embeddings", "words.token"),
    (r"^embeddings\.position_embeddings", "words.position"),
    (r"\.crossattention\.output\.dense", ".cross.out"),
    (r"\.crossattention\.output\.LayerNorm", ".norm_cross"),
    (r"\.attention\.output\.dense", ".attention.out"),
    (r"\.attention\.output\.LayerNorm", ".norm_attention"),
    (r"\.intermediate_query\.dense", ".feed_queries.up"),
    (r"\.output_query\.dense", ".feed_queries.down"),
    (r"\.output_query\.LayerNorm", ".norm_queries"),
    (r"\.intermediate\.dense", ".feed_words.up"),
    (r"\.output\.dense", ".feed_words.down"),
    (r"\.output\.LayerNorm", ".norm_words"),
]


def qformer(*, reads: bool, every: int = 2, dropout: float = 0.0) -> QFormer:
    torch.manual_seed(0)
    return QFormer(
        inner=INNER,
        width=WIDTH,
        depth=DEPTH,
        heads=3,
        hidden=14,
        queries=QUERIES,
        every=every,
        words=TokenEmbedding(vocabulary=VOCABULARY, width=WIDTH, length=PLACES) if reads else None,
        dropout=dropout,
        attention_dropout=dropout,
    )


def take_over(ours: QFormer, state: dict[str, Tensor], how: str) -> QFormer:
    state = dict(state)
    for name in [name for name in state if ".attention.attention.query." in name]:
        parts = [state.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        state[name.replace("attention.attention.query", "attention.qkv")] = torch.cat(parts)
    for name in [name for name in state if ".crossattention.attention.query." in name]:
        key, value = (state.pop(name.replace("query", part)) for part in ("key", "value"))
        state[name.replace("crossattention.attention.query", "cross.kv")] = torch.cat([key, value])
        state[name.replace("crossattention.attention.query", "cross.q")] = state.pop(name)
    renamed = {"queries": torch.randn(QUERIES, WIDTH) * (1 if how == "random" else 0.02)}
    for name, value in state.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        assert name not in renamed, name
        renamed[name] = value
    ours.double().load_state_dict(renamed)
    return ours.eval()


def blip2(how: str, *, reads: bool, every: int = 2) -> tuple[Any, Any, QFormer]:
    """The reference, its embedding of words if it ``reads``, and ours."""
    config = Blip2QFormerConfig(**SHAPE, cross_attention_frequency=every, use_qformer_text_input=reads)
    known, state, embed = reference(Blip2QFormerModel, config, how), {}, None
    if reads:
        embed = reference(Blip2TextEmbeddings, config, how, seed=1)
        state = {f"embeddings.{name}": value for name, value in embed.state_dict().items()}
    return known, embed, take_over(qformer(reads=reads, every=every), known.state_dict() | state, how)


def seen(lengths: list[int]) -> tuple[Any, Tensor, Tensor]:
    """Tokens of segments packed, and padded with which are real."""
    given = features(lengths, INNER)
    padded = torch.nn.utils.rnn.pad_sequence(given.segments(), batch_first=True)
    return given, padded, torch.arange(max(lengths)) < given.lengths[:, None]


IDS = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0], [11, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])
READ = torch.arange(4) < LENGTHS[:, None]


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_queries_are_those_of_blip2(how: str, reads: bool, every: int):
    known, _, ours = blip2(how, reads=reads, every=every)
    given, padded, real = seen([6, 2, 4])
    expected = known(
        query_embeds=ours.queries.expand(3, -1, -1),
        encoder_hidden_states=padded,
        encoder_attention_mask=real.long(),
    ).last_hidden_state
    torch.testing.assert_close(ours(given), expected, **EXACT)


@pytest.mark.parametrize("how", INITIALISATIONS)
def test_texts_alone_are_those_of_blip2(how: str):
    known, embed, ours = blip2(how, reads=True)
    expected = known(query_embeds=embed(input_ids=IDS), query_length=0, attention_mask=READ.long())
    torch.testing.assert_close(ours.read(IDS, LENGTHS), expected.last_hidden_state[READ], **EXACT)


@pytest.mark.parametrize("how", INITIALISATIONS)
def test_queries_with_words_are_those_of_blip2(how: str):
    """What says whether a text fits. The reference takes no padded segments together with words."""
    known, embed, ours = blip2(how, reads=True)
    given, padded, _ = seen([4, 4, 4])
    expected = known(
        query_embeds=embed(input_ids=IDS, query_embeds=ours.queries.expand(3, -1, -1)),
        query_length=QUERIES,
        attention_mask=torch.cat([torch.ones(3, QUERIES), READ], dim=1).long(),
        encoder_hidden_states=padded,
    ).last_hidden_state[:, :QUERIES]
    torch.testing.assert_close(ours(given, IDS, LENGTHS), expected, **EXACT)


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("every", [1, 2])
def test_instructed_queries_are_those_of_instructblip(how: str, every: int):
    config = InstructBlipQFormerConfig(**SHAPE, cross_attention_frequency=every)
    known = reference(InstructBlipQFormerModel, config, how)
    ours = take_over(qformer(reads=True, every=every), known.state_dict(), how)
    given, padded, real = seen([6, 2, 4])
    expected = known(
        input_ids=IDS,
        attention_mask=torch.cat([torch.ones(3, QUERIES), READ], dim=1).long(),
        query_embeds=ours.queries.expand(3, -1, -1),
        encoder_hidden_states=padded,
        encoder_attention_mask=real.long(),
    ).last_hidden_state[:, :QUERIES]
    found = Queried(qformer=ours)(given, None, IDS, LENGTHS)
    torch.testing.assert_close(found.rows, expected.flatten(0, 1), **EXACT)
    assert found.lengths.tolist() == [QUERIES] * 3


def test_padding_changes_nothing():
    ours, (given, _, _) = qformer(reads=True).double().eval(), seen([6, 2, 4])
    found = ours(given, IDS, LENGTHS)
    other = torch.where(READ, IDS, 7)
    torch.testing.assert_close(ours(given, other, LENGTHS), found, **EXACT)
    for index in range(3):
        words = IDS[index : index + 1, : LENGTHS[index]]
        alone = ours(
            given.__class__(given.segments()[index], given.lengths[index : index + 1], given.pooled[:1]),
            words,
            LENGTHS[index : index + 1],
        )
        torch.testing.assert_close(alone[0], found[index], **EXACT)


def test_a_segment_without_words_is_as_if_none_were_asked():
    ours, (given, _, _) = qformer(reads=True).double().eval(), seen([6, 2, 4])
    found = ours(given, IDS, torch.tensor([4, 0, 1]))
    torch.testing.assert_close(found[1], ours(given)[1], **EXACT)


def test_projector_comes_last():
    ours, (given, _, _) = qformer(reads=False).double().eval(), seen([6, 2])
    connector = Queried(qformer=ours, projector=linear(WIDTH))
    expected = connector.projector.project(ours(given).flatten(0, 1))
    found = connector(given)
    torch.testing.assert_close(found.rows, expected, **EXACT)
    assert found.lengths.tolist() == [QUERIES] * 2
    assert connector.width == 5


def test_dropout_is_for_training():
    ours, (given, _, _) = qformer(reads=True, dropout=0.5).double(), seen([6, 2, 4])
    assert not torch.equal(ours(given, IDS, LENGTHS), ours(given, IDS, LENGTHS))
    ours.eval()
    assert torch.equal(ours(given, IDS, LENGTHS), ours(given, IDS, LENGTHS))


def test_no_rows():
    check_no_rows(Queried(qformer=qformer(reads=False), projector=linear(WIDTH)), INNER)
    ours = Queried(qformer=qformer(reads=True)).double()
    ids, lengths = torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    rows = ours(features([], INNER), None, ids, lengths).rows
    assert rows.shape == (0, WIDTH)
    assert ours.qformer.read(ids, lengths).shape == (0, WIDTH)


def test_what_cannot_be():
    given, _, _ = seen([2])
    ids, one = torch.ones(1, PLACES + 1, dtype=torch.long), torch.tensor([1])
    with pytest.raises(ConfigError, match="no embedding of words"):
        qformer(reads=False).double()(given, ids, one)
    with pytest.raises(ConfigError, match="need their lengths"):
        qformer(reads=True).double()(given, ids)
    with pytest.raises(ConfigError, match="10 words are more than the 9 places"):
        qformer(reads=True).read(ids, torch.tensor([PLACES + 1]))
    with pytest.raises(ConfigError, match="found 3, 0"):
        qformer(reads=True, every=0)
