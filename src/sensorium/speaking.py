"""Writing text with a network: continuations of samples and answers in conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .core import CapabilityError, DataError, Modality, Sample
from .core.batch import Batch
from .core.modality import Medium
from .data.collate import collate
from .data.item import Item, Piece, prepare
from .generation.settings import Decoding
from .generation.state import State
from .generation.write import stream, write
from .generation.written import Piece as Written
from .modalities.chat.conversation import Conversation
from .modalities.chat.messages import TEXT, place, read_messages
from .nn.architectures.multimodal_lm import MultimodalLM
from .nn.architectures.network import Network
from .nn.architectures.unified import Unified
from .session import Session


@dataclass(frozen=True)
class Speaker:
    """A network that writes, with the modalities that prepare its values. CapabilityError for one that does not."""

    network: Unified | MultimodalLM
    modalities: Mapping[str, Modality]
    device: torch.device

    @staticmethod
    def of(network: Network, modalities: Mapping[str, Modality], device: torch.device) -> Speaker:
        """Raises CapabilityError for a network that does not write."""
        if not isinstance(network, Unified | MultimodalLM):
            raise CapabilityError("this model reads but does not write: it has no language head")
        return Speaker(network, modalities, device)

    @property
    def words(self) -> Any:
        """The modality of what is written."""
        return self.modalities[self.network.language]

    @torch.no_grad()
    def complete(self, samples: Sequence[Sample], how: Decoding) -> list[str]:
        """The text that continues each sample."""
        state = self._begin(samples, how)
        written = write(state, how, stop_ids=self._ends, decode=self.words.decode)
        return [best.text for best, *_ in written]

    @torch.no_grad()
    def answer(self, messages: Any, how: Decoding, session: Session | None = None) -> Iterator[Written]:
        """What follows the messages, as it is written; the last piece holds the whole."""
        state = self._read(messages, how, session)
        return stream(state, how, stop_ids=self._ends, decode=self.words.decode)

    @property
    def _ends(self) -> frozenset[int]:
        words = self.words
        return words.eos if isinstance(words, Conversation) else frozenset({words.eos})

    def _begin(self, samples: Sequence[Sample], how: Decoding) -> State:
        if isinstance(self.network, MultimodalLM):
            items = [prepare(sample, self.modalities, answer=True) for sample in samples]
            return self.network.begin(self._batch(items), how.max_new_tokens)
        language = self.network.language
        turns = [max((segment.turn for segment in sample.segments), default=0) for sample in samples]
        known = [[s for s in sample.segments if s.modality in self.modalities] for sample in samples]
        ordinals = [
            Counter((s.modality, s.turn) for s in part)[language, turn]
            for part, turn in zip(known, turns, strict=True)
        ]
        places = [len(part) for part in known], turns, ordinals, [self.words.bos] * len(samples)
        batch = self._batch([prepare(sample, self.modalities) for sample in samples])
        return self.network.begin(batch, *(torch.tensor(place, device=self.device) for place in places))

    def _read(self, messages: Any, how: Decoding, session: Session | None) -> State:
        if not isinstance(self.network, MultimodalLM) or not isinstance(self.words, Conversation):
            raise CapabilityError("this model holds no conversations: give it a prompt")
        batch = self._batch([conversation(messages, self.modalities, self.words)])
        if session is None:
            return self.network.begin(batch, how.max_new_tokens)
        return session.begin(self.network, batch, how.max_new_tokens)

    def _batch(self, items: Sequence[Item]) -> Batch:
        return collate(items, self.modalities).to(self.device)


def conversation(messages: Any, modalities: Mapping[str, Modality], words: Conversation) -> Item:
    """Messages prepared, with the beginning of an answer. Raises DataError naming the message and the part."""
    found = read_messages(messages, modalities)
    media: list[tuple[str, Medium]] = []
    for number, message in enumerate(found):
        for index, part in enumerate(message.parts):
            if part.kind == TEXT:
                continue
            modality = modalities[part.kind]
            try:
                raw = modality.load_value(part.value)
                media.append((part.kind, Medium(modality.prepare(raw), modality.layout(raw))))
            except DataError as error:
                raise error.at(field=place(number, index)) from None
    ids = words.prompt(found, [medium for _, medium in media])
    asked = words.asked(found)
    pieces = [
        Piece(kind, medium.values, 0, True, False, False, False, 0, layout=medium.layout, asked=asked)
        for kind, medium in media
    ]
    return Item("messages", 0, (*pieces, Piece(words.name, ids, 0, False, True, False, False, 0)))
