"""What pages of image classifiers share: the classes of a checkpoint's head, and a tower that stands alone."""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..core.system import System
from ..nn.architectures.single import Single
from ..nn.heads.classes import ClassHead
from ..training.trainer import Training
from ..weights.config import Config

#: What transformers calls a network with a head of classes.
PICTURES, TEXTS = "ForImageClassification", "ForSequenceClassification"


def labels(config: Config, kind: str = PICTURES) -> list[str] | None:
    """The names of the classes, in the order of the logits; None for a checkpoint without a head of classes."""
    architectures = config.take("architectures", list[str] | None, None) or []
    if not any(name.endswith(kind) for name in architectures):
        return None
    count = config.take("num_labels", int | None, None) or 2  # which files of two classes leave out
    found = config.take("id2label", dict, {str(index): f"LABEL_{index}" for index in range(count)})
    if set(found) != {str(index) for index in range(len(found))}:
        raise config.error(
            "id2label", f"expected the keys 0 to {len(found) - 1}, found {sorted(found)!r:.80}"
        )
    return [str(found[str(index)]) for index in range(len(found))]


def lone(
    family: str,
    tower: Spec,
    width: int,
    image: Spec,
    *,
    names: list[str] | None = None,
    dropout: float = 0.0,
    public: dict[str, Any] | None = None,
    modality: str = "image",
) -> Spec:
    """The System of an image tower with ``width`` numbers per picture, and a head if there are ``names`` of classes;
    or of a tower for another ``modality``.
    """
    head = Spec(ClassHead, width=width, classes=len(names), dropout=dropout) if names is not None else None
    return Spec(
        System,
        modalities={modality: image},
        model=Spec(Single, name=modality, tower=tower, head=head, labels=names),
        objectives={},
        contrastive=None,
        training=Spec(Training),
        family=family,
        public=public or None,
    )


def written(spec: Spec, name: str, kind: str = PICTURES) -> dict[str, Any]:
    """The fields of a config that name the class of transformers and the classes; ``name`` as in ``ResNetModel``."""
    known = spec.model.labels
    if known is None:
        return {"architectures": [f"{name}Model"]}
    return {
        "architectures": [f"{name}{kind}"],
        "id2label": {str(index): label for index, label in enumerate(known)},
        "label2id": {label: index for index, label in enumerate(known)},
    }
