"""What tests of pages of models that read pictures do: tiny processors, and a conversation all the way to logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from recipes.language import alone, greedy, reread
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.public import Opened, open_public
from sensorium.speaking import conversation


def tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """Bytes, a few pairs of them, and special tokens, of which some have names by which processors ask for them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("e", "r"), ("Ġ", "t"), ("Ġt", "h"), (":", "Ċ")]
    pieces = [*letters, *("".join(pair) for pair in merges)]
    found = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, merges))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=found,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=named,
    )
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


def picture(height: int, width: int, seed: int = 0) -> Pillow.Image:
    """Soft random colours."""
    drawn = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Pillow.fromarray(drawn).resize((width, height), Pillow.Resampling.BICUBIC)


def message(role: str, *parts: Any) -> dict[str, Any]:
    """Texts and pictures."""
    return {
        "role": role,
        "content": [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
            for part in parts
        ],
    }


def read_alike(
    theirs: Any, processor: Any, messages: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[Opened, Batch, Mapping[str, Tensor]]:
    """What is read from the files of a model and its processor: it gives the same ids as the processor, and from the
    same pictures the same logits. Returns it, its batch, and what the processor gave.
    """
    theirs.save_pretrained(folder)
    processor.save_pretrained(folder)
    opened = open_public(folder)
    network = opened.network.double()
    batch = collate([conversation(messages, opened.modalities, opened.modalities["text"])], opened.modalities)
    text = processor.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    pictures = [part["image"] for one in messages for part in one["content"] if part["type"] == "image"]
    given = processor(text=text, images=pictures, return_tensors="pt", add_special_tokens=False)
    assert batch.streams["text"].values.tolist() == given["input_ids"].tolist()
    double = {name: x.double() if x.is_floating_point() else x for name, x in given.items()}
    with torch.no_grad():
        expected, found = theirs(**double).logits[:, -1], network.begin(batch).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # their pixels are in single precision
    return opened, batch, given


@torch.no_grad()
def written_alike(theirs: Any, ours: Any, batch: Batch, media: Any, count: int) -> None:
    """Greedy writing is that of the reference, in one batch as one by one, with a cache as without. ``media`` gives
    the arguments of the reference for one sequence of the batch.
    """
    found = greedy(ours, batch, count)
    for row, length in enumerate(batch.streams["text"].lengths.tolist()):
        one = alone(batch, row)
        assert greedy(ours, one, count) == [found[row]]
        expected = theirs.generate(
            one.streams["text"].values,
            **media(one),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert expected[0, length:].tolist() == found[row]
    assert reread(ours, batch, 4) == [row[:4] for row in found]
