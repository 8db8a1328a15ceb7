"""PaliGemma: SigLIP, a linear map and Gemma, which reads pictures and question both ways and writes the answer.

Beyer et al. 2024, "PaliGemma: A versatile 3B VLM for transfer", arXiv:2407.07726; Steiner et al. 2024, "PaliGemma 2",
arXiv:2412.03555 (with Gemma 2). The open kin of PaLI (Chen et al. 2023, arXiv:2209.06794).
"""

from __future__ import annotations

import math
from typing import Any

from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.projector import Projector
from ..nn.decoders.visibility import FromOne, Prefix
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, layer
from ._fresh import fresh
from ._parts import part_of
from ._shared import PREPROCESSOR, PROCESSOR_CONFIG, picture
from ._trunks import system
from ._vlm import keys as vlm_keys
from ._vlm import placeholder, sections, tied
from .siglip import PROCESSOR

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
                        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8, "vision_use_head": False},
        "projection_dim": 128,
    },
    "3b-224": {
        "text_config": {"hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18,
                        "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 257_216},
        "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                          "num_attention_heads": 16, "patch_size": 14, "vision_use_head": False},
    },
}  # fmt: skip
TRUNK, EYE = "gemma", "siglip_vision_model"
IMAGE = "<image>"
#: What follows from other fields, or says how files of some age were run: that a prompt is read both ways.
LEFT = ("use_bidirectional_attention", "num_image_tokens", "projector_hidden_act")
#: How it was trained: all pictures, then what is asked, a line break, and the answer.
TEMPLATE = (
    "{% for message in messages %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}{% endfor %}"
)


def paligemma(size: str = "3b-224") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def paligemma_network(config: Config, pixels: Spec | None = None) -> Spec:
    """The network of a public config."""
    reading, seeing = config.section("text_config"), config.section("vision_config")
    decoder = tied(config, part_of(reading, TRUNK).read(reading.without(*LEFT)), True)
    tower = part_of(seeing, EYE).read(seeing)
    width = config.take("projection_dim", int, 2048, least=1)
    if width != decoder.trunk.width:
        raise config.error(
            "projection_dim", f"expected the width of the words, {decoder.trunk.width}, found {width}"
        )
    for section in (reading, seeing):
        section.ignore(*LEFT, "projection_dim", "vocab_size")
    config.ignore("hidden_size", "vocab_size", "ignore_index", "_vocab_size", "pad_token_id", "bos_token_id")
    config.ignore("eos_token_id", *LEFT)
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={"image": tower if pixels is None else tower.set("embedding.values", pixels)},
        connectors={"image": Spec(Projector, inner=tower.trunk.width, width=width)},
        placeholders={"image": placeholder(config, "image_token_index", "image_token_id", otherwise=256_000)},
        visibility=Spec(Prefix),
        positions=Spec(FromOne),
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    side = folder.config.section("vision_config").take("image_size", int, 224, least=1)
    image, pixels = picture(folder, PROCESSOR, {"size": {"height": side, "width": side}})
    network = paligemma_network(folder.config, pixels)
    folder.config.finish()
    held = Spec(Repeated, written=IMAGE, token=IMAGE, count=tokens(network.towers["image"]))
    words = Spec(Conversation, placeholders={"image": held}, fallback=TEMPLATE, begin=False)
    return system("paligemma", network, {"image": image, "text": words})


def tokens(tower: Spec) -> int:
    """How many rows a picture becomes."""
    return math.prod(tower.embedding.positions.grid)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    tower, width = network.towers["image"], network.decoder.trunk.width
    config = sections(spec, TRUNK, EYE, tower) | {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "image_token_index": network.placeholders["image"],
        "projection_dim": width,
        "hidden_size": width,
        "tie_word_embeddings": network.decoder.head is None,
    }
    prepared = image_config(spec.modalities["image"], tower.embedding.values, PROCESSOR)
    return {
        "config.json": config,
        PREPROCESSOR: prepared | {"image_seq_length": tokens(tower)},
        PROCESSOR_CONFIG: {"processor_class": "PaliGemmaProcessor"},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and the projector."""
    return vlm_keys(
        spec,
        TRUNK,
        EYE,
        ("towers.image.", spec.model.towers["image"]),
        layer("multi_modal_projector.linear", "connectors.image.layers.0"),
    )


FAMILY = Family(
    name="paligemma",
    model_types=("paligemma",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="PaliGemma, PaliGemma 2",
        paper="Beyer et al. 2024, arXiv:2407.07726; Steiner et al. 2024, arXiv:2412.03555",
        licence="terms of Google",
        preparation="224, 448 or 896 pixels square, bicubic; pictures, question, line break, answer",
        examples=("google/paligemma-3b-mix-224", "google/paligemma2-3b-mix-224"),
    ),
)
