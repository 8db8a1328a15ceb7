"""System: what a recipe describes, from preprocessing to training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .spec import Spec


@dataclass(frozen=True)
class System:
    """The root of every recipe's Spec; its parts stay Specs until the data is known.

    ``modalities``: how each modality is read and prepared. ``model``: the network. ``objectives``: named losses that
    decompose over samples. ``contrastive``: the loss over whole batches, or None. ``training``: how it learns.
    ``family``: the page of public checkpoints that it can be saved as; ``public``: what else its config said, which
    changes nothing here but is written again.
    """

    modalities: dict[str, Spec]
    model: Spec
    objectives: dict[str, Spec]
    contrastive: Spec | None
    training: Spec
    family: str | None = None
    public: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, spec in self.modalities.items():
            if getattr(spec.cls, "name", None) != name:
                raise ConfigError(
                    f"modalities.{name} is a {spec.cls.__qualname__}, whose name is not {name!r}"
                )
