"""XLM-R: RoBERTa for a hundred languages.

Conneau et al. 2019, "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from . import roberta
from ._words import OWN_SPECIAL, config_file

SIZES: dict[str, dict[str, Any]] = {
    "tiny": roberta.SIZES["tiny"],
    "base": roberta.SIZES["base"] | {"vocab_size": 250002},
    "large": roberta.SIZES["large"] | {"vocab_size": 250002},
}
VOCABULARY = 30522  # of a config that does not say


def xlm_roberta(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"xlm_roberta has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size] | {"pad_token_id": OWN_SPECIAL[0]}, file=Path(f"xlm_roberta:{size}"))
    return roberta.fresh("xlm_roberta", config)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    return roberta.read_as(folder, "xlm_roberta", "XLMRoberta", VOCABULARY)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    return config_file(spec, "XLMRoberta", roberta.fields(spec) | {"model_type": "xlm-roberta"})


FAMILY = Family(
    name="xlm_roberta",
    model_types=("xlm-roberta",),
    read=read,
    write=write,
    keys=roberta.keys,
    card=Card(
        title="XLM-R",
        paper="Conneau et al. 2019, arXiv:1911.02116",
        licence="MIT",
        preparation="SentencePiece tokens between <s> and </s>, 512 at most",
        examples=("FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large"),
    ),
)
