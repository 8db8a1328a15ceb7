"""Vocabularies of public checkpoints: the tokens of a text as the checkpoint's own tokenizer gives them.

``open_vocabulary`` takes the files of a checkpoint's directory. What differs per family is a value in
``families.FAMILIES``, chosen by the class that the files name.
"""

from __future__ import annotations

from .files import read_files
from .vocabulary import Vocabulary, open_vocabulary

__all__ = ["Vocabulary", "open_vocabulary", "read_files"]
