"""The vocabulary of a checkpoint, for pages whose configs do not say which token holds the place of a medium."""

from __future__ import annotations

from ..modalities.pretrained_text import PretrainedText
from ..modalities.vocabularies import Vocabulary
from ..modalities.vocabularies.files import CHARACTERS, LIBRARY, SENTENCE_PIECES, WORD_PIECES
from ..weights.family import Folder


def vocabulary(folder: Folder) -> Vocabulary | None:
    """What a checkpoint's files hold; None where they hold none."""
    if not any(
        (folder.path / name).is_file() for name in (LIBRARY, WORD_PIECES, CHARACTERS, *SENTENCE_PIECES)
    ):
        return None
    text = PretrainedText()
    text.load(folder.path)
    return text.opened
