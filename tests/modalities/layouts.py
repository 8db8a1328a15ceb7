"""Small vocabularies, learnt here, in the layout of public checkpoints: the files of each family's first release."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from modalities.strings import TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def clip(folder: Path) -> None:
    """Bytes, bytes that end a word, merges, and two special tokens: ``vocab.json`` and ``merges.txt``."""
    merges = learn_merges(pre_tokenizers.ByteLevel(add_prefix_space=False), "</w>", lower=True)
    alphabet = [*_BYTES, *(one + "</w>" for one in _BYTES)]
    tokens = [*alphabet, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    byte_pairs(folder, tokens, merges)
    end = {
        "content": "<|endoftext|>",
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    }
    start = end | {"content": "<|startoftext|>"}
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "<|endoftext|>"}
    write(folder, "special_tokens_map.json", special)
    write(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77} | special,
    )


def roberta(folder: Path, name: str = "RobertaTokenizer", **settings: Any) -> None:
    """Special tokens, bytes, merges, and the mask: ``vocab.json`` and ``merges.txt``."""
    merges = learn_merges(pre_tokenizers.ByteLevel(add_prefix_space=False), "")
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_BYTES, *map("".join, merges), "<mask>"]
    if name == "GPT2Tokenizer":
        tokens = [*_BYTES, *map("".join, merges), "<|endoftext|>"]
    byte_pairs(folder, tokens, merges)
    write(folder, "tokenizer_config.json", {"tokenizer_class": name, "model_max_length": 512} | settings)


def bert(folder: Path, name: str = "BertTokenizer", **settings: Any) -> None:
    """``vocab.txt``."""
    tokens = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer(lowercase=settings.get("do_lower_case", True))
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    )
    vocabulary = sorted(tokens.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    write(folder, "tokenizer_config.json", {"tokenizer_class": name, "model_max_length": 512} | settings)


def xlm_roberta(folder: Path) -> None:
    """A SentencePiece model in whose numbers the reference puts other special tokens first."""
    content = sentence_pieces(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    (folder / "sentencepiece.bpe.model").write_bytes(content)
    write(
        folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512}
    )


def siglip(folder: Path) -> None:
    """A SentencePiece model that ends texts and fills them with one token."""
    content = sentence_pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(content)
    token = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}
    added = {"1": token | {"content": "</s>"}, "2": token | {"content": "<unk>"}}
    special = {
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "additional_special_tokens": [],
    }
    config = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64, "do_lower_case": True}
    write(folder, "tokenizer_config.json", config | special | {"added_tokens_decoder": added})


def gemma(folder: Path, model: str = "siglip2") -> None:
    """``tokenizer.json`` with bytes for unknown characters, and a ``config.json`` that says what it is for."""
    merges = learn_merges(None, "", normalizers.Replace(" ", "▁"))
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted({character for pair in merges for part in pair for character in part} - set(tokens))
    tokens += dict.fromkeys(map("".join, merges))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    bpe = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    saved = Tokenizer(bpe)
    saved.normalizer = normalizers.Replace(" ", "▁")
    saved.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    saved.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    saved.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A $B <eos>", special_tokens=[("<eos>", 1)]
    )
    saved.add_special_tokens(special)
    saved.save(str(folder / "tokenizer.json"))
    named = {f"{name.strip('<>')}_token": name for name in special}
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
    }
    write(folder, "tokenizer_config.json", config | named | {"model_max_length": 64})
    write(folder, "config.json", {"model_type": model})


def wav2vec2(folder: Path, **settings: Any) -> None:
    """``vocab.json`` of characters, among them one of two letters."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZÄß", "CH"]
    write(folder, "vocab.json", {token: number for number, token in enumerate(tokens)})
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write(folder, "special_tokens_map.json", special)
    config = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "word_delimiter_token": "|", "do_lower_case": False}
    write(folder, "tokenizer_config.json", config | special | settings)


def write(folder: Path, name: str, content: Any) -> None:
    """A JSON file."""
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def learn_merges(
    before: Any, suffix: str, normalizer: Any = None, *, lower: bool = False
) -> list[tuple[str, str]]:
    """What byte pairs are joined, best first."""
    tokens = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    if before is not None:
        tokens.pre_tokenizer = before
    if normalizer is not None:
        tokens.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=1200, show_progress=False, end_of_word_suffix=suffix)
    tokens.train_from_iterator([text.lower() if lower else text for text in TEXTS], trainer)
    return [tuple(pair) for pair in json.loads(tokens.to_str())["model"]["merges"]]


def byte_pairs(folder: Path, tokens: list[str], merges: list[tuple[str, str]]) -> None:
    """``vocab.json`` and ``merges.txt``."""
    write(folder, "vocab.json", {token: number for number, token in enumerate(dict.fromkeys(tokens))})
    pairs = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{pairs}", encoding="utf-8")


def sentence_pieces(**settings: Any) -> bytes:
    """A SentencePiece model."""
    content = io.BytesIO()
    usual = {"vocab_size": 600, "hard_vocab_limit": False, "normalization_rule_name": "nmt_nfkc"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=content,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
        **usual | settings,
    )
    return content.getvalue()
