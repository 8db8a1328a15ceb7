"""Sensorium: train, evaluate and use multimodal models on your own text, images, audio, video and sensor data.

Every public name is imported when it is first used (PEP 562), so that ``import sensorium`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import (
        Batch,
        CapabilityError,
        CheckpointError,
        ConfigError,
        DataError,
        Modality,
        Sample,
        Segment,
        Spec,
        Stream,
    )
    from .core.system import System
    from .generation.settings import Decoding
    from .model import Model, load
    from .providers import Remote
    from .session import Session

    __version__: str

__all__ = [
    "Batch",
    "CapabilityError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Decoding",
    "Modality",
    "Model",
    "Remote",
    "Sample",
    "Segment",
    "Session",
    "Spec",
    "Stream",
    "System",
    "__version__",
    "load",
]

#: Where the names live that are not in ``sensorium.core``.
_ELSEWHERE = {
    "Decoding": ".generation.settings",
    "Model": ".model",
    "Remote": ".providers",
    "Session": ".session",
    "System": ".core.system",
    "load": ".model",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version(__name__)
    else:
        value = getattr(importlib.import_module(_ELSEWHERE.get(name, ".core"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
