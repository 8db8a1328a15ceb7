"""InternVL: tiles of pictures and frames of clips through InternViT, four neighbours folded into one token, and Qwen.

Chen et al. 2024, "How Far Are We to GPT-4V?", arXiv:2404.16821 (1.5, tiles); Zhu et al. 2025, "InternVL3",
arXiv:2504.10479. With a Qwen3 mixture of experts it is the shape of Intern-S1 (Bai et al. 2025, arXiv:2508.15763),
without its series: the files of that model have other names, which are not read here.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import CapabilityError, CheckpointError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Numbered, PerPiece
from ..modalities.geometry import RESAMPLE
from ..modalities.public_clips import clip_config
from ..modalities.public_images import image_config
from ..modalities.tiles import AspectGrid
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.architectures.same import Same
from ..nn.connectors.projector import Projector
from ..nn.connectors.unshuffled import Unshuffled
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.tiled import Tiled
from ..nn.layers.norms import LayerNorm
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, layer, under
from ..weights.tensors import open_tensors
from ._fresh import fresh
from ._internvit import EYE
from ._parts import part_in, part_of
from ._shared import CLIP_PREPROCESSOR, PREPROCESSOR, PROCESSOR_CONFIG, clip, picture
from ._tiles import last_step
from ._trunks import system
from ._vit import sides
from ._vlm import SPELLINGS, placeholder, sections, tied

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
                        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": [32, 32], "patch_size": [8, 8]},
    },
    "1b": {
        "text_config": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                        "num_attention_heads": 14, "num_key_value_heads": 2, "rope_theta": 1_000_000.0,
                        "vocab_size": 151_674},
        "vision_config": {"attention_bias": True},
    },
}  # fmt: skip
TRUNK = "qwen2"
PROCESSOR = "GotOcr2ImageProcessor"
CLIP_PROCESSOR = "InternVLVideoProcessor"
IMAGE, BEFORE, AFTER = "<IMG_CONTEXT>", "<img>", "</img>"
VIDEO, FRAME = "<video>", "Frame{piece}: <img>"
#: What public checkpoints have in the file about pictures.
USUAL = {
    "crop_to_patches": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
#: What a checkpoint without a template of its own is spoken to with: that of its language model, with media.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def internvl(size: str = "1b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size, special=[BEFORE, AFTER])


def internvl_network(config: Config, image: Spec, pixels: Spec, *, headed: bool) -> Spec:
    """The network of a public config, for pictures so prepared; ``headed`` says whether the files hold a head, where
    the config does not.
    """
    reading, seeing = config.section("text_config"), config.section("vision_config")
    said = "tie_word_embeddings" in reading
    tower = part_of(seeing, EYE).read(seeing).set("embedding.values", pixels)
    decoder = part_of(reading, TRUNK).read(reading)
    decoder = tied(config, decoder, not (said or headed))
    config.expect("vision_feature_select_strategy", "default")
    ratio = config.take("downsample_ratio", float, 0.5)
    if not 0 < ratio <= 1 or (1 / ratio) % 1:
        raise config.error("downsample_ratio", f"expected one over a whole number, found {ratio}")
    config.ignore("image_seq_length")
    factor, step = int(1 / ratio), last_step(image)
    inner = tower.trunk.width * factor**2
    place = placeholder(config, "image_token_id", otherwise=151_667)
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={
            "image": Spec(
                Tiled,
                tower=Spec(LayerFeatures, tower=tower, layers=[config.take("vision_feature_layer", int, -1)]),
            ),
            "video": Spec(Same, of="image"),
        },
        connectors={
            "image": Spec(
                Unshuffled,
                grid=[
                    side // patch
                    for side, patch in zip((step.height, step.width), tower.embedding.patch, strict=True)
                ],
                factor=factor,
                projector=Spec(
                    Projector,
                    inner=inner,
                    width=decoder.trunk.width,
                    depth=2,
                    activation=config.take("projector_hidden_act", str, "gelu"),
                    norm=Spec(LayerNorm, width=inner),
                ),
            ),
            "video": Spec(Same, of="image"),
        },
        placeholders={"image": place, "video": place},
    )


def has_head(folder: Folder) -> bool:
    """Whether the files of a checkpoint, if it has any, hold a head apart from the table of words."""
    try:
        names = open_tensors(folder.path)
    except CheckpointError:
        return False
    return any(name.endswith("lm_head.weight") for name in names)


def tokens(network: Spec) -> int:
    """How many rows a tile becomes."""
    connector = network.connectors["image"]
    return math.prod(connector.grid) // connector.factor**2


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    folder.config.take("model_type", str)
    height, width = sides(folder.config.section("vision_config"), "image_size", 448)
    usual = USUAL | {"size": {"height": height, "width": width}}
    image, pixels = picture(folder, PROCESSOR, usual)
    image = in_tiles(image)
    video = clips(folder, image, pixels)
    network = internvl_network(folder.config, image, pixels, headed=has_head(folder))
    folder.config.finish()
    count = tokens(network)
    places = {
        "image": Spec(PerPiece, written=IMAGE, token=IMAGE, count=count, before=BEFORE, after=AFTER),
        "video": Spec(Numbered, written=VIDEO, token=IMAGE, count=count, before=FRAME, after=AFTER),
    }
    words = Spec(Conversation, placeholders=places, fallback=TEMPLATE)
    return system("internvl", network, {"image": image, "video": video, "text": words})


def in_tiles(image: Spec) -> Spec:
    """Pictures that are not divided as one tile each."""
    step = last_step(image)
    if step.cls is AspectGrid:
        return image
    one = Spec(AspectGrid, height=step.height, width=step.width, most=1, resample=step.resample)
    return image.replace(geometry=[one])


def clips(folder: Folder, image: Spec, pixels: Spec) -> Spec:
    """How clips are prepared, whose frames are read as the tiles of pictures are. Raises CapabilityError for others."""
    step = last_step(image)
    size = {"height": step.height, "width": step.width}
    usual = {
        "size": size,
        "image_mean": pixels.mean,
        "image_std": pixels.std,
        "resample": RESAMPLE.index(step.resample),
    }
    video, moving = clip(folder, CLIP_PROCESSOR, usual)
    frame = last_step(video)
    if moving != pixels or (frame.height, frame.width) != (step.height, step.width):
        raise CapabilityError(
            f"{folder.path / CLIP_PREPROCESSOR}: only frames that are prepared as the tiles of pictures are supported: "
            f"{size} and {pixels}, found {frame} and {moving}"
        )
    return video


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    seen, connector = network.towers["image"].tower, network.connectors["image"]
    config = sections(spec, TRUNK, EYE, seen.tower) | {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "image_token_id": network.placeholders["image"],
        "image_seq_length": tokens(network),
        "downsample_ratio": 1 / connector.factor,
        "projector_hidden_act": connector.projector.activation,
        "vision_feature_layer": seen.layers[0],
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": network.decoder.head is None,
    }
    pixels = seen.tower.embedding.values
    return {
        "config.json": config,
        PREPROCESSOR: image_config(spec.modalities["image"], pixels, PROCESSOR),
        CLIP_PREPROCESSOR: clip_config(spec.modalities["video"], pixels),
        PROCESSOR_CONFIG: {"processor_class": "InternVLProcessor", "image_seq_length": tokens(network)},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and the projector."""
    tower = spec.model.towers["image"].tower.tower
    trunk = part_in(spec, "text_config", TRUNK).keys(spec.model.decoder)
    return KeyMap(
        [
            *under("language_model.", "decoder.", trunk),
            *under(
                "vision_tower.", "towers.image.tower.tower.", part_in(spec, "vision_config", EYE).keys(tower)
            ),
            *layer("multi_modal_projector.layer_norm", "connectors.image.projector.norm"),
            *layer("multi_modal_projector.linear_1", "connectors.image.projector.layers.0"),
            *layer("multi_modal_projector.linear_2", "connectors.image.projector.layers.1"),
        ],
        SPELLINGS,
    )


FAMILY = Family(
    name="internvl",
    model_types=("internvl",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="InternVL",
        paper="Chen et al. 2024, arXiv:2404.16821; Zhu et al. 2025, arXiv:2504.10479",
        licence="MIT; the language model by its own terms",
        preparation="1 to 12 tiles of 448 pixels and the whole picture, 256 rows each",
        examples=("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3_5-1B-HF"),
    ),
)
