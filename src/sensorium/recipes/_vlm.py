"""What pages of multimodal language models share: the names of their parts in public files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..core.spec import Spec
from ..nn.decoders.language_model import VocabularyHead
from ..weights.config import Config
from ..weights.keymap import AnyRule, Drop, Fixed, KeyMap, Rule, under
from ._parts import part_in

#: From the names of transformers 5 to those of older files, which public checkpoints have.
SPELLINGS = [
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.(\w+_tower|multi_modal_projector|image_newline)", r"\1"),
]
#: The same of towers that have another name inside.
INNER = (r"^(\w+_tower)\.(?!vision_model\.)", r"\1.vision_model.")


def placeholder(config: Config, *names: str, otherwise: int | None = None) -> int:
    """The token that holds the place of a row, by whichever of its ``names`` a config has."""
    given = [name for name in names if name in config]
    if not given and otherwise is not None:
        config.ignore(*names)  # they may be null
        return otherwise
    return config.take(given[0] if given else names[0], int, least=0)


def sections(spec: Spec, decoder: str, tower: str, seen: Spec) -> dict[str, Any]:
    """The ``text_config`` and the ``vision_config`` of a System with the image tower ``seen``, by the pages of its
    parts; ``decoder`` and ``tower`` are the model types where no config said them.
    """
    return {
        "text_config": part_in(spec, "text_config", decoder).write(spec.model.decoder),
        "vision_config": part_in(spec, "vision_config", tower).write(seen),
    }


def keys(
    spec: Spec, decoder: str, tower: str, seen: tuple[str, Spec], connector: Iterable[AnyRule]
) -> KeyMap:
    """The names of LLaVA and its kin. ``seen`` is the image tower, with its own name in the network."""
    name, vision = seen
    return KeyMap(
        [
            *under(
                "language_model.", "decoder.", part_in(spec, "text_config", decoder).keys(spec.model.decoder)
            ),
            *under("vision_tower.vision_model.", name, part_in(spec, "vision_config", tower).keys(vision)),
            *connector,
        ],
        [*SPELLINGS, INNER],
    )


def renamed(old: str, new: str, rules: Iterable[AnyRule]) -> list[AnyRule]:
    """Rules with another beginning of those public names that begin with ``old``."""

    def name(public: str) -> str:
        return new + public.removeprefix(old) if public.startswith(old) else public

    def one(rule: AnyRule) -> AnyRule:
        if isinstance(rule, Rule):
            return replace(rule, public=tuple(map(name, rule.public)))
        if isinstance(rule, Drop):
            return replace(
                rule, public=name(rule.public), equal=None if rule.equal is None else name(rule.equal)
            )
        return replace(rule, public=name(rule.public)) if isinstance(rule, Fixed) else rule

    return [one(rule) for rule in rules]


def tied(config: Config, decoder: Spec, otherwise: bool = False) -> Spec:
    """The language model with or without a head of its own. Newer files say in the whole config that there is none,
    older ones in the section of the words; ``otherwise`` is for those that say nothing.
    """
    wanted = config.take("tie_word_embeddings", bool, otherwise) or decoder.head is None
    if wanted == (decoder.head is None):
        return decoder
    table = decoder.embedding
    head = Spec(VocabularyHead, width=table.width, vocabulary=table.vocabulary)
    return decoder.replace(head=None if wanted else head)
