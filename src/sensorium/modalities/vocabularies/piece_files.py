"""Vocabularies of the `tokenizers` library read from SentencePiece's model files, in each family's order."""

from __future__ import annotations

from typing import Any

from ...core import CheckpointError
from .files import SENTENCE_PIECES, Files
from .library import Read, missing
from .model_file import CONTROL, UNKNOWN, USER_DEFINED, PieceModel, read_piece_model
from .settings import Special


def read_xlm_roberta_pieces(files: Files, special: Special) -> Any:
    """Reads a SentencePiece model in XLM-R's order: four special tokens, the pieces from the fourth, ``mask``."""
    _, model = _unigram(files, SENTENCE_PIECES[0])
    first = [special[role] for role in ("bos", "pad", "eos", "unk")]
    entries = [(token.content, 0.0) for token in first if token is not None]
    entries += [(piece.text, piece.score) for piece in model.pieces[3:]]
    entries += [(token.content, 0.0) for token in [special["mask"]] if token is not None]
    return _unigrams(model, entries, 3)


def read_t5_pieces(extra: int) -> Read:
    """Reads a SentencePiece model and adds ``extra`` sentinels behind it, the last one first."""

    def read(files: Files, special: Special) -> Any:
        name, model = _unigram(files, SENTENCE_PIECES[1])
        if len(model.pieces) < 3 or model.pieces[2].kind != UNKNOWN:
            raise CheckpointError(f"{name}: expected the unknown piece to be the third, found another there")
        entries = [(piece.text, piece.score) for piece in model.pieces]
        entries += [(f"<extra_id_{number}>", 0.0) for number in reversed(range(extra))]
        return _unigrams(model, entries, 2)

    return read


def read_byte_pair_pieces(unknown: bool) -> Read:
    """Reads a SentencePiece model of byte pairs. It holds no merges: they are all the ways to make a piece of two.

    Characters without a piece become bytes; ``unknown``: then the unknown token, rather than nothing.
    """

    def read(files: Files, special: Special) -> Any:
        from tokenizers import AddedToken, Tokenizer, models

        name, model = _pieces(files, SENTENCE_PIECES[2])
        if model.unigram:
            raise CheckpointError(f"{name}: expected a model of byte pairs, found a unigram model")
        table = {piece.text: number for number, piece in enumerate(model.pieces)}
        merges = [
            (text[:cut], text[cut:])
            for text in table
            for cut in range(1, len(text))
            if text[:cut] in table and text[cut:] in table
        ]
        token = special["unk"] if unknown else None
        tokens = Tokenizer(models.BPE(vocab=table, merges=merges, fuse_unk=True, byte_fallback=True))
        if token is not None:
            tokens.model.unk_token = token.content
        tokens.add_tokens(
            [
                AddedToken(piece.text, normalized=False, special=piece.kind == CONTROL)
                for piece in model.pieces
                if piece.kind in (CONTROL, USER_DEFINED)
            ]
        )
        return tokens

    return read


def _pieces(files: Files, usual: str) -> tuple[str, PieceModel]:
    name = next((name for name in SENTENCE_PIECES if name in files), None)
    if name is None:
        raise missing(files, usual)
    return name, read_piece_model(name, files[name])


def _unigram(files: Files, usual: str) -> tuple[str, PieceModel]:
    name, model = _pieces(files, usual)
    if not model.unigram or [piece.kind for piece in model.pieces].count(UNKNOWN) != 1:
        raise CheckpointError(f"{name}: expected a unigram model with one unknown piece, found another")
    return name, model


def _unigrams(model: PieceModel, entries: list[tuple[str, float]], unknown: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers

    tokens = Tokenizer(models.Unigram(vocab=entries, unk_id=unknown, byte_fallback=False))
    if model.characters:
        tokens.normalizer = normalizers.Precompiled(model.characters)
    users = [piece.text for piece in model.pieces if piece.kind == USER_DEFINED]
    tokens.add_tokens([AddedToken(text, normalized=False) for text in users])
    return tokens
