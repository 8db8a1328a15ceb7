"""Video-LLaVA against transformers: pictures and clips among words, logits, loss, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from recipes.language import checked, real, same_logits, sequences
from recipes.parity import INITIALISATIONS, edited, reference
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from torch import Tensor
from transformers import VideoLlavaConfig, VideoLlavaForConditionalGeneration, VideoLlavaImageProcessor

from sensorium.core import CapabilityError
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.public import open_network, open_public, read_public, save_public
from sensorium.recipes import video_llava
from sensorium.recipes._llava import IMAGE
from sensorium.speaking import conversation
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

STILL, MOVING = 98, 97
VIDEO = video_llava.VIDEO


def config(vocabulary: int = 99, image: int = STILL, video: int = MOVING, **changes) -> VideoLlavaConfig:
    """A tiny one with 16 patches a picture."""
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "vocab_size": 77}  # fmt: skip
    words = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary}  # fmt: skip
    places = {"image_token_index": image, "video_token_index": video}
    return VideoLlavaConfig(vision_config=vision, text_config=words, **places, **changes)


def batch(rows: int = 16) -> Batch:
    """A picture and a clip of two frames in the first sequence, a clip in the second, nothing in the third."""
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randn(1, 32, 32, 3, generator=generator, dtype=torch.float64)
    clips = torch.randn(2, 2, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 96, (3, 60), generator=generator)
    ids[0, 2 : 2 + rows] = STILL
    ids[0, 4 + rows : 38 + rows] = ids[1, 1:35] = MOVING
    given = {"image": (pictures, [32], [0]), "video": (clips, [2, 2], [0, 1])}
    return sequences(ids, [60, 41, 7], first=rows, **given)


def media(given: Batch) -> dict[str, Tensor]:
    """All pictures and clips as the reference takes them."""
    image, video = given.streams["image"], given.streams["video"]
    pictures = {"pixel_values": image.values.movedim(-1, 1)} if len(image) else {}
    return pictures | ({"pixel_values_videos": video.values.movedim(-1, 2)} if len(video) else {})


VARIANTS = {
    "plain": {},
    "two layers": {"vision_feature_layer": [-3, -1], "vision_feature_select_strategy": "full"},
    "no bias": {
        "multimodal_projector_bias": False,
        "projector_hidden_act": "relu",
        "vision_feature_layer": 1,
    },
    "tied": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    made = config(**VARIANTS[variant])
    theirs, _, ours, again = checked(VideoLlavaForConditionalGeneration, made, initialisation, tmp_path)
    given = batch(17 if made.vision_feature_select_strategy == "full" else 16)
    words = given.streams["text"]
    for model in (theirs, again):
        mask = real(words.values, words.lengths.tolist())
        same_logits(given, ours, model(words.values, attention_mask=mask, **media(given)).logits)


def test_writing(tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(VideoLlavaForConditionalGeneration, config(), "random", tmp_path)
    written_alike(theirs, ours, batch(), media, 64)


def test_one_projector_learns_from_both(tmp_path: Path):
    reference(VideoLlavaForConditionalGeneration, config(), "random").save_pretrained(tmp_path)
    _, network = open_network(Folder(tmp_path), torch.float64)
    weight = network.connectors["image"].layers[0].weight
    assert list(network.connectors) == ["image"]
    found = []
    for name in ("image", "video"):
        network.bridge(name, batch().streams[name]).rows.sum().backward()
        found.append(weight.grad.clone())
        weight.grad = None
    assert all(bool(grad.abs().sum() > 0) for grad in found)


class VideoLlavaProcessor(transformers.VideoLlavaProcessor):
    """The reference without clips, for which it needs torchvision."""

    def check_argument_for_proper_class(self, argument_name, argument) -> type | None:
        return super().check_argument_for_proper_class(argument_name, argument) if argument else None

    def save_pretrained(self, folder: Path) -> None:
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def test_a_conversation(tmp_path: Path):
    words = tokenizer(IMAGE, VIDEO)
    prepares = VideoLlavaImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = VideoLlavaProcessor(prepares, None, words, 8, chat_template=video_llava.TEMPLATE)
    still, moving = words.convert_tokens_to_ids([IMAGE, VIDEO])
    theirs = reference(VideoLlavaForConditionalGeneration, config(len(words), still, moving), "random")
    messages = [
        message("user", picture(50, 91), picture(32, 40, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", "And this?", picture(90, 40, 2)),
    ]
    found, _, _ = read_alike(theirs, processor, messages, tmp_path / "theirs")

    # clips, for which the reference needs torchvision: the text is its own, the frames are prepared as pictures
    frames = np.stack([np.asarray(picture(40, 60, seed)) for seed in range(3)])
    clip = {
        "role": "user",
        "content": [{"type": "video", "video": frames}, {"type": "text", "text": "What?"}],
    }
    item = conversation([clip], found.modalities, found.modalities["text"])
    given = collate([item], found.modalities)
    written = processor.replace_video_token({"pixel_values_videos": torch.zeros(1, 3, 3, 32, 32)}, 0)
    text = processor.apply_chat_template([clip], add_generation_prompt=True, tokenize=False)
    ids = words(text.replace(VIDEO, written), add_special_tokens=False).input_ids
    assert given.streams["text"].values.tolist() == [ids]
    pixels = torch.from_numpy(np.stack(prepares(list(frames)).pixel_values_images)).double()
    with torch.no_grad():
        expected = theirs(torch.tensor([ids]), pixel_values_videos=pixels[None]).logits[:, -1]
        torch.testing.assert_close(found.network.begin(given).logits, expected, atol=1e-5, rtol=0)

    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", found.spec, found.network, found.modalities, "transformers")
    again = open_public(tmp_path / "ours")
    assert again.spec.modalities["video"] == found.spec.modalities["video"]
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["video_seq_length"] == 8 * 17


@torch.no_grad()
def test_names_of_transformers_5(tmp_path: Path):
    theirs = reference(VideoLlavaForConditionalGeneration, config(), "random")
    theirs.save_pretrained(tmp_path)
    write_tensors(tmp_path, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    assert "model.image_tower.embeddings.class_embedding" in theirs.state_dict()
    _, ours = open_network(Folder(tmp_path), torch.float64)
    given = batch()
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    same_logits(given, ours.eval(), theirs(words.values, attention_mask=mask, **media(given)).logits)


def test_refusals(tmp_path: Path):
    config().save_pretrained(tmp_path)
    edited(tmp_path, vision_config={"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8})
    with pytest.raises(CapabilityError, match="'default' leaves out the first patch of a tower without"):
        read_public(Folder(tmp_path))
