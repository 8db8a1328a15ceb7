"""What the pages of Qwen2-VL and Qwen2.5-VL share: their language model, what is around the blocks of their tower, and
their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import MergedGrid
from ..modalities.merged_patches import MergedPatches
from ..modalities.public_clips import clip_config
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.architectures.same import Same
from ..nn.connectors.merged import Merged
from ..nn.connectors.projector import Projector
from ..nn.decoders.grid_positions import GridPositions
from ..nn.encoders.merged_tower import MergedTower, PatchEmbedding
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.rotary import Rotary
from ..nn.layers.rotary_sections import Chunked
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, convolution, layer, same, under
from ._layers import layer_types, layers, windowed
from ._parts import Part, part_of
from ._qwen import upper, window, window_fields
from ._rope import rotary
from ._shared import CLIP_PREPROCESSOR, PREPROCESSOR, PROCESSOR_CONFIG, clip, picture
from ._tiles import last_step
from ._trunks import gated, gated_fields, gated_keys, language_model, system
from ._vlm import placeholder, tied

PROCESSOR, CLIP_PROCESSOR = "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
#: What a checkpoint without a template of its own is spoken to with, as both were trained.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: What a config of the language model may leave out.
USUAL = {"hidden_size": 8192, "intermediate_size": 29_568, "num_hidden_layers": 80, "num_attention_heads": 64,
         "num_key_value_heads": 8, "vocab_size": 152_064, "rms_norm_eps": 1e-5, "max_window_layers": 80}  # fmt: skip
#: Tokens that the vocabulary knows.
TOKENS = ("vision_start_token_id", "vision_end_token_id", "vision_token_id")
#: What files of some versions say twice, and must say alike: of the language model, in its section and outside.
TWICE = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "rms_norm_eps", "vocab_size", "rope_theta",
)  # fmt: skip
#: What they say twice and in two ways.
ANYHOW = (
    "attention_dropout", "bos_token_id", "eos_token_id", "initializer_range", "layer_types",
    "max_position_embeddings", "max_window_layers",
    "pad_token_id", "rope_parameters", "rope_scaling", "sliding_window", "use_sliding_window",
)  # fmt: skip
#: Of the norms of both towers, and of that of the connector.
EPS = 1e-6
_BASE = 10_000.0


def trunk(model_type: str) -> Part:
    """The language model: that of Qwen2, whose tokens stand in time, rows and columns."""

    def fields(decoder: Spec) -> dict[str, Any]:
        found = gated_fields(decoder) | window_fields(decoder.trunk) | {"model_type": model_type}
        del found["head_dim"]  # it follows
        return found

    return Part((model_type,), _decoder, fields, gated_keys)


def _decoder(config: Config) -> Spec:
    config.assume(USUAL)
    read = gated(config, biases="qkv", turned=partial(rotary, base=1_000_000.0))
    attention = read.block.attention
    config.expect("head_dim", read.width // attention.heads, None)
    sections = attention.rotary.sections
    if sections is None or sections.cls is not Chunked or len(sections.sizes) != 3:
        raise config.error("rope_scaling", "expected the mrope_section of time, rows and columns, one by one")
    size = window(config)
    read = windowed(read, layer_types(config, upper(config, size, read.depth), size), size)
    config.ignore(*TOKENS)
    return language_model(config, read, layers(read)[0].norm, tied=False)


def tower(
    config: Config,
    *,
    width: int,
    norm: Spec,
    feed_forward: Spec,
    side: int | None = None,
    whole: Sequence[int] = (),
) -> Spec:
    """The tower of a public ``vision_config``, by what its blocks are made of; ``side`` of windows is in pixels."""
    for name in ("in_channels", "in_chans"):
        config.expect(name, 3)
    patch = config.take("patch_size", int, 14, least=1)
    config.expect("spatial_patch_size", patch)
    config.ignore("initializer_range")
    merge = config.take("spatial_merge_size", int, 2, least=1)
    heads = config.take("num_heads", int, 16, least=1)
    turning = config.section("rope_parameters")
    turning.expect("rope_type", "axial")
    base = turning.take("rope_theta", float, _BASE, least=1)
    block = Spec(
        PreNorm,
        norm=norm,
        attention=Spec(
            SelfAttention,
            width=width,
            heads=heads,
            rotary=Spec(Rotary, turned=width // heads, base=base, axes=2),
        ),
        feed_forward=feed_forward,
    )
    return Spec(
        MergedTower,
        embedding=Spec(
            PatchEmbedding,
            patch=patch,
            frames=config.take("temporal_patch_size", int, 2, least=1),
            channels=3,
            width=width,
        ),
        trunk=Spec(Transformer, width=width, depth=config.take("depth", int, 32, least=1), block=block),
        pool=Spec(Pool, width=width, select=Spec(MeanToken)),
        merge=merge,
        window=None if side is None else side // merge // patch * merge,
        whole=list(whole),
    )


def tower_fields(tower: Spec) -> dict[str, Any]:
    """The fields of a ``vision_config`` that ``tower`` reads."""
    attention = tower.trunk.block.attention
    fields = {
        "depth": tower.trunk.depth,
        "hidden_act": tower.trunk.block.feed_forward.activation,
        "num_heads": attention.heads,
        "in_channels": 3,
        "patch_size": tower.embedding.patch,
        "spatial_merge_size": tower.merge,
        "temporal_patch_size": tower.embedding.frames,
    }
    if attention.rotary.base != _BASE:
        fields["rope_parameters"] = {"rope_type": "axial", "rope_theta": attention.rotary.base}
    return fields


def tower_keys(tower: Spec, feed_forward: list[AnyRule]) -> list[AnyRule]:
    """The names of a tower, by those of the feed-forward of its blocks."""
    first = tower.embedding
    cut = convolution(first.frames, first.patch, first.patch)
    block = [
        *layer("norm1", "norm_attention"),
        *layer("attn.qkv", "attention.qkv"),
        *layer("attn.proj", "attention.out"),
        *layer("norm2", "norm_feed_forward"),
        *under("mlp.", "feed_forward.", feed_forward),
    ]
    return [
        same("patch_embed.proj.weight", "embedding.project.weight", cut),
        *under("blocks.{i}.", "trunk.blocks.{i}.", block),
    ]


@dataclass(frozen=True)
class Kin:
    """One of the two: what transformers calls its classes; the field with the width of the rows that its tower gives to
    the language model; and how many places a second of a clip is if its config does not say (None: time is counted).
    """

    name: str
    called: str
    trunk: Part
    vision: Part
    out: str
    rate: int | None = None

    def family(self, card: Card) -> Family:
        return Family(
            name=self.name,
            model_types=(self.name,),
            read=self.read,
            write=self.write,
            keys=self.keys,
            card=card,
        )

    def network(self, config: Config) -> Spec:
        """The network of a public config, for numbers that are in its range."""
        decoder = self._words(config)
        seeing = config.section("vision_config")
        seen = part_of(seeing, self.vision.model_types[0]).read(seeing)
        inner = seen.trunk.width * seen.merge**2
        projector = Spec(
            Projector,
            inner=inner,
            hidden=inner,
            width=seeing.take(self.out, int, 3584, least=1),
            depth=2,
        )
        rate = None if self.rate is None else seeing.take("tokens_per_second", int, self.rate, least=1)
        config.ignore(*TOKENS)
        return Spec(
            MultimodalLM,
            language="text",
            decoder=decoder,
            towers={"image": seen, "video": Spec(Same, of="image")},
            connectors={
                "image": Spec(
                    Merged,
                    factor=seen.merge,
                    norm=seen.trunk.block.norm,
                    projector=projector,
                    together=True,
                ),
                "video": Spec(Same, of="image"),
            },
            placeholders={
                "image": placeholder(config, "image_token_id", otherwise=151_655),
                "video": placeholder(config, "video_token_id", otherwise=151_656),
            },
            positions=Spec(GridPositions, merge=seen.merge, rate=rate),
        )

    def _words(self, config: Config) -> Spec:
        """The language model, of which published files speak in the whole config, newer ones in a section."""
        if "text_config" not in config:
            config.ignore("text_config")
            return self.trunk.read(config)
        reading = config.section("text_config")
        decoder = part_of(reading, self.trunk.model_types[0]).read(reading)
        reading.expect("vision_config", None)
        reading.expect("image_token_id", None, config.raw.get("image_token_id"))
        reading.expect("video_token_id", None, config.raw.get("video_token_id"))
        for name in TWICE:
            config.expect(name, reading.raw.get(name))
        for name in ANYHOW:
            config.take(name, object, None)  # the section decides, and is written again
        return tied(config, decoder)

    def read(self, folder: Folder) -> Spec:
        """The System of a public checkpoint."""
        folder.config.take("model_type", str)
        network = self.network(folder.config)
        folder.config.finish()
        seen = network.towers["image"]
        usual = {
            "patch_size": seen.embedding.patch,
            "merge_size": seen.merge,
            "temporal_patch_size": seen.embedding.frames,
        }
        image, pixels = picture(folder, PROCESSOR, usual)
        video, moving = clip(folder, CLIP_PROCESSOR, usual)
        if moving != pixels:
            raise CapabilityError(
                f"{folder.path / CLIP_PREPROCESSOR}: one tower reads pictures and clips: only numbers in the range "
                f"of {PREPROCESSOR} are supported, {pixels}, found {moving}"
            )
        network = network.replace(towers=network.towers | {"image": seen.set("embedding.values", pixels)})
        for prepared, file in ((image, PREPROCESSOR), (video, CLIP_PREPROCESSOR)):
            self._check_patches(folder, file, last_step(prepared), seen)
        if network.positions.rate is not None:
            video = video.replace(geometry=[last_step(video).replace(timed=True)])
        places = {
            name: Spec(MergedGrid, written=written, token=written, merge=seen.merge)
            for name, written in (("image", IMAGE), ("video", VIDEO))
        }
        words = Spec(Conversation, placeholders=places, fallback=TEMPLATE)
        return system(self.name, network, {"image": image, "video": video, "text": words})

    def _check_patches(self, folder: Folder, file: str, step: Spec, seen: Spec) -> None:
        """Raise CapabilityError for patches that are not those of the tower."""
        wanted = {"patch": seen.embedding.patch, "merge": seen.merge, "frames": seen.embedding.frames}
        if step.cls is not MergedPatches or any(
            getattr(step, name) != number for name, number in wanted.items()
        ):
            raise CapabilityError(
                f"{folder.path / file}: only patches of {wanted} are supported, found {step}"
            )

    def write(self, spec: Spec) -> dict[str, dict[str, Any]]:
        """The files beside the tensors, as others read them."""
        network = spec.model
        seen, values = network.towers["image"], network.towers["image"].embedding.values
        words = self.trunk.write(network.decoder)
        seeing = self.vision.write(seen) | {self.out: network.connectors["image"].projector.width}
        if network.positions.rate is not None:
            seeing["tokens_per_second"] = network.positions.rate
        config = ({"text_config": words} if "text_config" in (spec.public or {}) else words) | {
            "architectures": [f"{self.called}ForConditionalGeneration"],
            "model_type": self.name,
            "vision_config": seeing,
            "image_token_id": network.placeholders["image"],
            "video_token_id": network.placeholders["video"],
            "tie_word_embeddings": network.decoder.head is None,
        }
        return {
            "config.json": config,
            PREPROCESSOR: image_config(spec.modalities["image"], values, PROCESSOR),
            CLIP_PREPROCESSOR: clip_config(spec.modalities["video"], values),
            PROCESSOR_CONFIG: {"processor_class": f"{self.called}Processor"},
        }

    def keys(self, spec: Spec) -> KeyMap:
        """The language model, the tower and the connector, by the names of published files."""
        return KeyMap(
            [
                *under("", "decoder.", self.trunk.keys(spec.model.decoder)),
                *under("visual.", "towers.image.", self.vision.keys(spec.model.towers["image"])),
                *layer("visual.merger.ln_q", "connectors.image.norm"),
                *layer("visual.merger.mlp.0", "connectors.image.projector.layers.0"),
                *layer("visual.merger.mlp.2", "connectors.image.projector.layers.1"),
            ],
            [(r"^model\.(visual\.)", r"\1"), (r"^model\.language_model\.", "model.")],
        )
