"""Idefics3 and SmolVLM: pictures in tiles through SigLIP, neighbouring tokens folded into one, and LLaMA.

Laurençon et al. 2024, "Building and better understanding vision-language models", arXiv:2408.12637; SmolVLM: Marafioti
et al. 2025, "SmolVLM: Redefining small and efficient multimodal models", arXiv:2504.05299.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import TileGrid
from ..modalities.public_images import image_config
from ..modalities.tiles import EdgeGrid
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.projector import Projector
from ..nn.connectors.unshuffled import Unshuffled
from ..nn.encoders.tiled import Tiled
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, same, under
from . import siglip
from ._fresh import fresh
from ._parts import Part, part_in, part_of
from ._shared import PREPROCESSOR, PROCESSOR_CONFIG, picture
from ._tiles import last_step
from ._trunks import system
from ._vlm import placeholder, renamed, sections, tied

#: The public config of each size; of SmolVLM, that of 256 million.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
                        "num_attention_heads": 4, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
    },
    "256m": {
        "text_config": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                        "num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100_000.0,
                        "rms_norm_eps": 1e-5, "vocab_size": 49_280},
        "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                          "num_attention_heads": 12, "image_size": 512, "patch_size": 16},
        "scale_factor": 4,
    },
}  # fmt: skip
TRUNK, EYE = "llama", "idefics3_vision"
#: What transformers calls each of the two.
NAMES = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}
IMAGE, BORDER, WHOLE, PLACE = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<row_{row}_col_{column}>",
)
#: What the training of these models left in their configs.
LEFT = (
    "_flash_attn_2_enabled", "is_llama_config", "neftune_noise_alpha", "perceiver_config", "pixel_shuffle_factor",
    "transformers.js_config", "use_reentrant_checkpointing",
)  # fmt: skip
#: What a checkpoint without a template of its own is spoken to with, as both were trained.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% if message['content'][0]['type'] != 'image' %} {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def idefics3(size: str = "256m") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size, special=[BORDER, WHOLE])


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``: that of SigLIP without its head."""
    tower = siglip.headless(config, width=1152, patch=32, heads=16)
    config.ignore("size", "max_image_size", "use_base_siglip", "tie_word_embeddings", "initializer_range")
    side = tower.embedding.positions.grid[0]
    if counted(side) != list(range(side)):
        what = f"of {side} x {side} patches some would have the place of others: that is not built"
        raise CapabilityError(str(config.error("image_size", what)))
    return tower


def counted(side: int) -> list[int]:
    """Which place of so many each has by the count of transformers, in shares of the side and single precision."""
    edges = torch.arange(1 / side, 1.0, 1 / side)
    shares = (torch.arange(side) * (torch.tensor(1.0) / side)).clamp(max=1 - 1e-6)
    return torch.bucketize(shares, edges, right=True).tolist()


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    fields = siglip.KIN.vision_config(tower)
    del fields["vision_use_head"]
    return fields | {"model_type": EYE}


#: The image tower, by the names that files of several ages have for it.
VISION = Part((EYE, "smolvlm_vision", *NAMES), vision, vision_fields, siglip.vision_keys)


def reader(image: Spec, tower: Spec) -> Spec:
    """What reads pictures so prepared with ``tower``: tile by tile, if they are divided."""
    return Spec(Tiled, tower=tower) if last_step(image).cls is EdgeGrid else tower


def held(reader: Spec, name: str) -> tuple[str, Spec]:
    """The tower of a reader, after its own name in the network, of which ``name`` is the reader's."""
    return (f"{name}tower.", reader.tower) if reader.cls is Tiled else (name, reader)


def idefics3_network(config: Config, image: Spec, pixels: Spec) -> Spec:
    """The network of a public config, for pictures so prepared."""
    reading, seeing = config.section("text_config"), config.section("vision_config")
    tower = part_of(seeing, EYE).read(seeing)
    decoder = tied(config, part_of(reading, TRUNK).read(reading))
    reading.expect("use_resampler", False)
    reading.expect("qk_layer_norms", False)
    reading.expect("rope_interleaved", False)
    reading.ignore(*LEFT)
    config.ignore(*LEFT, "image_seq_len", "vocab_size", "pad_token_id", "_pad_token_id", "use_cache")
    factor = config.take("scale_factor", int, 2, least=1)
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={"image": reader(image, tower.set("embedding.values", pixels))},
        connectors={
            "image": Spec(
                Unshuffled,
                grid=tower.embedding.positions.grid,
                factor=factor,
                projector=Spec(
                    Projector, inner=tower.trunk.width * factor**2, width=decoder.trunk.width, bias=False
                ),
            )
        },
        placeholders={"image": placeholder(config, "image_token_id", otherwise=128_257)},
    )


def tokens(network: Spec) -> int:
    """How many rows a tile becomes."""
    connector = network.connectors["image"]
    return math.prod(connector.grid) // connector.factor**2


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config = folder.config
    kind = config.take("model_type", str, among=NAMES)
    config.ignore("model_type")  # kept, and written again
    side = config.section("vision_config").take("image_size", int, 224, least=1)
    usual = {"size": {"longest_edge": 4 * side}, "max_image_size": {"longest_edge": side}}
    image, pixels = picture(folder, f"{NAMES[kind]}ImageProcessor", usual)
    network = idefics3_network(config, image, pixels)
    config.finish()
    check_tile(folder, image, held(network.towers["image"], "")[1])
    place = Spec(
        TileGrid,
        written=IMAGE,
        token=IMAGE,
        count=tokens(network),
        border=BORDER,
        place=PLACE,
        whole=WHOLE,
    )
    words = Spec(Conversation, placeholders={"image": place}, fallback=TEMPLATE)
    return system("idefics3", network, {"image": image, "text": words})


def check_tile(folder: Folder, image: Spec, tower: Spec) -> None:
    """Raise CapabilityError for tiles of another size than the table of positions."""
    step, first = last_step(image), tower.embedding
    side = step.side if step.cls is EdgeGrid else step.height
    if [side // first.patch[0]] * 2 != list(first.positions.grid):
        raise CapabilityError(
            f"{folder.path / PREPROCESSOR}: max_image_size: only that of the model's image_size is supported, "
            f"{first.positions.grid[0]} patches of {first.patch[0]} pixels, found {side} pixels"
        )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, image = spec.model, spec.modalities["image"]
    kind = (spec.public or {}).get("model_type", "idefics3")
    _, tower = held(network.towers["image"], "")
    config = sections(spec, TRUNK, EYE, tower) | {
        "architectures": [f"{NAMES[kind]}ForConditionalGeneration"],
        "model_type": kind,
        "image_token_id": network.placeholders["image"],
        "scale_factor": network.connectors["image"].factor,
        "tie_word_embeddings": network.decoder.head is None,
    }
    step = last_step(image)
    config["vision_config"] |= {
        "model_type": f"{kind}_vision",
        "image_size": step.side if step.cls is EdgeGrid else step.height,
    }
    return {
        "config.json": config,
        PREPROCESSOR: image_config(image, tower.embedding.values, f"{NAMES[kind]}ImageProcessor"),
        PROCESSOR_CONFIG: {"processor_class": f"{NAMES[kind]}Processor", "image_seq_len": tokens(network)},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and the projector."""
    name, tower = held(spec.model.towers["image"], "towers.image.")
    trunk = part_in(spec, "text_config", TRUNK).keys(spec.model.decoder)
    return KeyMap(
        [
            *renamed("model.", "model.text_model.", under("", "decoder.", trunk)),
            *under("model.vision_model.", name, part_in(spec, "vision_config", EYE).keys(tower)),
            same(
                "model.connector.modality_projection.proj.weight",
                "connectors.image.projector.layers.0.weight",
            ),
        ]
    )


FAMILY = Family(
    name="idefics3",
    model_types=tuple(NAMES),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="Idefics3, SmolVLM",
        paper="Laurençon et al. 2024, arXiv:2408.12637; Marafioti et al. 2025, arXiv:2504.05299",
        licence="Apache 2.0",
        preparation="tiles of 364 or 512 pixels and the whole picture, 64 to 169 rows each",
        examples=("HuggingFaceTB/SmolVLM-256M-Instruct", "HuggingFaceM4/Idefics3-8B-Llama3"),
    ),
)
