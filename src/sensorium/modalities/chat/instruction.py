"""What is asked, told once more in a second vocabulary: to the part of a model that looks with it in mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from jaxtyping import Int
from torch import Tensor

from ...core import CheckpointError
from ..pretrained_text import PretrainedText
from .messages import TEXT, Message


@final
class Instruction:
    """What people say in a conversation as one text, in the vocabulary in ``folder``, beside the checkpoint's own: that
    of the Q-Former in InstructBLIP (Dai et al. 2023, arXiv:2305.06500).

    A text of more than ``max_tokens``, by default what the files say, is cut.
    """

    def __init__(self, *, folder: str = "qformer_tokenizer", max_tokens: int | None = None) -> None:
        self.folder = folder
        self._words = PretrainedText(max_tokens=max_tokens)

    def write(self, messages: Sequence[Message]) -> Int[Tensor, "k"]:
        """The tokens of all texts in ``messages`` that no assistant says."""
        said = [
            part.value
            for message in messages
            if message.role != "assistant"
            for part in message.parts
            if part.kind == TEXT
        ]
        return self._words.prepare(" ".join(said))

    def use(self, files: Mapping[str, bytes]) -> None:
        """Take the files of a vocabulary that was learnt, by their names."""
        self._words.use(files)

    def save(self, directory: Path) -> None:
        """Write the files that ``load`` and the reference read."""
        (directory / self.folder).mkdir(exist_ok=True)
        self._words.save(directory / self.folder)

    def load(self, directory: Path) -> None:
        """Read the vocabulary beside a checkpoint's. Raises CheckpointError."""
        if not (directory / self.folder).is_dir():
            raise CheckpointError(f"{directory}: expected a second vocabulary in {self.folder}, found none")
        self._words.load(directory / self.folder)
