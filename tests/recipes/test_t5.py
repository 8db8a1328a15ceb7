"""T5 against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from modalities import language_layouts
from recipes.language import VOCABULARY, alone, checked, greedy, real, sequences, uneven
from recipes.parity import INITIALISATIONS, close, edited, opened, reference
from recipes.trunks import left_out
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from sensorium.core import CapabilityError, CheckpointError, ConfigError, DataError, Sample, Segment
from sensorium.core.batch import Batch
from sensorium.generation.settings import Decoding
from sensorium.generation.write import write
from sensorium.model import load
from sensorium.objectives import NextToken
from sensorium.public import open_network
from sensorium.recipes.t5 import TRUNK, t5
from sensorium.weights.family import Folder


def config(**changes) -> T5Config:
    """A tiny one whose heads are wider than they must be; some distances share a bucket."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 2,
             "num_decoder_layers": 3, "num_heads": 4, "relative_attention_num_buckets": 8,
             "relative_attention_max_distance": 10, "decoder_start_token_id": 0}  # fmt: skip
    return T5Config(**sizes | changes)


VARIANTS = {
    "1.0": {},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "other": {"feed_forward_proj": "gated-silu", "layer_norm_epsilon": 1e-3, "decoder_start_token_id": 5},
}


def batch(first: int = 7) -> tuple[Batch, list[int]]:
    ids, lengths = uneven(longest=20)
    return sequences(ids, lengths, first=first), lengths


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        T5ForConditionalGeneration, config(**VARIANTS[variant]), initialisation, tmp_path
    )
    given, lengths = batch()
    words = given.streams["text"]
    labels = words.values[:, 7:].masked_fill(~words.learnt[:, 7:], -100)
    for model in (theirs, again):
        expected = model(words.values[:, :7], labels=labels)
        found = ours(given).language
        close(found.logits, expected.logits[labels >= 0])
        total = NextToken(stream="text").totals(ours(given))["language"]
        close(total / len(found.target), expected.loss)
        start = torch.full((3, 1), model.config.decoder_start_token_id)
        after = model(words.values, attention_mask=real(words.values, lengths), decoder_input_ids=start)
        close(ours.begin(given).logits, after.logits[:, 0])


@torch.no_grad()
def test_writing(tmp_path: Path):
    """As the reference, in one batch as one by one; several beams as well."""
    made = config(
        **VARIANTS["1.1"], num_decoder_layers=2
    )  # what they cache has as many layers as what is read
    theirs, _, ours, _ = checked(T5ForConditionalGeneration, made, "random", tmp_path)
    given, lengths = batch()
    found = greedy(ours, given, 24)
    beams = write(ours.begin(given, 8), Decoding(8, beams=3), stop_ids=[], decode=lambda ids: "")
    for row, length in enumerate(lengths):
        ids = given.streams["text"].values[row : row + 1, :length]
        how = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        assert theirs.generate(ids, max_new_tokens=24, **how)[0, 1:].tolist() == found[row]
        assert greedy(ours, alone(given, row), 24) == [found[row]]
        expected = theirs.generate(ids, max_new_tokens=8, num_beams=3, **how)
        assert expected[0, 1:].tolist() == beams[row][0].ids


@torch.no_grad()
def test_what_is_written_is_what_is_learnt(tmp_path: Path):
    """Token by token over what is kept, and all at once: the same logits."""
    _, _, ours, _ = checked(T5ForConditionalGeneration, config(), "random", tmp_path)
    given, _ = batch()
    logits = ours(given).language.logits.split(given.streams["text"].learnt.sum(1).tolist())
    for row, expected in enumerate(logits):
        one = alone(given, row)
        words = one.streams["text"]
        prompt = sequences(words.values[:, :7], [7])
        state = ours.begin(prompt, 2)
        close(state.logits, expected[:1])
        for place, token in enumerate(words.values[0, 7:-1], 1):
            state.extend(token[None])
            close(state.logits, expected[place : place + 1])


@torch.no_grad()
def test_each_answer_is_learnt_by_itself(tmp_path: Path):
    _, _, ours, _ = checked(T5ForConditionalGeneration, config(), "random", tmp_path)
    ids, _ = uneven(1, 12)
    both, *single = (sequences(ids[:, :length], [length]) for length in (12, 6, 12))
    for one, learnt in ((both, [3, 4, 5, 9, 10, 11]), (single[0], [3, 4, 5]), (single[1], [9, 10, 11])):
        flags = one.streams["text"].learnt
        flags[:] = False
        flags[:, learnt] = True
    close(ours(both).language.logits, torch.cat([ours(one).language.logits for one in single]))


@torch.no_grad()
def test_an_answer_to_nothing(tmp_path: Path):
    _, _, ours, _ = checked(T5ForConditionalGeneration, config(), "default", tmp_path)
    given, _ = batch(first=0)
    with pytest.raises(DataError, match="nothing before it"):
        ours(given)


def test_gradients_reach_every_parameter():
    spec = t5("tiny").set("model.decoder.embedding.vocabulary", VOCABULARY)
    ours = spec.set("model.decoder.head.vocabulary", VOCABULARY).model.build()
    given, _ = batch()
    NextToken(stream="text").totals(ours(given))["language"].backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_a_head_of_its_own(tmp_path: Path):
    """It is read where there is one; where there is none, it is the table of words."""
    theirs = reference(T5ForConditionalGeneration, config(**VARIANTS["1.1"]), "random")
    _, tied = opened(theirs, tmp_path)
    assert torch.equal(tied.decoder.head.weight, tied.decoder.embedding.token.weight)
    file = tmp_path / "model.safetensors"
    own = torch.randn_like(theirs.shared.weight)
    save_file(load_file(file) | {"lm_head.weight": own}, file)
    _, free = open_network(Folder(tmp_path), torch.float64)
    assert torch.equal(free.decoder.head.weight, own)
    edited(tmp_path, scale_decoder_outputs=True)
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' differs from 'shared.weight'"):
        open_network(Folder(tmp_path), torch.float64)


def test_older_files(tmp_path: Path):
    """The table of words under each of its names, and a bias that was never used."""
    theirs = reference(T5ForConditionalGeneration, config(), "random")
    _, ours = opened(theirs, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["shared.weight"].clone()
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(8, 4)
    save_file(tensors, file)
    edited(tmp_path, n_positions=512, output_past=True)
    _, again = open_network(Folder(tmp_path), torch.float64)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"is_encoder_decoder": False}, CapabilityError, "is_encoder_decoder"),
        ({"feed_forward_proj": "open-relu"}, ConfigError, "feed_forward_proj"),
        ({"dense_act_fn": "tanh"}, CapabilityError, "dense_act_fn"),
        ({"d_mod": 3}, ConfigError, "d_mod"),
    ],
)
def test_what_is_refused(fields: dict, error: type, said: str, tmp_path: Path):
    reference(T5ForConditionalGeneration, config(), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=said):
        open_network(Folder(tmp_path))


def test_no_such_size():
    with pytest.raises(ConfigError, match="t5 has no size 'smal'"):
        t5("smal")


def test_dropout_is_for_training():
    """Training leaves out; evaluation does not."""
    ours = t5("tiny").model.build()
    given, _ = batch()
    assert not torch.equal(ours(given).language.rows, ours(given).language.rows)
    ours.eval()
    assert torch.equal(ours(given).language.rows, ours(given).language.rows)
    assert F.softmax(ours(given).language.logits, 1).isfinite().all()


def test_what_a_config_leaves_out():
    left_out(TRUNK, T5Config)


@torch.no_grad()
def test_the_whole_way(tmp_path: Path):
    """What is asked and what is answered are the tokens that the tokenizer of the reference gives for each."""
    language_layouts.t5(tmp_path)
    tokens = AutoTokenizer.from_pretrained(tmp_path)
    theirs = reference(
        T5ForConditionalGeneration, config(vocab_size=len(tokens), num_decoder_layers=2), "random"
    ).float()
    theirs.save_pretrained(tmp_path)
    one = load(tmp_path)
    one.save_pretrained(tmp_path / "ours")
    question, answer = "translate: Where is the cat?", "Two dogs, left."
    asked = Segment("text", question, role="user")
    told = Segment("text", answer, role="assistant", target=True)
    expected = theirs(
        **tokens(question, return_tensors="pt"), labels=tokens(answer, return_tensors="pt").input_ids
    )
    for model in (one, load(tmp_path / "ours")):
        found = model.score(Sample("a", (asked, told)))
        torch.testing.assert_close(-found.mean(), expected.loss, atol=1e-5, rtol=0)
        how = {"max_new_tokens": 8, "do_sample": False}
        written = tokens.decode(theirs.generate(**tokens(question, return_tensors="pt"), **how)[0], True)
        assert model.generate(question, max_new_tokens=8) == written
        assert model.complete([Sample("a", (asked,))], max_new_tokens=8) == [written]
        assert model.chat([{"role": "user", "content": question}], max_new_tokens=8) == written
