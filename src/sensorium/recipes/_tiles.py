"""What pages of models that read pictures in tiles share: whether a checkpoint does so, and where its tower is then."""

from __future__ import annotations

from ..core.spec import Spec
from ..modalities.tiles import AnyResolution, AspectGrid, EdgeGrid
from ..nn.encoders.tiled import Tiled

_TILES = (AnyResolution, AspectGrid, EdgeGrid)


def last_step(image: Spec) -> Spec:
    """The last step of the geometry of a public checkpoint."""
    return image.geometry[-1] if isinstance(image.geometry, list) else image.geometry


def in_tiles(image: Spec) -> bool:
    """Whether a picture is prepared as several."""
    return last_step(image).cls in _TILES


def reader(image: Spec, tower: Spec) -> Spec:
    """What reads pictures so prepared with ``tower``."""
    return Spec(Tiled, tower=tower) if in_tiles(image) else tower


def held(reader: Spec, name: str) -> tuple[str, Spec]:
    """The tower of a reader, after its own name in the network, of which ``name`` is the reader's."""
    return (f"{name}tower.", reader.tower) if reader.cls is Tiled else (name, reader)
