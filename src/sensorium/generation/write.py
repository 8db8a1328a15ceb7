"""Writing text token by token: the likeliest or a drawn one each time, many sequences at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch

from ..core.errors import ConfigError
from ..core.random import seed_of
from .beams import search
from .controls import Controls, nothing_left
from .draft import Draft
from .draw import Noise, logprobs, next_tokens
from .settings import Decoding
from .state import State
from .text import Decode
from .written import Piece, Written


def write(
    state: State,
    how: Decoding,
    *,
    stop_ids: Collection[int],
    decode: Decode,
    seeds: Sequence[int] | None = None,
) -> list[list[Written]]:
    """The ``how.n`` texts of each prompt that ``state`` has read; of a beam search, the best first.

    A sequence ends with a token of ``stop_ids``, a string of ``how.stop`` or ``how.max_new_tokens``. It depends on its
    prompt and its seed alone, not on what is written beside it: ``seeds`` holds one for each prompt (by default,
    ``how.seed`` for all). ``decode`` gives the text of tokens. Raises ConfigError for settings that name a token
    outside the vocabulary or leave none to choose, DataError for logits that are not numbers. ``state`` is used up.
    """
    if how.beams > 1:
        return search(state, how, stop_ids=stop_ids, decode=decode)
    drafts = _drafts(state, how, decode, by_piece=bool(how.stop))
    for _ in _rounds(state, how, stop_ids, drafts, seeds):
        pass
    written = [draft.written() for draft in drafts]
    return [written[start : start + how.n] for start in range(0, len(written), how.n)]


def stream(
    state: State,
    how: Decoding,
    *,
    stop_ids: Collection[int],
    decode: Decode,
    seeds: Sequence[int] | None = None,
) -> Iterator[Piece]:
    """What ``write`` writes as it comes, in whole characters and without what a stop string may take back.

    Sequence ``i * how.n + j`` is text j of prompt i; its last piece holds the whole. Raises what ``write`` raises.
    """
    if how.beams > 1:
        raise ConfigError(f"a beam search cannot be streamed: beams must be 1, found {how.beams}")
    drafts = _drafts(state, how, decode, by_piece=True)
    return (
        Piece(place, text, None if drafts[place].reason is None else drafts[place].written())
        for pieces in _rounds(state, how, stop_ids, drafts, seeds)
        for place, text in pieces
        if text or drafts[place].reason is not None
    )


def _drafts(state: State, how: Decoding, decode: Decode, *, by_piece: bool) -> list[Draft]:
    return [Draft(how, decode, by_piece=by_piece) for _ in range(len(state.history) * how.n)]


@torch.no_grad()
def _rounds(
    state: State,
    how: Decoding,
    stop_ids: Collection[int],
    drafts: Sequence[Draft],
    seeds: Sequence[int] | None,
) -> Iterator[list[tuple[int, str]]]:
    """One token more for each draft that has not ended: the places of those that grew, and their new text."""
    if not drafts:
        return
    prompts, ends = list(state.history), frozenset(stop_ids)
    device, vocabulary = state.logits.device, state.logits.shape[1]
    noise = Noise(_seeds(how, seeds, len(prompts)), device) if how.samples else None
    if how.n > 1:
        state.select(torch.arange(len(prompts), device=device).repeat_interleave(how.n))
        prompts = [prompt for prompt in prompts for _ in range(how.n)]
    controls = Controls(how, prompts, ends, vocabulary, device)
    rows = list(range(len(drafts)))  # the draft of each sequence of the state
    for step in range(how.max_new_tokens):
        ids = next_tokens(controls(state.logits), how, None if noise is None else noise.at(step))
        chosen = ids.tolist()
        live = [row for row, place in enumerate(rows) if drafts[place].reason is None]
        if vocabulary in chosen:
            for row in live:
                if chosen[row] == vocabulary:
                    raise nothing_left(state.logits[row], rows[row], step)
            ids = ids.clamp(max=vocabulary - 1)
        scores = None if how.logprobs is None else logprobs(state.logits, ids, how.logprobs)
        pieces = []
        for row in live:
            draft, token = drafts[rows[row]], chosen[row]
            if token in ends:
                text = draft.finish("stop")
            else:
                text = draft.add(token, None if scores is None else scores[row])
                if step + 1 == how.max_new_tokens and draft.reason is None:
                    text += draft.finish("length")
            pieces.append((rows[row], text))
        yield pieces
        live = [row for row in live if drafts[rows[row]].reason is None]
        if not live:
            return
        if 2 * len(live) <= len(rows):  # not for each that ends: to drop one copies the caches of all others
            kept = torch.tensor(live, device=device)
            state.select(kept)
            controls.select(kept)
            if noise is not None:
                noise.select(live)
            ids, rows = ids[kept], [rows[row] for row in live]
        state.extend(ids)
        controls.extend(ids)


def _seeds(how: Decoding, seeds: Sequence[int] | None, prompts: int) -> list[int]:
    """One for each text. The first of a prompt is the same however many there are."""
    seeds = [how.seed] * prompts if seeds is None else seeds
    if len(seeds) != prompts:
        raise ConfigError(f"seeds must hold one for each of the {prompts} prompts, found {len(seeds)}")
    return [seed_of(seed, text) if text else seed for seed in seeds for text in range(how.n)]
