"""What the pages of text encoders share: BERT's tower, its fields and names, the heads, and how texts are masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..core.system import System
from ..modalities import Text
from ..modalities.pretrained_text import PretrainedText
from ..modalities.vocabularies.files import CHARACTERS, CONFIG, LIBRARY, SENTENCE_PIECES, WORD_PIECES
from ..nn.architectures.masked_words import MaskedWords
from ..nn.architectures.single import Single
from ..nn.encoders.masking import Masking
from ..nn.encoders.token_tower import TokenEmbedding, TokenTower
from ..nn.heads.classes import ClassHead
from ..nn.heads.language import MaskedLanguageHead
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PostNorm
from ..nn.layers.drop_path import Dropout
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..objectives import MaskedTokens, NextSentence
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.config import Config
from ..weights.family import Folder
from ..weights.keymap import AnyRule, Drop, fused, layer, same, under
from ._classes import TEXTS, labels, written

TOWER = "towers.text."
#: What ``Text`` gives to the tokens that are no words: padding, beginning, end, mask.
OWN_SPECIAL = [0, 1, 2, 3]
OWN_MASK = 3
#: Norms as they were named before 2019.
SPELLINGS = [(r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")]


@dataclass(frozen=True)
class Shape:
    """The sizes of a tower and the constants of its family. ``offset`` is the row of the first position."""

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    length: int
    types: int
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    offset: int = 0
    embedding: int | None = None

    @classmethod
    def take(cls, config: Config, *, offset: int = 0, embedding: int | None = None, **defaults: Any) -> Shape:
        """Of a public config in the names of BERT; ``defaults`` are what it may leave out."""
        config.expect("position_embedding_type", "absolute")
        config.expect("tie_word_embeddings", True)
        config.ignore("initializer_range", "pad_token_id", "eos_token_id", "output_past")
        return cls(
            vocabulary=config.take("vocab_size", int, defaults["vocabulary"], least=1),
            width=config.take("hidden_size", int, defaults.get("width", 768), least=1),
            depth=config.take("num_hidden_layers", int, 12, least=0),
            heads=config.take("num_attention_heads", int, defaults.get("heads", 12), least=1),
            hidden=config.take("intermediate_size", int, defaults.get("hidden", 3072), least=1),
            length=config.take("max_position_embeddings", int, defaults.get("length", 512), least=1 + offset)
            - offset,
            types=config.take("type_vocab_size", int, defaults.get("types", 2), least=1),
            activation=config.take("hidden_act", str, "gelu"),
            eps=config.take("layer_norm_eps", float, 1e-12, least=0),
            dropout=config.take("hidden_dropout_prob", float, 0.1, least=0, most=1),
            attention_dropout=config.take("attention_probs_dropout_prob", float, 0.1, least=0, most=1),
            offset=offset,
            embedding=embedding,
        )

    @classmethod
    def of(cls, tower: Spec) -> Shape:
        """Of a tower that ``tower`` described."""
        embedding, trunk = tower.embedding, tower.trunk
        block = trunk.block
        return cls(
            vocabulary=embedding.vocabulary,
            width=trunk.width,
            depth=trunk.depth,
            heads=block.attention.heads,
            hidden=block.feed_forward.hidden,
            length=embedding.length,
            types=embedding.types,
            activation=block.feed_forward.activation,
            eps=block.norm.eps,
            dropout=embedding.dropout,
            attention_dropout=block.attention.dropout,
            offset=embedding.offset,
            embedding=embedding.width if embedding.project is not None else None,
        )

    def fields(self) -> dict[str, Any]:
        """The fields of a public config in the names of BERT."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.hidden,
            "max_position_embeddings": self.length + self.offset,
            "type_vocab_size": self.types,
            "hidden_act": self.activation,
            "layer_norm_eps": self.eps,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
        }

    def tower(self, pool: str | None = None) -> Spec:
        """Post-norm blocks over the sum of embeddings. ``pool`` names the nonlinearity of a dense layer after the first
        token, if there is one.
        """
        wide = self.width if self.embedding is None else self.embedding
        return Spec(
            TokenTower,
            embedding=Spec(
                TokenEmbedding,
                vocabulary=self.vocabulary,
                width=wide,
                length=self.length,
                offset=self.offset,
                types=self.types,
                norm=Spec(LayerNorm, width=wide, eps=self.eps),
                dropout=self.dropout,
                project=self.width if self.embedding is not None else None,
            ),
            trunk=Spec(
                Transformer,
                width=self.width,
                depth=self.depth,
                block=Spec(
                    PostNorm,
                    norm=Spec(LayerNorm, width=self.width, eps=self.eps),
                    attention=Spec(
                        SelfAttention, width=self.width, heads=self.heads, dropout=self.attention_dropout
                    ),
                    feed_forward=Spec(MLP, width=self.width, hidden=self.hidden, activation=self.activation),
                    branch=Spec(Dropout, rate=self.dropout) if self.dropout else None,
                ),
            ),
            pool=Spec(
                Pool,
                width=self.width,
                select=Spec(FirstToken),
                dense=pool is not None,
                activation=pool or "tanh",
            ),
        )

    def head(self, activation: str | None = None) -> Spec:
        """The head of masked words, whose nonlinearity is that of the blocks if not said."""
        return Spec(MaskedLanguageHead, activation=activation or self.activation, eps=self.eps)

    def relation(self) -> Spec:
        """Follows or does not."""
        return Spec(ClassHead, width=self.width, classes=2)


def masked_words(tower: Spec, masking: Spec, head: Spec, relation: Spec | None = None) -> Spec:
    """The network that restores masked words."""
    return Spec(MaskedWords, language="text", tower=tower, masking=masking, head=head, relation=relation)


def single(tower: Spec, names: list[str] | None = None, dropout: float = 0.0) -> Spec:
    """A tower alone, or with a head of classes if there are ``names``."""
    width = tower.pool.width
    head = None if names is None else Spec(ClassHead, width=width, classes=len(names), dropout=dropout)
    return Spec(Single, name="text", tower=tower, head=head, labels=names, language="text")


def sorter(config: Config, shape: Shape, tower: Spec) -> Spec:
    """A tower with the head of classes that a public config describes."""
    rate = config.take("classifier_dropout", float | None, None)
    return single(tower, labels(config, TEXTS), shape.dropout if rate is None else rate)


def system(
    family: str,
    network: Spec,
    text: Spec,
    *,
    objectives: Mapping[str, Spec] | None = None,
) -> Spec:
    """The System of a text encoder, with the objectives that its network has heads for unless others are given.

    The learning rate is BERT's at its width of 768; narrower towers take longer steps.
    """
    if objectives is None:
        objectives = {}
        if network.cls is MaskedWords:
            objectives["masked_tokens"] = Spec(MaskedTokens, ratio=network.masking.ratio)
            if network.relation is not None:
                objectives["next_sentence"] = Spec(NextSentence)
    return Spec(
        System,
        modalities={"text": text},
        model=network,
        objectives=dict(objectives),
        contrastive=None,
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=1.0),
            optimizer=Spec(AdamW, lr=1e-4 * 768 / network.tower.trunk.width, weight_decay=0.01),
        ),
        family=family,
    )


def fresh_text(shape: Shape) -> Spec:
    """Texts whose vocabulary is learnt from the data."""
    return Spec(Text, vocabulary=shape.vocabulary, max_tokens=shape.length)


def fresh_masking(**shares: float) -> Spec:
    """Masking of such texts."""
    return Spec(Masking, mask=OWN_MASK, special=OWN_SPECIAL, **shares)


def public_masking(folder: Folder, **shares: float) -> Spec:
    """Masking of texts in a checkpoint's own vocabulary; without its files, the token is not known and nothing can be
    masked until ``model.masking.mask`` says it.
    """
    held = (LIBRARY, WORD_PIECES, CHARACTERS, *SENTENCE_PIECES)
    if not any((folder.path / name).is_file() for name in held):
        return Spec(Masking, mask=None, special=[], **shares)
    text = PretrainedText()
    text.load(folder.path)
    special = {
        number
        for number in (text.pad, text.bos, text.eos, text.cls, text.sep, text.mask)
        if number is not None
    }
    return Spec(Masking, mask=text.mask, special=sorted(special), **shares)


def public_text(folder: Folder, shape: Shape) -> Spec:
    """Texts in a checkpoint's own vocabulary, as long as its files say or its table of positions is."""
    said = (folder.json(CONFIG) or {}).get("model_max_length")
    known = isinstance(said, int) and said <= shape.length
    return Spec(PretrainedText, max_tokens=None if known else shape.length)


def opened_as(folder: Folder, prefix: str, kinds: tuple[str, ...]) -> str:
    """Which of ``kinds`` (such as ``ForMaskedLM``) a checkpoint's config names; the bare ``Model`` if it names none."""
    named = folder.config.take("architectures", list[str] | None, None) or [f"{prefix}Model"]
    kind = named[0].removeprefix(prefix)
    if not named[0].startswith(prefix) or kind not in kinds:
        known = ", ".join(prefix + kind for kind in kinds)
        raise CapabilityError(
            f"{folder.path / 'config.json'}: architectures: expected one of {known}, found {named[0]!r}"
        )
    return kind


BLOCK: list[AnyRule] = [
    *fused([f"attention.self.{part}" for part in ("query", "key", "value")], "attention.qkv"),
    *layer("attention.output.dense", "attention.out"),
    *layer("attention.output.LayerNorm", "norm_attention"),
    *layer("intermediate.dense", "feed_forward.up"),
    *layer("output.dense", "feed_forward.down"),
    *layer("output.LayerNorm", "norm_feed_forward"),
]
EMBEDDING: list[AnyRule] = [
    same("word_embeddings.weight", "token.weight"),
    same("position_embeddings.weight", "position.weight"),
    same("token_type_embeddings.weight", "kind.weight"),
    *layer("LayerNorm", "norm"),
    Drop("position_ids", "places are counted"),
]
#: A tower in the names of BERT, ELECTRA and RoBERTa.
TOWER_KEYS: list[AnyRule] = [
    *under("embeddings.", "embedding.", EMBEDDING),
    *layer("embeddings_project", "embedding.project"),
    *under("encoder.layer.{i}.", "trunk.blocks.{i}.", BLOCK),
    *layer("pooler.dense", "pool.dense.0"),
]


#: A head of classes in the names of ELECTRA and RoBERTa. Its first layer is what the pooler is elsewhere.
CLASS_HEAD: list[AnyRule] = [
    *layer("classifier.dense", f"{TOWER}pool.dense.0"),
    *layer("classifier.out_proj", "head.project"),
]


def head_keys(spec: Spec, words: list[AnyRule], classes: list[AnyRule]) -> list[AnyRule] | None:
    """The names of the head that a System's network has: of ``words``, or of ``classes``; None for a tower alone."""
    if spec.model.cls is not Single:
        return words
    return None if spec.model.head is None else classes


def config_file(
    spec: Spec, name: str, fields: Mapping[str, Any], head: str = "ForMaskedLM"
) -> dict[str, dict[str, Any]]:
    """``config.json``: ``fields``, and the class of transformers, which is ``name`` and ``head`` unless the tower
    stands alone or sorts texts.
    """
    network = spec.model
    named = written(spec, name, TEXTS) if network.cls is Single else {"architectures": [name + head]}
    return {"config.json": {"model_type": spec.family} | named | dict(fields)}


def tied(decoder: str, bias: str, table: str) -> list[AnyRule]:
    """What older files repeat of the head of masked words."""
    return [
        Drop(f"{decoder}.weight", "the head uses the table of embeddings", equal=table),
        Drop(f"{decoder}.bias", "it is stored beside the decoder", equal=bias),
    ]


def unused(*layers: str) -> list[AnyRule]:
    """Layers that a file holds although its architecture, as named in the config, has no use for them."""
    return [Drop(f"{name}.{{part}}", "not part of the architecture that the config names") for name in layers]
