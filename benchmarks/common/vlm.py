"""A multimodal language model of usual size, as transformers has it and as ours reads it: SigLIP-B/16 at 128 pixels
(64 rows a picture) before a LLaMA of 135 million parameters, random weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.batch import Batch, Stream
from sensorium.public import open_network
from sensorium.weights.family import Folder

VOCABULARY, PLACE = 49_152, 49_151
SIDE, ROWS = 128, 64


def both(depth: int = 30) -> tuple[Any, Any]:
    """transformers' model, and ours with the same weights."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=depth, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=VOCABULARY, max_position_embeddings=8192, rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )  # fmt: skip
    vision = SiglipVisionConfig(image_size=SIDE, patch_size=16, vision_use_head=False)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=PLACE, image_seq_length=ROWS,
        vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    theirs = LlavaForConditionalGeneration(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        _, ours = open_network(Folder(Path(folder)))
        ours.load_state_dict({name: value.clone() for name, value in ours.state_dict().items()}, assign=True)
    for part in ours.modules():  # both sides are given pixels in the network's range
        if isinstance(getattr(part, "values", None), nn.Module):
            part.values = nn.Identity()
    return theirs, ours


def stream(values: Tensor, lengths: Tensor, learnt: Tensor | None = None) -> Stream:
    """One segment for each sample."""
    count = len(values)
    zeros, no = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool)
    return Stream(
        values=values, lengths=lengths, owner=torch.arange(count), order=zeros, ordinal=zeros, turn=zeros,
        content=no, target=~no, hidden=no, corrupt=no, seed=zeros, learnt=learnt,
    )  # fmt: skip


def samples(lengths: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Batch]:
    """Ids padded on the right with a picture at the beginning of each, pixels (channels first), and our batch: the
    second half of each sequence's words is learnt.
    """
    generator = torch.Generator().manual_seed(seed)
    count, longest = len(lengths), int(lengths.max())
    pixels = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    ids = torch.randint(5, PLACE, (count, longest), generator=generator)
    ids[:, 1 : 1 + ROWS] = PLACE
    place = torch.arange(longest)
    ids = ids.masked_fill(place >= lengths[:, None], 0)
    middle = (1 + ROWS + lengths) // 2
    learnt = (place >= middle[:, None]) & (place < lengths[:, None])
    image = stream(pixels.movedim(1, -1).contiguous(), torch.full((count,), SIDE))
    keys, concept = tuple(map(str, range(count))), torch.arange(count)
    return ids, pixels, Batch({"image": image, "text": stream(ids, lengths, learnt)}, keys, concept)
