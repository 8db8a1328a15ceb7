"""Video-ChatGPT: frames through CLIP, averaged over time and over space, before a language model.

Maaz et al. 2023, "Video-ChatGPT: Towards Detailed Video Understanding via Large Vision and Language Models",
arXiv:2306.05424.

A composition: its published weights are those of one linear map between CLIP and LLaMA, in a file of their own kind
that is not read here. Both parts are compared with others on their own pages, the whole is not. A clip has the rows of
the frames that it has, where its authors fill up to 100 with zeros; words are those of the trunk's own template.
"""

from __future__ import annotations

import math

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.chat.placeholders import SpaceTime
from ..modalities.video import Video
from ..nn.connectors.projector import Projector
from ..nn.connectors.space_time import SpaceTimePooled
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.tiled import Tiled
from ..weights.card import Card
from ._joined import Joined, joined
from .clip import clip
from .llama import llama

#: The sizes of CLIP and LLaMA, and at most how many frames.
SIZES = {"tiny": ("tiny", "tiny", 4), "7b": ("l14", "7b", 100)}
#: What is written for a clip, what begins it, holds the place of a row and ends it.
WRITTEN, BEGIN, ROW, END = "<video>", "<vid_start>", "<vid_patch>", "<vid_end>"

CARD = Card(
    title="Video-ChatGPT",
    paper="Maaz et al. 2023, arXiv:2306.05424",
    licence="that of the parts",
    preparation="up to 100 frames, each as CLIP's pictures; frames + 256 rows a clip",
)


def video_chatgpt(size: str = "7b") -> Spec:
    """The System with fresh weights."""
    if size not in SIZES:
        raise ConfigError(f"video_chatgpt has no size {size!r}{nearest(size, SIZES)}")
    eye, reader, frames = SIZES[size]
    seeing = clip(eye)
    return of_parts(llama(reader), seeing.model.towers["image"], seeing.modalities["image"], frames=frames)


def of_parts(trunk: Spec, tower: Spec, image: Spec, *, frames: int = 100) -> Spec:
    """The System of a language model's System and of CLIP's image tower with its modality. As published, the map
    between them learns alone: ``--lock '^(towers|decoder)'``.
    """
    places = math.prod(tower.embedding.positions.grid)
    projector = Spec(Projector, inner=tower.trunk.width, width=trunk.model.decoder.trunk.width)
    medium = Joined(
        modality=Spec(Video, frames=frames, geometry=image.geometry, mean=None),
        tower=Spec(Tiled, tower=Spec(LayerFeatures, tower=tower, layers=[-2])),
        connector=Spec(SpaceTimePooled, tokens=places, projector=projector),
        placeholder=Spec(SpaceTime, written=WRITTEN, token=ROW, places=places, before=BEGIN, after=END),
    )
    return joined(trunk, {"video": medium})
