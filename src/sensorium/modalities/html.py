"""Pieces of the self-contained HTML with which a person looks at a value."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np

_LARGEST = 256  # pixels along the longest side of a shown picture
# Anchors of a dark-to-bright colour map for spectrograms, after matplotlib's magma.
_COLOURS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]])


def escape(text: str) -> str:
    """``text`` as HTML text or as a quoted attribute."""
    return html.escape(text, quote=True)


def data_uri(kind: str, content: bytes) -> str:
    """``content`` of the MIME type ``kind`` as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def shrunk(picture: np.ndarray) -> Any:
    """The Pillow picture of a uint8 array [h, w, 3], at most 256 pixels long."""
    from PIL import Image

    shown = Image.fromarray(picture)
    shown.thumbnail((_LARGEST, _LARGEST))
    return shown


def png(picture: np.ndarray) -> str:
    """The data URI of a uint8 array [h, w, 3], at most 256 pixels long."""
    buffer = io.BytesIO()
    shrunk(picture).save(buffer, "PNG")
    return data_uri("image/png", buffer.getvalue())


def coloured(values: np.ndarray) -> np.ndarray:
    """An array [h, w] as colours, uint8 [h, w, 3], from its smallest (dark) to its largest value (bright)."""
    low, high = float(values.min()), float(values.max())
    place = (values - low) / max(high - low, 1e-9)
    anchors = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(place, anchors, c) for c in _COLOURS.T], -1).astype(np.uint8)
