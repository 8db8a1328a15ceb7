"""Uni-Perceiver: one encoder for every modality, every task as the search for the most similar target.

Zhu et al. 2021, "Uni-Perceiver: Pre-training Unified Architecture for Generic Perception for Zero-shot and Few-shot
Tasks", arXiv:2112.01522.

An honest composition: the published weights are for another code and are not read. Classes and texts are searched
among by similarity, as published; its targets that are single words, those of masked words and of captions written
word by word, are left out. Positions are sine waves, and both directions of a search are learnt from each pair.
"""

from __future__ import annotations

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities import Audio, Image, Series, Text, Video
from ..nn.architectures.shared import Shared
from ..nn.encoders.grid import GridEncoder
from ..nn.encoders.stems import LinearStem
from ..nn.encoders.tokens import TokenEncoder
from ..nn.heads.similarity import Similarity
from ..nn.layers.blocks import block
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card

#: width, depth, heads, image side, image patch, batch, learning rate
SIZES = {
    "tiny": (128, 4, 4, 64, 8, 64, 1e-3),
    "base": (768, 12, 12, 224, 16, 256, 5e-4),
}
_VOCABULARY, _MASK, _MELS = 2048, 3, 64

CARD = Card(
    title="Uni-Perceiver",
    paper="Zhu et al. 2021, arXiv:2112.01522",
    licence="none: no weights that this reads",
    preparation="our own; a vocabulary learnt from your texts",
)


def uni_perceiver(size: str = "base") -> Spec:
    """The System for text, image, audio, video and series; training drops the modalities that the data lacks."""
    if size not in SIZES:
        raise ConfigError(f"uni_perceiver has no size {size!r}{nearest(size, SIZES)}")
    width, depth, heads, side, patch, batch, rate = SIZES[size]
    stems = {
        "image": Spec(LinearStem, patch=[patch, patch], channels=3, width=width),
        "audio": Spec(LinearStem, patch=[4], channels=_MELS, width=width),
        "video": Spec(LinearStem, patch=[2, patch, patch], channels=3, width=width),
        "series": Spec(LinearStem, patch=[8], channels=1, width=width),
    }
    encoders = {name: Spec(GridEncoder, stem=stem) for name, stem in stems.items()}
    encoders["text"] = Spec(TokenEncoder, vocabulary=_VOCABULARY, width=width, mask_id=_MASK)
    return Spec(
        System,
        modalities={
            "image": Spec(Image, size=side),
            "audio": Spec(Audio, mels=_MELS),
            "video": Spec(Video, frames=8, size=side // 2),
            "series": Spec(Series, channels=1),
            "text": Spec(Text, vocabulary=_VOCABULARY),
        },
        model=Spec(
            Shared,
            encoders=encoders,
            trunk=Spec(
                Transformer,
                width=width,
                depth=depth,
                block=block(width=width, heads=heads, hidden=4 * width),
            ),
            norm=Spec(LayerNorm, width=width),
            similarity=Spec(Similarity),
            language="text",
        ),
        objectives={},
        contrastive=Spec(Contrastive),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=batch, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=rate),
        ),
    )
