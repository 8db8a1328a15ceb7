"""Sessions: conversations that remember what they have computed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .nn.connectors.connector import Rows

if TYPE_CHECKING:
    from .core.batch import Batch, Stream
    from .nn.architectures.multimodal_lm import MultimodalLM
    from .nn.decoders.writing import Writing

#: How many bytes of features of media a session keeps.
_KEPT = 256 << 20


class Session:
    """What a conversation has computed so far: of the next call only what is new is read.

    The features of media are kept by their content, up to 256 MB, and what the decoder has read for as long as the next
    prompt begins with it. Answers are those of a model without a session.
    """

    def __init__(self) -> None:
        self._past: Writing | None = None
        self._media: OrderedDict[bytes, Tensor] = OrderedDict()
        self._held = 0

    def begin(self, network: MultimodalLM, batch: Batch, room: int) -> Writing:
        """Read one prompt, as ``network.begin`` does."""
        media = {name: self._rows(network, name, batch.streams[name]) for name in network.placeholders}
        self._past = network.begin(batch, room, media=media, past=self._past)
        return self._past

    def _rows(self, network: MultimodalLM, name: str, stream: Stream) -> Rows:
        keys = [_key(name, stream, row) for row in range(len(stream))]
        new = [row for row, key in enumerate(keys) if key not in self._media]
        if new or not keys:
            made = network.bridge(
                name, stream.select(torch.tensor(new, dtype=torch.long, device=stream.owner.device))
            )
            parts = made.rows.split(made.lengths.tolist())
            for row, part in zip(new, parts, strict=True):
                self._keep(keys[row], part)
            if not keys:
                return made
        rows = [self._media[key] for key in keys]
        for key in keys:
            self._media.move_to_end(key)
        while self._held > _KEPT and len(self._media) > len(keys):
            _, oldest = self._media.popitem(last=False)
            self._held -= oldest.nbytes
        return Rows(torch.cat(rows), torch.tensor([len(part) for part in rows], device=stream.owner.device))

    def _keep(self, key: bytes, rows: Tensor) -> None:
        if key not in self._media:
            self._held += rows.nbytes
        self._media[key] = rows


def _key(name: str, stream: Stream, row: int) -> bytes:
    """A hash of all that a network is told of a segment."""
    values = stream.values[row, : int(stream.lengths[row])].cpu().contiguous()
    told = [None if part is None else part[row].tolist() for part in (stream.layout, stream.asked)]
    head = f"{name} {values.dtype} {list(values.shape)} {told}".encode()
    return hashlib.sha256(head + values.view(torch.uint8).numpy().tobytes()).digest()
