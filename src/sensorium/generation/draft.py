"""A sequence that is being written: its tokens, the text that is certain, and why it ended."""

from __future__ import annotations

from .settings import Decoding
from .text import Decode, Detokenizer, Stopper
from .written import Reason, TokenLogprob, Written


class Draft:
    """Grows by tokens until it has a ``reason`` to end.

    ``by_piece``: the text is made with each token, which streams and stop strings need; otherwise once, at the end.
    """

    def __init__(self, how: Decoding, decode: Decode, *, by_piece: bool) -> None:
        self.reason: Reason | None = None
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] | None = None if how.logprobs is None else []
        self._decode = decode
        self._detokenizer = Detokenizer(decode) if by_piece else None
        self._stopper = Stopper(how.stop)
        self._text: list[str] = []

    def add(self, token: int, logprob: TokenLogprob | None = None) -> str:
        """The text that is certain with this token."""
        self._ids.append(token)
        if self._logprobs is not None and logprob is not None:
            self._logprobs.append(logprob)
        return "" if self._detokenizer is None else self._give(self._detokenizer.add(token))

    def finish(self, reason: Reason) -> str:
        """The text that was held back, at the end for any reason but a stop string."""
        if self._detokenizer is None:
            self.reason = reason
            return ""
        piece = self._give(self._detokenizer.finish())
        if self.reason is None:
            self.reason = reason
            self._text.append(self._stopper.finish())
            piece += self._text[-1]
        return piece

    def written(self) -> Written:
        """What it has become. It must have ended."""
        if self.reason is None:
            raise RuntimeError("this text has not ended")
        text = self._decode(self._ids) if self._detokenizer is None else "".join(self._text)
        return Written(self._ids, text, self.reason, self._logprobs)

    def _give(self, piece: str) -> str:
        piece = self._stopper.add(piece)
        if self._stopper.stopped:
            self.reason = "stop_string"
        self._text.append(piece)
        return piece
