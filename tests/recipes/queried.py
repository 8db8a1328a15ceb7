"""What the tests of BLIP-2 and InstructBLIP share: batches with pictures, and both kinds of language models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from modalities import language_layouts
from recipes.language import alone as without_padding
from recipes.language import greedy, real, same_logits, sequences
from recipes.parity import close, reference
from recipes.pictured import message, picture
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, OPTConfig, T5Config

from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.nn.decoders.seq2seq import Seq2Seq
from sensorium.objectives import NextToken
from sensorium.public import Opened, open_public, save_public
from sensorium.speaking import conversation

PLACE, QUERIES = 98, 5
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
          "image_size": 32, "patch_size": 8}  # fmt: skip
QFORMER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
           "vocab_size": 60, "max_position_embeddings": 20, "cross_attention_frequency": 2}  # fmt: skip
OPT = {"hidden_size": 48, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99,
       "max_position_embeddings": 80, "word_embed_proj_dim": 48}  # fmt: skip
LLAMA = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": 99}  # fmt: skip
T5 = {"d_model": 48, "d_kv": 10, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
      "decoder_start_token_id": 0}  # fmt: skip


def trunk(name: str) -> Any:
    """The config of a tiny language model."""
    if name == "opt":
        return OPTConfig(**OPT)
    if name == "llama":
        return LlamaConfig(**LLAMA)
    return T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def batch() -> tuple[Tensor, Batch]:
    """Two pictures in the first sequence, one in the second, one in the third; 6 learnt tokens or fewer."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(4, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 2 * QUERIES + 12), generator=generator)
    ids[0, : 2 * QUERIES] = ids[1, :QUERIES] = ids[2, :QUERIES] = PLACE
    lengths = [2 * QUERIES + 12, 2 * QUERIES + 10, 2 * QUERIES + 8]
    given = sequences(ids, lengths, first=2 * QUERIES + 6, image=(pixels, [32] * 4, [0, 0, 1, 2]))
    return pixels, given


def same_language(given: Batch, pixels: Tensor, ours: Any, theirs: Any, **more: Tensor) -> None:
    """Logits, loss and the logits after a prompt, with either kind of language model."""
    words = given.streams["text"]
    seen = {"pixel_values": pixels.movedim(-1, 1), **more}
    attended = real(words.values, words.lengths.tolist())
    if not isinstance(ours.decoder, Seq2Seq):
        expected = theirs(input_ids=words.values, attention_mask=attended, **seen)
        same_logits(given, ours, expected.logits)
        return
    first = int(words.learnt[0].nonzero()[0])
    labels = words.values[:, first:].masked_fill(~words.learnt[:, first:], -100)
    expected = theirs(input_ids=words.values[:, :first], labels=labels, **seen)
    found = ours(given)
    close(found.language.logits, expected.logits[labels >= 0])
    total = NextToken(stream="text").totals(found)["language"]
    close(
        total / len(found.language.target), F.cross_entropy(expected.logits.flatten(0, 1), labels.flatten())
    )
    start = torch.zeros(len(words), 1, dtype=torch.long)
    after = theirs(input_ids=words.values, attention_mask=attended, decoder_input_ids=start, **seen)
    close(ours.begin(given).logits, after.logits[:, 0])


def alone(given: Batch, row: int) -> Batch:
    """One sequence of a batch, without padding, with its media and what is asked about them."""
    one = without_padding(given, row)
    asked = given.streams["image"].asked
    if asked is not None:
        asked = asked[given.streams["image"].owner == row]
        asked = asked[:, : int((asked >= 0).sum(1).max())]
    image = replace(one.streams["image"], asked=asked)
    return Batch({**one.streams, "image": image}, one.keys, one.concept)


def same_writing(given: Batch, pixels: Tensor, ours: Any, theirs: Any, **more: Tensor) -> None:
    """24 tokens: as the reference, in one batch as one by one. ``more`` has a row for each picture."""
    found = greedy(ours, given, 24)
    owner = given.streams["image"].owner
    for row in range(len(given)):
        one = alone(given, row)
        assert greedy(ours, one, 24) == [found[row]]
        written = theirs.generate(
            pixels[owner == row].movedim(-1, 1),
            input_ids=one.streams["text"].values,
            **{name: value[owner == row] for name, value in more.items()},
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert written[0, -24:].tolist() == found[row]


def vocabulary(name: str, folder: Path) -> Any:
    """The tokenizer of a language model."""
    folder.mkdir()
    getattr(language_layouts, name)(folder)
    return AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def the_whole_way(cls: Any, made: Any, processor: Any, folder: Path, questions: list[str]) -> Opened:
    """A picture and a question become what the processor of the reference makes of them, and give its logits; so do
    the files that we write, opened by us and by the reference.
    """
    tokens = processor.tokenizer
    made.text_config.vocab_size, made.image_token_index = len(tokens), tokens.convert_tokens_to_ids("<image>")
    theirs = reference(cls, made, "random").float()
    theirs.save_pretrained(folder / "theirs")
    processor.save_pretrained(folder / "theirs")
    opened = open_public(folder / "theirs")
    save_public(folder / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = cls.from_pretrained(folder / "ours", attn_implementation="sdpa").eval()
    prepares = type(processor).from_pretrained(folder / "ours", backend="pil")
    shown = picture(40, 50)
    for question in questions:
        for network in (opened, open_public(folder / "ours")):
            network.network.eval()
            words = network.modalities["text"]
            item = conversation([message("user", shown, question)], network.modalities, words)
            given = collate([item], network.modalities)
            for model, prepare in ((theirs, processor), (again, prepares)):
                expected = dict(prepare(images=shown, text=question, return_tensors="pt"))
                image = given.streams["image"]
                pixels = network.network.towers["image"].embedding.values(image.values)
                torch.testing.assert_close(pixels.movedim(-1, 1), expected["pixel_values"], atol=1e-6, rtol=0)
                assert given.streams["text"].values.tolist() == expected["input_ids"].tolist()
                if image.asked is not None:
                    assert image.asked.tolist() == expected["qformer_input_ids"].tolist()
                if isinstance(network.network.decoder, Seq2Seq):
                    expected["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long)
                logits = model(**expected).logits[:, -1]
                torch.testing.assert_close(network.network.begin(given).logits, logits, atol=1e-4, rtol=1e-4)
    return opened
