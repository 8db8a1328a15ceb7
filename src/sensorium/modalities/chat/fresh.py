"""A vocabulary for conversations that is learnt from texts, in the files that public checkpoints have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core import CapabilityError, DataError
from ..vocabularies.files import CONFIG, LIBRARY, fields
from .templates import END, TURNS

PAD = "<|pad|>"


def learn_vocabulary(texts: Iterable[str], *, size: int, special: Sequence[str]) -> dict[str, bytes]:
    """The files of a byte-level BPE vocabulary (Sennrich et al. 2016, arXiv:1508.07909) of up to ``size`` tokens.

    The first are ``PAD``, ``END``, ``TURNS`` and ``special``. Every text can be written in it, and is read back
    exactly. The same texts give the same vocabulary. Raises DataError if there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    count = 0

    def counted() -> Iterable[str]:
        nonlocal count
        for text in texts:
            count += 1
            yield text

    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(dict.fromkeys([PAD, END, *TURNS, *special])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(counted(), trainer)
    if count == 0:
        raise DataError("there is no text to learn a vocabulary from")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END}
    return {
        LIBRARY: tokens.to_str(pretty=True).encode(),
        CONFIG: f"{json.dumps(settings, indent=2)}\n".encode(),
    }


def add_tokens(files: Mapping[str, bytes], special: Sequence[str]) -> dict[str, bytes]:
    """The files of a vocabulary with those of ``special`` that it lacks. Raises CapabilityError."""
    from tokenizers import AddedToken, Tokenizer

    if LIBRARY not in files:
        raise CapabilityError(f"{special[0]!r} cannot be added to a vocabulary that is not in {LIBRARY}")
    tokens = Tokenizer.from_str(files[LIBRARY].decode())
    tokens.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    config = dict(fields(files, CONFIG).values)
    if config.get("added_tokens_decoder") is not None:  # then others look for them here alone
        states = {
            str(number): token.__getstate__()
            for number, token in tokens.get_added_tokens_decoder().items()
            if token.content in special
        }
        config["added_tokens_decoder"] = config["added_tokens_decoder"] | states
    return {**files, LIBRARY: tokens.to_str(pretty=True).encode(), CONFIG: _written(config)}


def _written(config: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(config, indent=2, ensure_ascii=False)}\n".encode()
