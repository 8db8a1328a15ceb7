"""What SigLIP and SigLIP 2 share: the text tower, the attention that pools pictures, and the layouts of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.spec import Spec
from ..core.system import System
from ..modalities.pretrained_text import PretrainedText
from ..modalities.public_images import image_config
from ..nn.architectures.towers import Towers
from ..nn.encoders.token_tower import TokenEmbedding, TokenTower
from ..nn.heads.attention_pooling import AttentionPool
from ..nn.heads.pooling import LastToken, MeanToken, Pool
from ..nn.heads.projection import NoProjection
from ..nn.heads.similarity import Similarity
from ..nn.layers.norms import LayerNorm
from ..objectives import Contrastive, Sigmoid
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.config import Config
from ..weights.family import Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, Rule, layer, same, shaped, under
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, block_fields, block_keys, blocks, picture
from ._words import single
from ._words import system as text_system

#: What the trunk's part of a config may leave out.
DEFAULTS: dict[str, Any] = {
    "hidden": 3072, "depth": 12, "heads": 12, "activation": "gelu_pytorch_tanh", "eps": 1e-6,
}  # fmt: skip


@dataclass(frozen=True)
class Kin:
    """One of the two families: its ``page``, what ``transformers`` calls it and its image ``processor``, and its image
    tower: made from a public ``vision_config``, as the ``fields`` of one for pictures so prepared, and the keys of its
    first layer. ``size`` is what of the processor's file follows from a ``vision_config``.
    """

    page: str
    name: str
    processor: str
    vision: Callable[[Config], Spec]
    fields: Callable[[Spec, Spec | None], dict[str, Any]]
    embedding_keys: Callable[[Spec], list[AnyRule]]
    size: Callable[[Config], dict[str, Any]]

    def towers(self, config: Config) -> Spec:
        """Both towers of a public config."""
        config.ignore("initializer_factor")
        seeing, reading = config.section("vision_config"), config.section("text_config")
        seeing.expect("vision_use_head", True)
        seen, read = self.vision(seeing), text(reading)
        if seen.pool.width != read.pool.width:
            raise reading.error(
                "projection_size",
                f"expected the width of pictures, {seen.pool.width}, found {read.pool.width}",
            )
        config.finish()
        return Spec(
            Towers,
            towers={"image": seen, "text": read},
            projections={"image": Spec(NoProjection), "text": Spec(NoProjection)},
            similarity=Spec(Similarity, scale=10.0, most=None, bias=-10.0),
            language="text",
        )

    def system(self, network: Spec, modalities: Mapping[str, Spec]) -> Spec:
        """A dual encoder with the objective and the training that SigLIP was published with."""
        return Spec(
            System,
            modalities=dict(modalities),
            model=network,
            objectives={},
            contrastive=Spec(Contrastive, pairwise=Spec(Sigmoid)),
            training=Spec(
                Training,
                loading=Spec(Loading, batch=256, withhold=0.0, corrupt=0.0),
                optimizer=Spec(AdamW, lr=1e-3, weight_decay=1e-4, beta2=0.95),
            ),
            family=self.page,
        )

    def read(self, folder: Folder) -> Spec:
        """The System of a public checkpoint: both towers, one of them, or the image tower with a head of classes."""
        config = folder.config
        kind = config.take("model_type", str)
        if kind == f"{self.page}_text_model":
            tower = text(config)
            config.finish()
            return text_system(self.page, single(tower), words(tower))
        if kind == f"{self.page}_vision_model":
            return self._read_vision(folder, config, self.vision(config))
        if (names := labels(config)) is not None:
            config.ignore("text_config", "initializer_factor")
            seeing = config.section("vision_config")
            tower = self.vision(seeing)
            pool = Spec(Pool, width=tower.trunk.width, select=Spec(MeanToken))
            return self._read_vision(folder, seeing, tower.replace(pool=pool), names)
        network = self.towers(config)
        image, pixels = picture(folder, self.processor, self.size(config.section("vision_config")))
        network = network.set("towers.image.embedding.values", pixels)
        return self.system(network, {"image": image, "text": words(network.towers["text"])})

    def _read_vision(
        self, folder: Folder, config: Config, tower: Spec, names: list[str] | None = None
    ) -> Spec:
        image, pixels = picture(folder, self.processor, self.size(config))
        folder.config.finish()
        tower = tower.set("embedding.values", pixels)
        return lone(self.page, tower, tower.pool.width, image, names=names)

    def write(self, spec: Spec) -> dict[str, dict[str, Any]]:
        """The files beside the tensors, as others read them."""
        network, image = spec.model, spec.modalities.get("image")
        if image is None:
            config = {"architectures": [f"{self.name}TextModel"], **self._text_config(network.tower)}
            return {"config.json": config}
        seen = network.towers["image"] if network.cls is Towers else network.tower
        inner = self.vision_config(seen, image)
        if network.cls is Towers:
            config = {
                "architectures": [f"{self.name}Model"],
                "model_type": self.page,
                "text_config": self._text_config(network.towers["text"]),
                "vision_config": inner,
            }
        elif network.head is None:
            config = {"architectures": [f"{self.name}VisionModel"], **inner}
        else:
            config = {**written(spec, self.name), "model_type": self.page, "vision_config": inner}
        return {
            "config.json": config,
            PREPROCESSOR: image_config(image, seen.embedding.values, self.processor),
        }

    def vision_config(self, tower: Spec, image: Spec | None = None) -> dict[str, Any]:
        """The fields of an image tower, for pictures prepared as ``image`` says, or in whole patches."""
        return {
            "model_type": f"{self.page}_vision_model",
            **block_fields(tower.trunk),
            **self.fields(tower, image),
            "vision_use_head": tower.pool.cls is AttentionPool,
        }

    def _text_config(self, tower: Spec) -> dict[str, Any]:
        return {
            "model_type": f"{self.page}_text_model",
            **block_fields(tower.trunk),
            "vocab_size": tower.embedding.vocabulary,
            "max_position_embeddings": tower.embedding.length,
            "projection_size": tower.pool.width,
        }

    def keys(self, spec: Spec) -> KeyMap:
        """The towers there are; one alone may have its names without a prefix."""
        network = spec.model
        reading = under("text_model.", "towers.text.", TEXT_KEYS)
        if network.cls is not Towers and network.name == "text":
            return KeyMap(reading, [(r"^(embeddings|encoder|final_layer_norm|head)\.", r"text_model.\1.")])
        tower = network.towers["image"] if network.cls is Towers else network.tower
        seeing = under("vision_model.", "towers.image.", [*self.embedding_keys(tower), *VISION_KEYS])
        if network.cls is Towers:
            return KeyMap([*seeing, *reading, *SIMILARITY_KEYS])
        if network.head is None:
            return KeyMap(seeing, [(r"^(embeddings|encoder|post_layernorm|head)\.", r"vision_model.\1.")])
        return KeyMap([*layer("classifier", "head.project"), *seeing, *UNUSED])


def text(config: Config) -> Spec:
    """The text tower of a public ``text_config``: every token sees every other, and the last one is the text's."""
    width = config.take("hidden_size", int, 768, least=1)
    vocabulary = config.take("vocab_size", int, 32000, least=1)
    length = config.take("max_position_embeddings", int, 64, least=1)
    embedding = config.take("projection_size", int | None, None, least=1)
    eps, trunk = blocks(config, width, **DEFAULTS)
    config.ignore(
        "pad_token_id", "bos_token_id", "eos_token_id"
    )  # a text has as many tokens as there are places
    return Spec(
        TokenTower,
        embedding=Spec(TokenEmbedding, vocabulary=vocabulary, width=width, length=length),
        trunk=trunk,
        norm_out=Spec(LayerNorm, width=width, eps=eps),
        pool=Spec(
            Pool,
            width=embedding or width,
            inner=width,
            select=Spec(LastToken),
            dense=True,
            activation="linear",
        ),
    )


def pooling(config: Config, trunk: Spec) -> Spec:
    """One vector of a picture: by attention, or where a checkpoint has no such head the mean of its patches."""
    if not config.take("vision_use_head", bool, True):
        return Spec(Pool, width=trunk.width, select=Spec(MeanToken))
    part = trunk.block
    return Spec(
        AttentionPool,
        width=trunk.width,
        heads=part.attention.heads,
        norm=part.norm,
        feed_forward=part.feed_forward,
    )


def words(tower: Spec) -> Spec:
    """How texts are prepared: as the tokenizer beside the weights says, filled up to all places of the tower."""
    return Spec(PretrainedText, max_tokens=tower.embedding.length, pad_to=tower.embedding.length)


TEXT_KEYS: list[AnyRule] = [
    same("embeddings.token_embedding.weight", "embedding.token.weight"),
    same("embeddings.position_embedding.weight", "embedding.position.weight"),
    Drop("embeddings.position_ids", "places are counted"),
    *under("encoder.layers.{i}.", "trunk.blocks.{i}.", block_keys()),
    *layer("final_layer_norm", "norm_out"),
    *layer("head", "pool.dense.0"),
]
POOL_KEYS: list[AnyRule] = [
    same("probe", "query", shaped([1, 1, -1], [-1])),
    same("attention.in_proj_weight", "qkv.weight"),
    same("attention.in_proj_bias", "qkv.bias"),
    *layer("attention.out_proj", "out"),
    *layer("layernorm", "norm"),
    *layer("mlp.fc1", "feed_forward.up"),
    *layer("mlp.fc2", "feed_forward.down"),
]
#: All of an image tower but its first layer.
VISION_KEYS: list[AnyRule] = [
    Drop("embeddings.position_ids", "places are counted"),
    *under("encoder.layers.{i}.", "trunk.blocks.{i}.", block_keys()),
    *layer("post_layernorm", "norm_out"),
    *under("head.", "pool.", POOL_KEYS),
]
SIMILARITY_KEYS: list[AnyRule] = [
    same("logit_scale", "similarity.log_scale", shaped([1], [])),
    same("logit_bias", "similarity.bias", shaped([1], [])),
]
#: The pooling head, which classes do not use.
UNUSED: list[AnyRule] = [
    Drop(f"vision_model.head.{rule.public[0]}", "classes are read off the mean of all patches")
    for rule in POOL_KEYS
    if isinstance(rule, Rule)
]
