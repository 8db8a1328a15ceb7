"""The command line: ``sensorium VERB ...``. Every verb is a function; its docstring is its help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import tyro
from rich.console import Console

from ..core import SensoriumError
from .checkpoints import convert, zoo
from .data import inspect, world
from .training import demo, train
from .use import ask, chat, embed, evaluate

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "inspect": inspect,
    "evaluate": evaluate,
    "embed": embed,
    "ask": ask,
    "chat": chat,
    "world": world,
    "convert": convert,
    "zoo": zoo,
}


def _fail(reason: str) -> NoReturn:
    """One line, however long: a terminal wraps it, a log does not."""
    Console(stderr=True).print(f"error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(2) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. A user's mistake prints one line and exits with 2; there is no traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="sensorium", args=arguments, description=__doc__)
    except SensoriumError as error:
        _fail(str(error))
    except OSError as error:  # a file that cannot be read or written
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
