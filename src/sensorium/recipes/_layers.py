"""Trunks whose layers are of several kinds, in an order that a public config lists or that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..weights.config import Config
from ._rope import FULL, SLIDING

Kind = TypeVar("Kind")


def layers(trunk: Spec) -> list[Spec]:
    """The Spec of each block."""
    kinds = trunk.block if isinstance(trunk.block, list) else [trunk.block]
    return [kinds[index % len(kinds)] for index in range(trunk.depth)]


def in_turn(kinds: Sequence[Kind], make: Callable[[Kind], Spec]) -> Spec | list[Spec]:
    """The blocks of a trunk whose layers are of these kinds: one Spec, if all are alike, else the shortest list that
    gives them in turn, again and again.
    """
    found = range(1, len(kinds) + 1)
    period = next(n for n in found if all(kind == kinds[i % n] for i, kind in enumerate(kinds)))
    return make(kinds[0]) if period == 1 else [make(kind) for kind in kinds[:period]]


def layer_types(config: Config, usual: Sequence[str], window: int | None) -> list[str]:
    """Which layers see everything before (``FULL``) and which what is near (``SLIDING``), as a config lists them, by
    default the ``usual``.
    """
    found = config.take("layer_types", list[str] | None, None) or list(usual)
    if len(found) != len(usual):
        raise config.error("layer_types", f"expected one for each of {len(usual)} layers, found {len(found)}")
    for kind in found:
        if kind not in (FULL, SLIDING):
            raise CapabilityError(
                str(
                    config.error(
                        "layer_types", f"only {FULL!r} and {SLIDING!r} are supported, found {kind!r}"
                    )
                )
            )
    if SLIDING in found and window is None:
        raise config.error("layer_types", f"found {SLIDING!r}, but the config gives no window")
    return found


def windowed(trunk: Spec, kinds: Sequence[str], window: int | None) -> Spec:
    """The same trunk, whose layers of the kind ``SLIDING`` look less than ``window`` places away."""
    plain = trunk.block
    slides = plain.set("attention.window", window)
    return trunk.replace(block=in_turn(kinds, lambda kind: slides if kind == SLIDING else plain))


def window_of(trunk: Spec) -> int | None:
    """How far its sliding layers look; None without any."""
    return next((window for block in layers(trunk) if (window := block.attention.window) is not None), None)


def types_of(trunk: Spec) -> list[str]:
    """The kinds of its layers."""
    return [FULL if block.attention.window is None else SLIDING for block in layers(trunk)]


def sliding_fields(trunk: Spec) -> dict[str, Any]:
    """The fields of a config that say how far which layers look; no width of windows where there are none."""
    window = window_of(trunk)
    return {"layer_types": types_of(trunk)} | ({} if window is None else {"sliding_window": window})
