"""Video-LLaVA: pictures and clips through towers of their own, and one projector for both.

Lin et al. 2023, "Video-LLaVA: Learning United Visual Representation by Alignment Before Projection", arXiv:2311.10122.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import PerPiece, Repeated
from ..modalities.public_clips import clip_config
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.architectures.same import Same
from ..nn.encoders.tiled import Tiled
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, under
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
from ._parts import part_in, part_of
from ._shared import CLIP_PREPROCESSOR, PREPROCESSOR, PROCESSOR_CONFIG, clip, picture
from ._trunks import system
from ._vlm import INNER, SPELLINGS, placeholder, sections, tied

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
                        "num_attention_heads": 4, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 16},
    },
    "7b": {
        "text_config": {"vocab_size": 32_064, "rms_norm_eps": 1e-5},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "patch_size": 14},
    },
}  # fmt: skip
TRUNK, EYE = "llama", "clip_vision_model"
PROCESSOR, CLIP_PROCESSOR = "VideoLlavaImageProcessor", "VideoLlavaVideoProcessor"
VIDEO = "<video>"
#: What a checkpoint without a template of its own is spoken to with, as it was trained.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] if part['type'] != 'text' %}<{{ part['type'] }}>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def video_llava(size: str = "7b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def video_llava_network(config: Config, pixels: Spec, moving: Spec) -> Spec:
    """The network of a public config. Both arguments bring bytes into the range that it expects: of pictures, of
    clips.
    """
    reading = config.section("text_config")
    decoder = tied(config, part_of(reading, TRUNK).read(reading))
    reader = seen(config, config.section("vision_config"), EYE)
    frame = reader.replace(leading=True)  # of frames the class token is kept
    config.ignore("image_seq_length", "video_seq_length", "ignore_index", "vocab_size", "pad_token_id")
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={
            "image": reader.set("tower.embedding.values", pixels),
            "video": Spec(Tiled, tower=frame.set("tower.embedding.values", moving)),
        },
        connectors={
            "image": projector(config, reader, decoder.trunk.width),
            "video": Spec(Same, of="image"),
        },
        placeholders={
            "image": placeholder(config, "image_token_index", "image_token_id", otherwise=32_000),
            "video": placeholder(config, "video_token_index", "video_token_id", otherwise=32_001),
        },
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    folder.config.take("model_type", str)
    side = folder.config.section("vision_config").take("image_size", int, 224, least=1)
    usual = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    image, pixels = picture(folder, PROCESSOR, usual)
    video, moving = clip(folder, CLIP_PROCESSOR, usual, alike=True)
    network = video_llava_network(folder.config, pixels, moving)
    folder.config.finish()
    places = {
        "image": Spec(Repeated, written=IMAGE, token=IMAGE, count=tokens(network.towers["image"])),
        "video": Spec(PerPiece, written=VIDEO, token=VIDEO, count=tokens(network.towers["video"].tower)),
    }
    words = Spec(Conversation, placeholders=places, fallback=TEMPLATE)
    return system("video_llava", network, {"image": image, "video": video, "text": words})


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, video = spec.model, spec.modalities["video"]
    reader, frame = network.towers["image"], network.towers["video"].tower
    frames = video.frames if video.sampling is None else video.sampling.frames
    config = sections(spec, TRUNK, EYE, reader.tower) | {
        "architectures": ["VideoLlavaForConditionalGeneration"],
        "model_type": "video_llava",
        "image_token_index": network.placeholders["image"],
        "video_token_index": network.placeholders["video"],
        "image_seq_length": tokens(reader),
        "video_seq_length": frames * tokens(frame),
        **seen_fields(reader),
        **projector_fields(network.connectors["image"]),
        "tie_word_embeddings": network.decoder.head is None,
    }
    return {
        "config.json": config,
        PREPROCESSOR: image_config(spec.modalities["image"], reader.tower.embedding.values, PROCESSOR),
        CLIP_PREPROCESSOR: clip_config(video, frame.tower.embedding.values),
        PROCESSOR_CONFIG: processor_config("VideoLlavaProcessor", reader) | {"video_token": VIDEO},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, both towers and the projector."""
    reader, frame = spec.model.towers["image"], spec.model.towers["video"].tower
    eye, trunk = part_in(spec, "vision_config", EYE), part_in(spec, "text_config", TRUNK)
    return KeyMap(
        [
            *under("language_model.", "decoder.", trunk.keys(spec.model.decoder)),
            *under("image_tower.vision_model.", "towers.image.tower.", eye.keys(reader.tower)),
            *under("video_tower.vision_model.", "towers.video.tower.tower.", eye.keys(frame.tower)),
            *projector_keys("connectors.image"),
        ],
        [*SPELLINGS, INNER],
    )


FAMILY = Family(
    name="video_llava",
    model_types=("video_llava",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="Video-LLaVA",
        paper="Lin et al. 2023, arXiv:2311.10122",
        licence="Apache 2.0; the language model by its own terms",
        preparation="224 x 224 bicubic; 256 rows a picture, 8 frames of 257 a clip",
        examples=("LanguageBind/Video-LLaVA-7B-hf",),
    ),
)
