"""The modalities that come with the package: one class each, and ``standard`` for one object of each."""

from __future__ import annotations

from ..core import Modality
from .audio import Audio
from .frames import Clip
from .image import Image
from .series import Series
from .sound_file import Sound
from .text import Text
from .video import Video

__all__ = ["Audio", "Clip", "Image", "Series", "Sound", "Text", "Video", "standard"]


def standard() -> dict[str, Modality]:
    """One object of each modality, with default settings, by name."""
    modalities: tuple[Modality, ...] = (Text(), Image(), Audio(), Video(), Series())
    return {modality.name: modality for modality in modalities}
