"""GIT against transformers: pictures and clips before words, logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.language import alone, checked, greedy, real, reread, same_logits, sequences, stream, unscaled
from recipes.parity import INITIALISATIONS, edited, reference, settings
from recipes.pictured import message, picture
from recipes.trunks import refused
from torch import Tensor
from transformers import (
    AutoProcessor,
    BertTokenizer,
    CLIPImageProcessorPil,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    VideoMAEImageProcessorPil,
)

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.batch import Batch
from sensorium.core.modality import Medium
from sensorium.core.sample import Segment
from sensorium.data.collate import collate
from sensorium.modalities.video import Video
from sensorium.public import open_network, open_public, public_files, read_public, save_public
from sensorium.recipes import git
from sensorium.speaking import conversation
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

WORDS, ROWS, FRAMES = 99, 17, 3


def config(**changes: Any) -> GitConfig:
    """A tiny one with 16 patches a picture."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "vocab_size": WORDS, "max_position_embeddings": 80, "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
    return GitConfig(vision_config=vision, **sizes | changes)


def batch(kind: str = "image") -> Batch:
    """What is seen and then words, of two lengths; the last sequence has words alone."""
    generator = torch.Generator().manual_seed(3)
    lead = ROWS * (FRAMES if kind == "video" else 1)
    ids = torch.randint(3, 97, (3, lead + 11), generator=generator)
    ids[:2, :lead] = WORDS
    shape = (2, FRAMES, 32, 32, 3) if kind == "video" else (2, 32, 32, 3)
    pixels = torch.randn(shape, generator=generator, dtype=torch.float64)
    seen = stream(pixels, torch.tensor([shape[1]] * 2), torch.tensor([0, 1]))
    found = sequences(ids, [lead + 11, lead + 6, 9])
    found.streams["text"].learnt[ids == WORDS] = False
    found.streams[kind] = seen
    return found


def exact(model: Any) -> Any:
    """The reference with an encoder whose attention is not rounded to single precision."""
    model.git.image_encoder.config._attn_implementation = "sdpa"
    return model


def logits(model: Any, given: Batch, kind: str) -> Tensor:
    """Those of the reference for all tokens, with what it sees and without."""
    words, pixels = given.streams["text"], given.streams[kind].values.movedim(-1, -3)
    lead = int((words.values[0] == WORDS).sum())
    mask = real(words.values, words.lengths.tolist())
    seen = model(words.values[:2, lead:], attention_mask=mask[:2, lead:], pixel_values=pixels).logits
    blind = model(words.values[2:], attention_mask=mask[2:]).logits
    return torch.cat([seen, blind])


VARIANTS = {
    "usual": {},
    "other sizes": {"hidden_act": "relu", "layer_norm_eps": 1e-3, "num_attention_heads": 2},
    "frames": {"num_image_with_embedding": FRAMES},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(GitForCausalLM, config(**VARIANTS[variant]), initialisation, tmp_path)
    kind = "video" if variant == "frames" else "image"
    unscaled(ours, kind)
    given = batch(kind)
    for model in (theirs, again):
        same_logits(given, ours, logits(exact(model), given, kind))
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("kind", ["image", "video"])
@torch.no_grad()
def test_writing(kind: str, tmp_path: Path):
    """64 tokens: as the reference, in one batch as one by one, with a cache as without."""
    changes = {"num_image_with_embedding": FRAMES} if kind == "video" else {}
    theirs, _, ours, _ = checked(GitForCausalLM, config(**changes), "random", tmp_path)
    unscaled(ours, kind)
    exact(theirs)
    given = batch(kind)
    found = greedy(ours, given, 64)
    for row in range(3):
        one = alone(given, row)
        assert greedy(ours, one, 64) == [found[row]]
        ids, seen = one.streams["text"].values, one.streams[kind].values
        ids = ids[ids != WORDS][None]
        expected = theirs.generate(
            ids,
            **({"pixel_values": seen.movedim(-1, -3)} if len(seen) else {}),
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert expected[0, ids.shape[1] :].tolist() == found[row]
    assert reread(ours, given, 4) == [row[:4] for row in found]


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "this", "?", "a", "cat", "[", "]", "<", ">",
          "image", "sep"]  # fmt: skip


def words(folder: Path) -> BertTokenizer:
    """Few pieces in lower case."""
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return BertTokenizer(str(folder / "vocab.txt"))


@torch.no_grad()
def test_a_conversation(tmp_path: Path):
    """What the processor of the reference gives is what is read; a token behind the vocabulary holds the places."""
    processor = GitProcessor(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32), words(tmp_path))
    theirs = exact(reference(GitForCausalLM, config(vocab_size=len(PIECES)), "random"))
    theirs.save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    opened = open_public(tmp_path / "theirs")
    text, seen = opened.modalities["text"], picture(50, 91)
    messages = [message("user", "What is this? [SEP] <image>", seen)]
    given = collate([conversation(messages, opened.modalities, text)], opened.modalities)
    ids = given.streams["text"].values[0].tolist()
    asked = processor.tokenizer("what is this?", add_special_tokens=False).input_ids
    typed = [PIECES.index(piece) for piece in ("[", "sep", "]", "<", "image", ">")]
    assert ids == [len(PIECES)] * ROWS + [2, *asked, *typed]
    assert opened.network.placeholders == text.places == {"image": len(PIECES)}
    assert text.eos == {3}

    pixels = processor(images=seen, return_tensors="pt").pixel_values
    found = opened.network.towers["image"].embedding.values(given.streams["image"].values)
    torch.testing.assert_close(found.movedim(-1, 1), pixels, atol=1e-6, rtol=0)
    expected = theirs(torch.tensor([ids[ROWS:]]), pixel_values=pixels.double()).logits[:, -1]
    state = opened.network.double().eval().begin(given)
    torch.testing.assert_close(state.logits, expected, atol=1e-5, rtol=0)

    save_public(tmp_path / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert isinstance(again, GitProcessor)
    assert again(text="what is this?").input_ids == processor(text="what is this?").input_ids
    torch.testing.assert_close(again(images=seen, return_tensors="pt").pixel_values, pixels)


def test_what_is_learnt_ends_with_the_last_token(tmp_path: Path):
    words(tmp_path).save_pretrained(tmp_path)
    config(vocab_size=len(PIECES)).save_pretrained(tmp_path)
    modality = read_public(Folder(tmp_path)).modalities["text"].build()
    modality.load(tmp_path)
    sample = [
        Segment("image", None, role="user"),
        Segment("text", "What is this?", role="user"),
        Segment("text", "A cat", role="assistant", target=True),
    ]
    found = modality.compose(sample, [Medium(torch.zeros(1)), None, None])
    said = [PIECES[number] for number in found.values[ROWS:].tolist()]
    assert said == ["[CLS]", "what", "is", "this", "?", "a", "cat", "[SEP]"]
    assert found.learnt.tolist() == [False] * (ROWS + 5) + [True] * 3


@torch.no_grad()
def test_a_clip(tmp_path: Path):
    """Frames as the processor of clips gives them."""
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    changes = {"vocab_size": len(PIECES), "num_image_with_embedding": FRAMES}
    theirs = exact(reference(GitForCausalLM, config(**changes), "random"))
    theirs.save_pretrained(tmp_path / "theirs")
    words(tmp_path).save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    opened = open_public(tmp_path / "theirs")
    frames = np.stack([np.asarray(picture(60, 40, seed)) for seed in range(FRAMES)])
    messages = [
        {"role": "user", "content": [{"type": "video", "video": frames}, {"type": "text", "text": "a cat"}]}
    ]
    given = collate([conversation(messages, opened.modalities, opened.modalities["text"])], opened.modalities)
    pixels = processor(list(frames), return_tensors="pt").pixel_values.double()
    found = opened.network.towers["video"].tower.embedding.values(given.streams["video"].values)
    torch.testing.assert_close(found.movedim(-1, -3), pixels.float(), atol=1e-6, rtol=0)
    ids = given.streams["text"].values[:, ROWS * FRAMES :]
    expected = theirs(ids, pixel_values=pixels).logits[:, -1]
    state = opened.network.double().eval().begin(given)
    torch.testing.assert_close(state.logits, expected, atol=1e-5, rtol=0)

    # Pictures of CLIP's kind are prepared as frames as well, and the processor that is written is that of clips.
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "theirs")
    spec = read_public(Folder(tmp_path / "theirs"))
    assert (spec.modalities["video"].cls, spec.modalities["video"].frames) == (Video, FRAMES)
    assert public_files(git.FAMILY, spec)["preprocessor_config.json"]["image_processor_type"] == (
        "VideoMAEImageProcessor"
    )


@torch.no_grad()
def test_what_older_files_hold_beside(tmp_path: Path):
    theirs = exact(reference(GitForCausalLM, config(), "random"))
    theirs.save_pretrained(tmp_path)
    more = {
        "git.embeddings.position_ids": torch.arange(80)[None],
        "git.image_encoder.vision_model.embeddings.position_ids": torch.arange(ROWS)[None],
    }
    write_tensors(tmp_path, {name: one.clone() for name, one in theirs.state_dict().items()} | more)
    edited(tmp_path, position_embedding_type="absolute", classifier_dropout=None)
    _, ours = open_network(Folder(tmp_path), torch.float64)
    unscaled(ours.eval(), "image")
    given = batch()
    same_logits(given, ours, logits(theirs, given, "image"))


def test_refusals(tmp_path: Path):
    for name, value in (("tie_word_embeddings", True), ("position_embedding_type", "relative_key")):
        refused(
            config(), tmp_path, f"config.json: {name}: only .* is supported", CapabilityError, **{name: value}
        )
    refused(config(), tmp_path, "num_frames: unknown field", ConfigError, num_frames=3)
