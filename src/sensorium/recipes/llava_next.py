"""LLaVA-NeXT: LLaVA over pictures in tiles, which are put together again without their margins.

Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge" (LLaVA 1.6), on arXiv:2310.03744.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import UnpaddedTiles
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.unpadded import Unpadded
from ..nn.encoders.tiled import Tiled
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, same
from . import llava
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
from ._tiles import last_step
from ._trunks import system
from ._vlm import keys as vlm_keys
from ._vlm import placeholder, sections, tied

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
                        "num_attention_heads": 4, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
        "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]],
    },
    "mistral-7b": {
        "text_config": {"model_type": "mistral", "intermediate_size": 14_336, "num_key_value_heads": 8,
                        "rope_theta": 1_000_000.0, "sliding_window": None, "rms_norm_eps": 1e-5,
                        "vocab_size": 32_064},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "image_size": 336, "patch_size": 14},
    },
}  # fmt: skip
TRUNK, EYE = "llama", "clip_vision_model"
PROCESSOR = "LlavaNextImageProcessor"
RESOLUTIONS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
#: What checkpoints without a template of their own are spoken to with, by their language model; others as LLaVA 1.5.
TEMPLATES = {
    "mistral": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'system' %}<<SYS>>\n{{ message['content'][0]['text'] }}\n<</SYS>>\n\n"
        "{% else %}{% if message['role'] == 'user' %}[INST]{% endif %} "
        "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% if message['role'] == 'user' %} [/INST]{% else %}{{ eos_token }} {% endif %}{% endif %}{% endfor %}"
    )
}


def llava_next(size: str = "mistral-7b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def llava_next_network(config: Config, image: Spec, pixels: Spec) -> Spec:
    """The network of a public config, for pictures so prepared."""
    reading, step = config.section("text_config"), last_step(image)
    decoder = tied(config, part_of(reading, TRUNK).read(reading))
    reader = seen(config, config.section("vision_config"), EYE)
    if reader.leading and reader.tower.embedding.prefix:
        what = "only 'default' is supported: a class token has no place among the tiles"
        raise CapabilityError(str(config.error("vision_feature_select_strategy", what)))
    config.expect("use_image_newline_parameter", True)
    config.ignore("image_seq_length", "ignore_index", "vocab_size", "pad_token_id")
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={"image": Spec(Tiled, tower=reader.set("tower.embedding.values", pixels))},
        connectors={
            "image": Spec(
                Unpadded,
                grid=reader.tower.embedding.positions.grid,
                side=step.side,
                resolutions=step.resolutions,
                connector=projector(config, reader, decoder.trunk.width),
            )
        },
        placeholders={"image": placeholder(config, "image_token_index", "image_token_id", otherwise=32_000)},
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config = folder.config
    config.take("model_type", str)
    side = config.section("vision_config").take("image_size", int, 224, least=1)
    resolutions = config.raw.get("image_grid_pinpoints") or RESOLUTIONS
    config.ignore("image_grid_pinpoints")  # checked below, and written again
    image, pixels = picture(
        folder,
        PROCESSOR,
        {
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            "image_grid_pinpoints": resolutions,
        },
    )
    step = last_step(image)
    if (step.side, step.resolutions) != (side, resolutions):
        raise config.error(
            "image_grid_pinpoints",
            f"contradictory: tiles of {side} pixels in {resolutions} here, in the file about pictures tiles of "
            f"{step.side} in {step.resolutions}",
        )
    network = llava_next_network(config, image, pixels)
    config.finish()
    first = network.towers["image"].tower.tower.embedding
    place = Spec(
        UnpaddedTiles,
        written=IMAGE,
        token=IMAGE,
        grid=first.positions.grid,
        side=side,
        resolutions=resolutions,
    )
    kind = config.section("text_config").take("model_type", str, TRUNK)
    words = Spec(Conversation, placeholders={"image": place}, fallback=TEMPLATES.get(kind, llava.TEMPLATE))
    return system("llava_next", network, {"image": image, "text": words})


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, step = spec.model, last_step(spec.modalities["image"])
    reader, connector = network.towers["image"].tower, network.connectors["image"]
    config = sections(spec, TRUNK, EYE, reader.tower) | {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "model_type": "llava_next",
        "image_token_index": network.placeholders["image"],
        "image_seq_length": tokens(reader),
        "image_grid_pinpoints": step.resolutions,
        **seen_fields(reader),
        **projector_fields(connector.connector),
        "tie_word_embeddings": network.decoder.head is None,
    }
    config["vision_config"]["image_size"] = step.side
    return {
        "config.json": config,
        PREPROCESSOR: image_config(spec.modalities["image"], reader.tower.embedding.values, PROCESSOR),
        PROCESSOR_CONFIG: processor_config("LlavaNextProcessor", reader),
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower, the projector and the row at the end of each line."""
    reader = spec.model.towers["image"].tower
    return vlm_keys(
        spec,
        TRUNK,
        EYE,
        ("towers.image.tower.tower.", reader.tower),
        [
            same("image_newline", "connectors.image.newline"),
            *projector_keys("connectors.image.connector"),
        ],
    )


FAMILY = Family(
    name="llava_next",
    model_types=("llava_next",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="LLaVA-NeXT",
        paper="Liu et al. 2023, arXiv:2310.03744",
        licence="terms of the language model",
        preparation="the whole picture and 2 to 4 tiles of 336 pixels, up to 2,928 rows",
        examples=("llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-v1.6-vicuna-7b-hf"),
    ),
)
