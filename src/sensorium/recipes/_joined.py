"""What compositions share: media of any kind before a language model, each by a tower and a connector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import ConfigError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..nn.architectures.multimodal_lm import MultimodalLM
from ._fresh import unread
from ._trunks import system


@dataclass(frozen=True)
class Joined:
    """A medium: its ``modality``, the ``tower`` that reads it, the ``connector`` from there to the width of the
    language model, and the ``placeholder`` that stands for it among words.
    """

    modality: Spec
    tower: Spec
    connector: Spec
    placeholder: Spec


def joined(trunk: Spec, media: Mapping[str, Joined]) -> Spec:
    """The System of the language model of ``trunk``, a System too, that reads ``media`` by modality."""
    language = trunk.model.language
    words = trunk.modalities[language]
    if words.cls is not Conversation:
        raise ConfigError(f"the trunk's words must be a Conversation, found a {words.cls.__qualname__}")
    held = {name: one.placeholder for name, one in media.items()}
    marks = [
        mark
        for one in held.values()
        for name in ("before", "token", "after")
        if (mark := one.arguments.get(name))
    ]
    network = Spec(
        MultimodalLM,
        language=language,
        decoder=trunk.model.decoder,
        towers={name: one.tower for name, one in media.items()},
        connectors={name: one.connector for name, one in media.items()},
        placeholders={name: place for place, name in enumerate(media)},  # until the vocabulary is there
    )
    modalities = {name: one.modality for name, one in media.items()}
    words = words.replace(placeholders=held, special=[*(words.special or []), *marks])
    made = system(None, network, {**modalities, language: words}, lr=1e-3)
    return made.set("training.rules", unread(network))
