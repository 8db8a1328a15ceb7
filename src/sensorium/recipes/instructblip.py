"""InstructBLIP: queries that look at a picture with what is asked about it in mind.

Dai et al. 2023, "InstructBLIP: Towards General-purpose Vision-Language Models with Instruction Tuning",
arXiv:2305.06500. The Q-Former reads the instruction in a vocabulary of its own, and so does the language model:
Flan-T5 or Vicuna.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.instruction import Instruction
from ..modalities.public_images import image_config
from ..training.rules import Rule
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap
from ._fresh import fresh
from ._queried import (
    PROCESSOR,
    network,
    network_fields,
    network_keys,
    processor,
    qformer,
    size_of,
    template,
    vision,
    words,
)
from ._shared import PREPROCESSOR, picture
from ._trunks import system

#: The public config of each size. What is asked is told in one vocabulary to both parts.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 192,
                        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 2048},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
        "qformer_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                           "num_attention_heads": 4, "vocab_size": 2048, "max_position_embeddings": 128},
        "num_query_tokens": 8,
    },
    "vicuna-7b": {"text_config": {"model_type": "llama"}, "qformer_config": {"vocab_size": 32_000}},
}  # fmt: skip
SEEING, ASKING = "instructblip_vision_model", "instructblip_qformer"
QUERIES = 32


def instructblip(size: str = "vicuna-7b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    found = fresh(FAMILY, SIZES, size)
    former = found.model.connectors["image"].qformer
    # Nobody reads what the last block makes of words.
    last = rf"^connectors\.image\.qformer\.blocks\.{former.depth - 1}\.(feed|norm)_words\."
    rules = [*found.training.rules, Spec(Rule, pattern=last, rate=0.0)]
    return found.set("training.rules", rules).set(
        "modalities.text.instruction.max_tokens", former.words.length
    )


def instructblip_network(config: Config) -> Spec:
    """The network of a public config."""
    tower = vision(config.section("vision_config"), SEEING)
    queries = config.take("num_query_tokens", int, QUERIES, least=1)
    former = qformer(config.section("qformer_config"), ASKING, tower.trunk.width, queries, reads=True)
    return network(config, tower, former)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR, size_of(folder))
    found = instructblip_network(folder.config).set("towers.image.embedding.values", pixels)
    folder.config.finish()
    former = found.connectors["image"].qformer
    spoken = template(found.decoder, spaced=True)
    asked = Spec(Instruction)
    return system(
        "instructblip", found, {"image": image, "text": words(former.queries, spoken, instruction=asked)}
    )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    fields = network_fields(spec)
    fields["vision_config"]["model_type"] = SEEING
    fields["qformer_config"]["model_type"] = ASKING
    kind = {"architectures": ["InstructBlipForConditionalGeneration"], "model_type": "instructblip"}
    pixels = spec.model.towers["image"].embedding.values
    prepared = image_config(spec.modalities["image"], pixels, PROCESSOR)
    files = {"config.json": kind | fields, PREPROCESSOR: prepared}
    return files | processor("InstructBlipProcessor", fields["num_query_tokens"])


def keys(spec: Spec) -> KeyMap:
    """The image tower, the Q-Former with its words, the map between and the language model."""
    return KeyMap(network_keys(spec, norm="qformer.embeddings.layernorm", table="qformer.embeddings"))


FAMILY = Family(
    name="instructblip",
    model_types=("instructblip",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="InstructBLIP",
        paper="Dai et al. 2023, arXiv:2305.06500",
        licence="terms of the language model",
        preparation="224 x 224 bicubic, 32 rows a picture before all words; what is asked in two vocabularies",
        examples=("Salesforce/instructblip-flan-t5-xl", "Salesforce/instructblip-vicuna-7b"),
    ),
)
