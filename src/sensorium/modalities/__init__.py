"""The modalities that come with the package: one class each, and ``standard`` for one object of each."""

from __future__ import annotations

from ..core import Modality
from .audio import Audio
from .clips import Clip
from .image import Image
from .mel_picture import MelPicture
from .pretrained_text import PretrainedText
from .series import Series
from .sound_file import Sound
from .text import Text
from .video import Video
from .waveform import Waveform

__all__ = [
    "Audio",
    "Clip",
    "Image",
    "MelPicture",
    "PretrainedText",
    "Series",
    "Sound",
    "Text",
    "Video",
    "Waveform",
    "standard",
]


def standard() -> dict[str, Modality]:
    """One object of each modality, with default settings, by name."""
    modalities: tuple[Modality, ...] = (Text(), Image(), Audio(), Video(), Series())
    return {modality.name: modality for modality in modalities}
