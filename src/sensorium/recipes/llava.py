"""LLaVA: an image encoder, a small projector, and a language model that reads pictures among its words.

Liu et al. 2023, "Visual Instruction Tuning", arXiv:2304.08485 (a linear projector); Liu et al. 2023, "Improved
Baselines with Visual Instruction Tuning", arXiv:2310.03744 (1.5, two layers).
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap
from ._fresh import fresh
from ._llava import (
    IMAGE,
    processor_config,
    projector,
    projector_fields,
    projector_keys,
    seen,
    seen_fields,
    tokens,
)
from ._parts import part_of
from ._shared import PREPROCESSOR, PROCESSOR_CONFIG, picture
from ._trunks import system
from ._vlm import keys as vlm_keys
from ._vlm import placeholder, sections, tied

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
                        "num_attention_heads": 4, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
    },
    "7b": {
        "text_config": {"vocab_size": 32_064, "rms_norm_eps": 1e-5},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "image_size": 336, "patch_size": 14},
    },
}  # fmt: skip
TRUNK, EYE = "llama", "clip_vision_model"
PROCESSOR = "CLIPImageProcessor"
#: What a checkpoint without a template of its own is spoken to with: that of Vicuna, with which LLaVA 1.5 was trained.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def llava(size: str = "7b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def llava_network(config: Config, pixels: Spec | None = None) -> Spec:
    """The network of a public config."""
    reading = config.section("text_config")
    decoder = tied(config, part_of(reading, TRUNK).read(reading))
    reader = seen(config, config.section("vision_config"), EYE)
    config.ignore("image_seq_length", "ignore_index", "vocab_size", "pad_token_id")
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={"image": reader if pixels is None else reader.set("tower.embedding.values", pixels)},
        connectors={"image": projector(config, reader, decoder.trunk.width)},
        placeholders={"image": placeholder(config, "image_token_index", "image_token_id", otherwise=32_000)},
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    side = folder.config.section("vision_config").take("image_size", int, 336, least=1)
    usual = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    image, pixels = picture(folder, PROCESSOR, usual)
    network = llava_network(folder.config, pixels)
    folder.config.finish()
    held = Spec(Repeated, written=IMAGE, token=IMAGE, count=tokens(network.towers["image"]))
    words = Spec(Conversation, placeholders={"image": held}, fallback=TEMPLATE)
    return system("llava", network, {"image": image, "text": words})


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    tower, connector = network.towers["image"], network.connectors["image"]
    config = sections(spec, TRUNK, EYE, tower.tower) | {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": network.placeholders["image"],
        "image_seq_length": tokens(tower),
        **seen_fields(tower),
        **projector_fields(connector),
        "tie_word_embeddings": network.decoder.head is None,
    }
    prepared = image_config(spec.modalities["image"], tower.tower.embedding.values, PROCESSOR)
    return {
        "config.json": config,
        PREPROCESSOR: prepared,
        PROCESSOR_CONFIG: processor_config("LlavaProcessor", tower),
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and the projector."""
    return vlm_keys(
        spec,
        TRUNK,
        EYE,
        ("towers.image.tower.", spec.model.towers["image"].tower),
        projector_keys("connectors.image"),
    )


FAMILY = Family(
    name="llava",
    model_types=("llava",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="LLaVA 1.5",
        paper="Liu et al. 2023, arXiv:2304.08485; Liu et al. 2023, arXiv:2310.03744",
        licence="terms of the language model",
        preparation="336 x 336 bicubic, 576 rows a picture; messages by the checkpoint's own template",
        examples=("llava-hf/llava-1.5-7b-hf",),
    ),
)
