"""Small vocabularies of language models, learnt here, in the layout of public checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modalities.layouts import byte_pairs, learn_merges, sentence_pieces, write
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"]
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def llama(folder: Path, name: str = "LlamaTokenizer", **settings: Any) -> None:
    """A SentencePiece model of byte pairs, as of LLaMA 1 and 2, and an image token behind it."""
    content = sentence_pieces(
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        vocab_size=900,
    )
    (folder / "tokenizer.model").write_bytes(content)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write(folder, "special_tokens_map.json", special)
    write(folder, "added_tokens.json", {"<image>": 900, "<pad>": 901})
    config = {"tokenizer_class": name, "add_bos_token": True, "add_eos_token": False, "model_max_length": 512}
    extra = {"additional_special_tokens": ["<image>"], "pad_token": "<pad>"}
    write(folder, "tokenizer_config.json", config | special | extra | settings)


def gemma(folder: Path) -> None:
    """A SentencePiece model alone, with spaces at their places."""
    llama(folder, "GemmaTokenizer", add_bos_token=True, bos_token="<s>", eos_token="</s>", mask_token=None)


def legacy_llama(folder: Path, model: str = "llava") -> None:
    """``tokenizer.json`` as LLaVA's first: a space before whatever follows a special token."""
    llama(folder)
    tokens = _byte_fallback(folder)
    tokens.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokens.decoder = decoders.Sequence(parts)
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokens.add_special_tokens(["<unk>", "<s>", "</s>", "<image>", "<pad>"])
    tokens.save(str(folder / "tokenizer.json"))
    for name in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder, "tokenizer_config.json", config | {"legacy": False})
    write(folder, "config.json", {"model_type": model})


def llama3(folder: Path, name: str = "PreTrainedTokenizerFast") -> None:
    """``tokenizer.json`` of bytes, as of LLaMA 3."""
    rules = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    merges = learn_merges(rules, "")
    table = {token: number for number, token in enumerate(dict.fromkeys([*_BYTES, *map("".join, merges)]))}
    tokens = Tokenizer(models.BPE(vocab=table, merges=merges, ignore_merges=True))
    tokens.pre_tokenizer, tokens.decoder = rules, decoders.ByteLevel()
    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    tokens.add_special_tokens([*special, *(f"<|reserved_special_token_{number}|>" for number in range(9))])
    tokens.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", len(table))],
            ),
        ]
    )
    tokens.save(str(folder / "tokenizer.json"))
    decoder = {str(number): _state(one) for number, one in tokens.get_added_tokens_decoder().items()}
    config = {"bos_token": special[0], "eos_token": special[-1], "clean_up_tokenization_spaces": True}
    config |= {"tokenizer_class": name, "model_max_length": 512, "added_tokens_decoder": decoder}
    write(folder, "tokenizer_config.json", config)


def qwen2(folder: Path, **settings: Any) -> None:
    """``vocab.json`` and ``merges.txt``, and all special tokens in the small files."""
    merges = learn_merges(pre_tokenizers.ByteLevel(add_prefix_space=False), "")
    tokens = list(dict.fromkeys([*_BYTES, *map("".join, merges)]))
    byte_pairs(folder, tokens, merges)
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    added = {
        str(len(tokens) + place): flags | {"content": one, "special": True} for place, one in enumerate(_CHAT)
    }
    added[str(len(tokens) + len(_CHAT))] = flags | {"content": "<think>", "special": False}
    config = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>"}
    config |= {"unk_token": None, "pad_token": "<|endoftext|>", "errors": "replace", "model_max_length": 512}
    config |= {
        "added_tokens_decoder": added,
        "additional_special_tokens": _CHAT[1:],
        "add_prefix_space": False,
    }
    write(folder, "tokenizer_config.json", config | settings)


def opt(folder: Path) -> None:
    """GPT-2's class with other special tokens, one before each text."""
    merges = learn_merges(pre_tokenizers.ByteLevel(add_prefix_space=False), "")
    byte_pairs(folder, ["<s>", "<pad>", "</s>", "<unk>", *_BYTES, *map("".join, merges)], merges)
    end = {"content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": end, "eos_token": end, "unk_token": end, "pad_token": end | {"content": "<pad>"}}
    write(folder, "special_tokens_map.json", special)
    typed = {role: token | {"__type": "AddedToken"} for role, token in special.items()}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "model_max_length": 512}
    write(folder, "tokenizer_config.json", config | typed)


def cohere(folder: Path) -> None:
    """``tokenizer.json`` with the roles of a dialogue as special tokens."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    rules = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    merges = learn_merges(rules, "")
    special = ["<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>"]
    special += ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"]
    table = {one: at for at, one in enumerate(dict.fromkeys([*special, *_BYTES, *map("".join, merges)]))}
    tokens = Tokenizer(models.BPE(vocab=table, merges=merges))
    tokens.normalizer, tokens.pre_tokenizer, tokens.decoder = normalizers.NFC(), rules, decoders.ByteLevel()
    tokens.add_special_tokens(special)
    tokens.post_processor = processors.TemplateProcessing(
        single="<BOS_TOKEN> $A", pair="<BOS_TOKEN> $A <BOS_TOKEN>:1 $B:1", special_tokens=[("<BOS_TOKEN>", 5)]
    )
    tokens.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>"}
    named |= {"unk_token": "<UNK>", "cls_token": "<CLS>", "sep_token": "<SEP>", "mask_token": "<MASK_TOKEN>"}
    config = {"tokenizer_class": "CohereTokenizerFast", "add_bos_token": True, "model_max_length": 512}
    write(folder, "tokenizer_config.json", config | named)


def t5(folder: Path, **settings: Any) -> None:
    """A SentencePiece model, and sentinels behind it."""
    (folder / "spiece.model").write_bytes(sentence_pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write(folder, "special_tokens_map.json", special)
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 512}
    write(folder, "tokenizer_config.json", config | special | settings)


def smol(folder: Path, model: str = "smolvlm") -> None:
    """GPT-2's class, but ``tokenizer.json`` splits digits."""
    rules = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>"]
    merges = learn_merges(rules, "")
    table = {one: at for at, one in enumerate(dict.fromkeys([*special[:3], *_BYTES, *map("".join, merges)]))}
    tokens = Tokenizer(models.BPE(vocab=table, merges=merges))
    tokens.pre_tokenizer, tokens.decoder = rules, decoders.ByteLevel()
    tokens.add_special_tokens([*special, "<end_of_utterance>"])
    tokens.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|im_start|>",
        "eos_token": "<end_of_utterance>",
    }
    config |= {"pad_token": "<|im_end|>", "unk_token": "<|endoftext|>", "model_max_length": 512}
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    write(folder, "tokenizer_config.json", config | {"extra_special_tokens": named} | named)
    write(folder, "config.json", {"model_type": model})


def _byte_fallback(folder: Path) -> Tokenizer:
    """The vocabulary of a SentencePiece model, with all merges that make its pieces."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=(folder / "tokenizer.model").read_bytes())
    table = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    merges = [(one[:cut], one[cut:]) for one in table for cut in range(1, len(one))]
    merges = [pair for pair in merges if pair[0] in table and pair[1] in table]
    bpe = models.BPE(vocab=table, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    return Tokenizer(bpe)


def _state(token: Any) -> dict[str, Any]:
    return json.loads(json.dumps(token.__getstate__()))
