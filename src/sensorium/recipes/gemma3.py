"""Gemma 3: SigLIP with its tokens averaged to 256 a picture, whose rows see each other among the words of Gemma.

Gemma team 2025, "Gemma 3 Technical Report", arXiv:2503.19786. The open kin of Gemini (Gemini team 2023,
arXiv:2312.11805). A picture is one square; crops of large ones ("pan and scan") are not here.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..modalities.geometry import Resize
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.pooled import Pooled
from ..nn.connectors.projector import Projector
from ..nn.decoders.visibility import MediaBlocks
from ..nn.layers.norms import RMSNorm
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import TRANSPOSED, KeyMap, same
from ._fresh import fresh
from ._parts import part_of
from ._shared import PREPROCESSOR, PROCESSOR_CONFIG, picture
from ._tiles import last_step
from ._trunks import system
from ._vlm import keys as vlm_keys
from ._vlm import placeholder, sections, tied

_EYE = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 896, "patch_size": 14, "vision_use_head": False}  # fmt: skip
_SCALED = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 1024}
#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6,
                        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32,
                        "query_pre_attn_scalar": 32, "sliding_window": 64, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8, "vision_use_head": False},
        "mm_tokens_per_image": 16,
    },
    "4b": {
        "text_config": {"hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34, **_SCALED},
        "vision_config": _EYE,
    },
    "12b": {
        "text_config": {"hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 48,
                        "num_attention_heads": 16, "num_key_value_heads": 8, **_SCALED},
        "vision_config": _EYE,
    },
}  # fmt: skip
TRUNK, EYE = "gemma3_text", "siglip_vision_model"
PROCESSOR = "Gemma3ImageProcessor"
#: What a template writes for a picture, what holds the place of each of its rows, and what comes after.
BEGIN, IMAGE, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
#: What a checkpoint without a template of its own is spoken to with: that of the tuned ones.
TEMPLATE = (
    "{% set told = namespace(text='') %}{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set told.text = message['content'][0]['text'] + '\n\n' %}{% else %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ told.text }}{% set told.text = '' %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def gemma3(size: str = "4b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size, special=(BEGIN, END))


def gemma3_network(config: Config, pixels: Spec | None = None) -> Spec:
    """The network of a public config."""
    reading, seeing = config.section("text_config"), config.section("vision_config")
    reading.expect("final_logit_softcapping", None)  # others read it here, and do not heed it
    decoder = tied(config, part_of(reading, TRUNK).read(reading), True)
    tower = part_of(seeing, EYE).read(seeing)
    config.ignore("boi_token_index", "boi_token_id", "eoi_token_index", "eoi_token_id", "eos_token_id")
    config.ignore("bos_token_id", "pad_token_id", "initializer_range", "vocab_size")
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={"image": tower if pixels is None else tower.set("embedding.values", pixels)},
        connectors={"image": connector(config, tower, decoder.trunk.width)},
        placeholders={"image": placeholder(config, "image_token_index", "image_token_id", otherwise=262_144)},
        visibility=Spec(MediaBlocks),
    )


def connector(config: Config, tower: Spec, width: int) -> Spec:
    """Squares of tokens averaged, normalised, and mapped to a language model of this ``width``."""
    rows, grid = config.take("mm_tokens_per_image", int, 256, least=1), tower.embedding.positions.grid
    side = math.isqrt(rows)
    if side**2 != rows or grid[0] % side:
        what = f"only squares that divide {grid[0]} x {grid[0]} patches are supported, found {rows}"
        raise CapabilityError(str(config.error("mm_tokens_per_image", what)))
    inner = tower.trunk.width
    norm = Spec(RMSNorm, width=inner, eps=tower.norm_out.eps, offset=1.0)
    projector = Spec(Projector, inner=inner, width=width, bias=False, norm=norm)
    return Spec(Pooled, grid=list(grid), kernel=grid[0] // side, projector=projector)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    side = folder.config.section("vision_config").take("image_size", int, 224, least=1)
    image, pixels = picture(folder, PROCESSOR, {"size": {"height": side, "width": side}})
    if last_step(image).cls is not Resize:
        raise CapabilityError(f"{folder.path / PREPROCESSOR}: do_pan_and_scan: only False is supported")
    network = gemma3_network(folder.config, pixels)
    folder.config.finish()
    held = Spec(
        Repeated,
        written=BEGIN,
        token=IMAGE,
        count=tokens(network),
        before=f"\n\n{BEGIN}",
        after=f"{END}\n\n",
    )
    words = Spec(Conversation, placeholders={"image": held}, fallback=TEMPLATE)
    return system("gemma3", network, {"image": image, "text": words})


def tokens(network: Spec) -> int:
    """How many rows a picture becomes."""
    connector = network.connectors["image"]
    return math.prod(connector.grid) // connector.kernel**2


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    tower = network.towers["image"]
    config = sections(spec, TRUNK, EYE, tower) | {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "image_token_index": network.placeholders["image"],
        "mm_tokens_per_image": tokens(network),
        "tie_word_embeddings": network.decoder.head is None,
    }
    return {
        "config.json": config,
        PREPROCESSOR: image_config(spec.modalities["image"], tower.embedding.values, PROCESSOR),
        PROCESSOR_CONFIG: {"processor_class": "Gemma3Processor", "image_seq_length": tokens(network)},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and what is between them."""
    own = "connectors.image.projector"
    return vlm_keys(
        spec,
        TRUNK,
        EYE,
        ("towers.image.", spec.model.towers["image"]),
        [
            same(
                "multi_modal_projector.mm_input_projection_weight",
                f"{own}.layers.0.weight",
                TRANSPOSED,
            ),
            same("multi_modal_projector.mm_soft_emb_norm.weight", f"{own}.norm.weight"),
        ],
    )


FAMILY = Family(
    name="gemma3",
    model_types=("gemma3",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="Gemma 3",
        paper="Gemma team 2025, arXiv:2503.19786",
        licence="terms of Google",
        preparation="896 x 896 bilinear, 256 rows a picture; messages by the checkpoint's own template",
        examples=("google/gemma-3-4b-it", "google/gemma-3-27b-it"),
    ),
)
