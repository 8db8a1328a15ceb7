"""OpenFlamingo's files (Awadalla et al. 2023, arXiv:2308.01390): the new layers of a model, to be put beside what it
was made of.

Its ``checkpoint.pt`` has neither a config nor the language model nor the encoder. A folder that is read holds it, the
tokenizer of the language model, and the public checkpoints of the two, in the layout of transformers, in
``lang_encoder/`` and ``vision_encoder/``. The names are those of its code; no published file has been read here: those
are for trunks (MPT, GPT-NeoX) that no page reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import CapabilityError, CheckpointError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..nn.architectures.cross_attended import CrossAttended
from ..nn.connectors.resampler import Resampler, resampler_block
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.layers.attention import CrossAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.feed_forward import MLP
from ..nn.layers.gated_cross import CrossedBlock, GatedCrossAttention
from ..nn.layers.norms import LayerNorm
from ..training.rules import Rule as Treatment
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, Rule, layer, same, under
from ..weights.tensors import Tensors, joined, open_tensors
from . import clip
from ._layers import layers
from ._parts import parts
from ._shared import picture
from ._trunks import system
from ._vocabulary import vocabulary

LAYOUT = "open_flamingo"
LANGUAGE, VISION, NEW = "lang_encoder", "vision_encoder", "checkpoint.pt"
CONFIG = f"{LANGUAGE}/config.json"
IMAGE, END = "<image>", "<|endofchunk|>"
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    f"{{% if part['type'] == 'image' %}}{IMAGE}{{% elif message['role'] == 'assistant' %}}"
    f"{{% generation %}}{{{{ part['text'] }}}}{END}{{% endgeneration %}}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
_HEAD = 64  # the width of a head of its attention
_GATED = re.compile(rf"{LANGUAGE}\.(.+\.)(\d+)\.gated_cross_attn_layer\.attn_gate")


@dataclass(frozen=True)
class Assembled(Family):
    """A family whose tensors are in three places."""

    def weights(self, folder: Folder) -> Tensors:
        """The new layers by their names, those of the parts behind ``lang_encoder/`` and ``vision_encoder/``. CLIP's
        other tower is left out.
        """
        seen = open_tensors(folder.path / VISION)
        parts = {
            "": open_tensors(folder.path / NEW),
            f"{LANGUAGE}/": open_tensors(folder.path / LANGUAGE),
            f"{VISION}/": seen.only([name for name in seen if name.startswith("vision_model.")]),
        }
        return joined(parts, where=folder.path)


def claims(config: Config) -> bool:
    """Whether a page reads the language model."""
    return config.take("model_type", str, "") in parts()


def read(folder: Folder) -> Spec:
    """The System of a folder."""
    new = open_tensors(folder.path / NEW)
    config, kind = folder.read(CONFIG), folder.read(CONFIG).take("model_type", str)
    part = parts()[kind]
    decoder = part.read(config)
    config.finish()
    seeing = folder.read(f"{VISION}/config.json")
    seeing.take("model_type", str, "clip", among=("clip",))
    tower = clip.towers(seeing).towers["image"]
    image, pixels = picture(Folder(folder.path / VISION), clip.PROCESSOR)
    table = f"{LANGUAGE}.{_public(part.keys(decoder), 'embedding.token.weight')}"
    size = _shape(new, table)[0]
    decoder = decoder.set("embedding.vocabulary", size)
    if decoder.head is not None:
        decoder = decoder.set("head.vocabulary", size)
    words = vocabulary(folder)
    place = None if words is None else words.engine.id(IMAGE)
    behind = size - 1 if words is None else words.engine.size + (END not in words.engine.added)
    width = tower.trunk.width
    network = Spec(
        CrossAttended,
        language="text",
        decoder=decoder.replace(trunk=_crossed(new, decoder.trunk, width)),
        towers={
            "image": Spec(LayerFeatures, tower=tower.set("embedding.values", pixels), layers=[-1]),
        },
        connectors={
            "image": Spec(
                Resampler,
                width=width,
                latents=_shape(new, "perceiver.latents")[0],
                depth=len(
                    {name for name in new if re.fullmatch(r"perceiver\.layers\.\d+\.0\.to_q\.weight", name)}
                ),
                block=resampler_block(
                    width=width,
                    heads=_shape(new, "perceiver.layers.0.0.to_q.weight")[0] // _HEAD,
                    head_width=_HEAD,
                ),
                norm_out=Spec(LayerNorm, width=width),
            )
        },
        placeholders={"image": behind if place is None else place},
    )
    text = Spec(
        Conversation,
        placeholders={"image": Spec(Repeated, written=IMAGE, token=IMAGE, count=1)},
        special=[END, IMAGE],
        template=TEMPLATE,
    )
    found = system("flamingo", network, {"image": image, "text": text}, lr=1e-4)
    old = [r"^towers\.", r"^decoder\.(?!embedding\.)(?!trunk\.blocks\.\d+\.cross\.)"]
    rules = [Spec(Treatment, pattern=pattern, rate=0.0) for pattern in old]
    return found.set("training.rules", rules).replace(public={LANGUAGE: {"model_type": kind}})


def _crossed(new: Tensors, trunk: Spec, seen: int) -> Spec:
    """The trunk with new layers before the blocks that the names say."""
    plain = trunk.block
    if isinstance(plain, list) or plain.cls is not PreNorm:
        raise CapabilityError(
            f"{new.where}: new layers only go before blocks that are alike and normalised first"
        )
    found = {int(match[2]): name for name in new if (match := _GATED.fullmatch(name))}
    every = min(found, default=-1) + 1
    if every < 1 or sorted(found) != list(range(every - 1, trunk.depth, every)):
        raise CheckpointError(
            f"{new.where}: expected new layers before every so many of {trunk.depth} blocks, found them before "
            f"{sorted(found)}"
        )
    inner = _shape(new, found[every - 1].replace("attn_gate", "attn.to_q.weight"))[0]
    cross = Spec(
        GatedCrossAttention,
        norm=Spec(LayerNorm, width=trunk.width),
        attention=Spec(
            CrossAttention,
            width=trunk.width,
            context_width=seen,
            heads=inner // _HEAD,
            head_width=_HEAD,
            biases="",
        ),
        feed_forward=Spec(MLP, width=trunk.width, hidden=4 * trunk.width, activation="gelu", bias=False),
    )
    looking = Spec(CrossedBlock, **plain.arguments, cross=cross)
    return trunk.replace(block=[plain] * (every - 1) + [looking])


def _shape(new: Tensors, name: str) -> tuple[int, ...]:
    if name not in new:
        raise CheckpointError(f"{new.where}: expected the tensor {name!r}, found none")
    return new.shape(name)


def _public(rules: list[AnyRule], own: str) -> str:
    """What one of our parameters is called by rules."""
    return next(rule.public[0] for rule in rules if isinstance(rule, Rule) and rule.own == own)


def write(spec: Spec) -> Mapping[str, Mapping[str, Any]]:
    """Raises CapabilityError."""
    raise CapabilityError("a file of OpenFlamingo holds the new layers alone: save as sensorium")


def keys(spec: Spec) -> KeyMap:
    """The new layers, the words, which grew, and the two parts."""
    decoder, kind = spec.model.decoder, spec.public[LANGUAGE]["model_type"]
    part = parts()[kind]
    language = part.keys(decoder)
    table = _public(language, "embedding.token.weight")
    blocks = next(
        rule.public[0].partition("{i}")[0]
        for rule in language
        if isinstance(rule, Rule) and rule.own.startswith("trunk.blocks.{i}.")
    )
    words: list[AnyRule] = [
        same(f"{LANGUAGE}.{table}", "decoder.embedding.token.weight"),
        Drop(f"{LANGUAGE}/{table}", "the words became more"),
    ]
    if decoder.head is None:
        words.append(
            Drop(f"{LANGUAGE}.lm_head.weight", "it is the table of words", equal=f"{LANGUAGE}.{table}")
        )
    else:
        head = _public(language, "head.weight")
        words += [
            same(f"{LANGUAGE}.{head}", "decoder.head.weight"),
            Drop(f"{LANGUAGE}/{head}", "the words became more"),
        ]
    new = [
        rule
        for place, block in enumerate(layers(decoder.trunk))
        if block.cls is CrossedBlock
        for rule in under(
            f"{LANGUAGE}.{blocks}{place}.gated_cross_attn_layer.",
            f"decoder.trunk.blocks.{place}.cross.",
            CROSS,
        )
    ]
    tower = spec.model.towers["image"].tower
    spellings = [
        (rf"^{LANGUAGE}/{pattern.removeprefix('^')}", f"{LANGUAGE}/{put}") for pattern, put in part.spellings
    ]
    return KeyMap(
        [
            *words,
            *new,
            *under(f"{LANGUAGE}/", "decoder.", language),
            *under(f"{VISION}/vision_model.", "towers.image.tower.", clip.vision_keys(tower)),
            same("perceiver.latents", "connectors.image.latents"),
            *under("perceiver.layers.{i}.", "connectors.image.blocks.{i}.", RESAMPLER),
            *layer("perceiver.norm", "connectors.image.norm_out"),
        ],
        spellings,
    )


CROSS: list[AnyRule] = [
    same("attn_gate", "gate_attention"),
    same("ff_gate", "gate_feed_forward"),
    *layer("attn.norm", "norm_attention"),
    same("attn.to_q.weight", "attention.q.weight"),
    same("attn.to_kv.weight", "attention.kv.weight"),
    same("attn.to_out.weight", "attention.out.weight"),
    *layer("ff.0", "norm_feed_forward"),
    same("ff.1.weight", "feed_forward.up.weight"),
    same("ff.3.weight", "feed_forward.down.weight"),
]
RESAMPLER: list[AnyRule] = [
    *layer("0.norm_media", "norm_context"),
    *layer("0.norm_latents", "norm_latents"),
    same("0.to_q.weight", "attention.q.weight"),
    same("0.to_kv.weight", "attention.kv.weight"),
    same("0.to_out.weight", "attention.out.weight"),
    *layer("1.0", "norm_feed_forward"),
    same("1.1.weight", "feed_forward.up.weight"),
    same("1.3.weight", "feed_forward.down.weight"),
]
