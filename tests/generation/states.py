"""States for tests of decoding: a public language model that reads everything again for each token, and a script."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 32
STOP = 2


def llama(seed: int, spread: float = 1.0) -> LlamaForCausalLM:
    """A tiny random model whose next tokens are far from alike."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=spread,
        bos_token_id=1,
        eos_token_id=STOP,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).double().eval()


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Of unequal lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(3, VOCABULARY, (2 + (3 * index) % 7,), generator=generator).tolist()
        for index in range(count)
    ]


class Recomputed:
    """The state of a public model without caches: right padding changes nothing under causal attention."""

    def __init__(self, model: LlamaForCausalLM, history: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.history = [list(ids) for ids in history]
        self.written: list[list[int]] = [[] for _ in history]
        self.rows = 0  # computed in all
        self.logits = self._read()

    def extend(self, ids: Tensor) -> None:
        for sequence, token in zip(self.written, ids.tolist(), strict=True):
            sequence.append(token)
        self.logits = self._read()

    def select(self, rows: Tensor) -> None:
        self.logits = self.logits[rows]
        self.history = [list(self.history[row]) for row in rows.tolist()]
        self.written = [list(self.written[row]) for row in rows.tolist()]

    @torch.no_grad()
    def _read(self) -> Tensor:
        whole = [torch.tensor(a + b) for a, b in zip(self.history, self.written, strict=True)]
        self.rows += len(whole)
        lengths = torch.tensor([len(ids) for ids in whole])
        padded = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True)
        return self.model(padded).logits[torch.arange(len(whole)), lengths - 1]


class Script:
    """Sequences whose tokens are told beforehand."""

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int = 300) -> None:
        self.texts, self.vocabulary = [list(text) for text in texts], vocabulary
        self.history: list[list[int]] = [[] for _ in texts]
        self.step = 0

    @property
    def logits(self) -> Tensor:
        ids = torch.tensor([text[min(self.step, len(text) - 1)] for text in self.texts])
        return 10.0 * torch.nn.functional.one_hot(ids, self.vocabulary)

    def extend(self, ids: Tensor) -> None:
        self.step += 1

    def select(self, rows: Tensor) -> None:
        self.texts = [self.texts[row] for row in rows.tolist()]
        self.history = [self.history[row] for row in rows.tolist()]
