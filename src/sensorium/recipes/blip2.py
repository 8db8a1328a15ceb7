"""BLIP-2: queries that learn to look at pictures for a language model that was trained without any.

Li et al. 2023, "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language
Models", arXiv:2301.12597. With OPT or Flan-T5; or, as its first stage leaves it, without a language model: texts and
pictures compared, and matched.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..core.system import System
from ..modalities.pretrained_text import PretrainedText
from ..modalities.public_images import image_config
from ..nn.architectures.queried_retrieval import QueriedRetrieval
from ..nn.layers.linear import Linear
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, layer, under
from ._fresh import fresh
from ._queried import (
    PROCESSOR,
    network,
    network_fields,
    network_keys,
    processor,
    qformer,
    qformer_fields,
    qformer_keys,
    size_of,
    template,
    vision,
    vision_fields,
    vision_keys,
    words,
)
from ._shared import PREPROCESSOR, picture
from ._trunks import system

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {"hidden_size": 64, "ffn_dim": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "vocab_size": 2048, "max_position_embeddings": 512},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
        "qformer_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                           "num_attention_heads": 4},
        "num_query_tokens": 8,
    },
    "opt-2.7b": {
        "text_config": {"hidden_size": 2560, "ffn_dim": 10_240, "num_hidden_layers": 32,
                        "num_attention_heads": 32, "vocab_size": 50_304},
    },
}  # fmt: skip
SEEING, ASKING = "blip_2_vision_model", "blip_2_qformer"
QUERIES = 32
#: The class with which others open texts and pictures compared, without a language model.
RETRIEVAL = "Blip2ForImageTextRetrieval"


def blip2(size: str = "opt-2.7b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def blip2_network(config: Config) -> Spec:
    """The network of a public config."""
    tower = vision(config.section("vision_config"), SEEING)
    section = config.section("qformer_config")
    section.expect("use_qformer_text_input", False)
    section.ignore("vocab_size", "max_position_embeddings")
    queries = config.take("num_query_tokens", int, QUERIES, least=1)
    former = qformer(section, ASKING, tower.trunk.width, queries, reads=False)
    config.ignore("image_text_hidden_size")
    return network(config, tower, former)


def retrieval_network(config: Config) -> Spec:
    """The network of a public config without a language model."""
    tower = vision(config.section("vision_config"), SEEING)
    section = config.section("qformer_config")
    section.expect("use_qformer_text_input", True)
    queries = config.take("num_query_tokens", int, QUERIES, least=1)
    former = qformer(section, ASKING, tower.trunk.width, queries, reads=True)
    common = config.take("image_text_hidden_size", int, 256, least=1)
    config.ignore("text_config", "use_decoder_only_language_model", "image_token_index", "image_token_id")
    config.ignore("is_encoder_decoder", "tie_word_embeddings", "initializer_factor", "initializer_range")
    projection = Spec(Linear, in_features=former.width, out_features=common)
    return Spec(
        QueriedRetrieval,
        towers={"image": tower},
        language="text",
        qformer=former,
        projections={"image": projection, "text": projection},
        head=Spec(Linear, in_features=former.width, out_features=2),
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR, size_of(folder))
    matches = RETRIEVAL in (folder.config.raw.get("architectures") or [])
    found = (retrieval_network if matches else blip2_network)(folder.config)
    found = found.set("towers.image.embedding.values", pixels)
    folder.config.finish()
    if matches:
        return _retrieval(image, found)
    # OPT learnt to end what it says with the line.
    spoken = template(found.decoder, spaced=False, end="'\\n'")
    former = found.connectors["image"].qformer
    return system("blip2", found, {"image": image, "text": words(former.queries, spoken)})


def _retrieval(image: Spec, network: Spec) -> Spec:
    return Spec(
        System,
        modalities={"image": image, "text": Spec(PretrainedText, max_tokens=network.qformer.words.length)},
        model=network,
        objectives={},
        contrastive=None,
        training=Spec(Training),
        family="blip2",
    )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, matches = spec.model, spec.model.cls is QueriedRetrieval
    if matches:
        fields = {
            "architectures": [RETRIEVAL],
            "vision_config": vision_fields(network.towers["image"]),
            "qformer_config": qformer_fields(network.qformer),
            "num_query_tokens": network.qformer.queries,
            "image_text_hidden_size": network.projections["image"].out_features,
        }
    else:
        fields = {"architectures": ["Blip2ForConditionalGeneration"], **network_fields(spec)}
    fields["vision_config"]["model_type"] = SEEING
    fields["qformer_config"] |= {
        "model_type": ASKING,
        "use_qformer_text_input": matches,
    }
    pixels = network.towers["image"].embedding.values
    prepared = image_config(spec.modalities["image"], pixels, PROCESSOR)
    files = {"config.json": {"model_type": "blip-2", **fields}, PREPROCESSOR: prepared}
    return files | processor("Blip2Processor", None if matches else fields["num_query_tokens"])


def keys(spec: Spec) -> KeyMap:
    """The image tower, the Q-Former, and the language model or the heads."""
    names = {"norm": "qformer.layernorm", "table": "embeddings"}
    if spec.model.cls is not QueriedRetrieval:
        return KeyMap(network_keys(spec, **names))
    return KeyMap(
        [
            *under("vision_model.", "towers.image.", vision_keys(spec.model.towers["image"])),
            *qformer_keys(spec.model.qformer, "qformer.", **names),
            *layer("vision_projection", "projections.image"),
            *layer("text_projection", "projections.text"),
            *layer("itm_head", "head"),
        ]
    )


FAMILY = Family(
    name="blip2",
    model_types=("blip-2",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="BLIP-2",
        paper="Li et al. 2023, arXiv:2301.12597",
        licence="MIT; terms of the language model",
        preparation="224 x 224 bicubic, 32 rows a picture before all words; what is asked as it is written",
        examples=("Salesforce/blip2-opt-2.7b", "Salesforce/blip2-flan-t5-xl", "Salesforce/blip2-itm-vit-g"),
    ),
)
