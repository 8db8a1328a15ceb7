"""The unified model: every modality of your data through one trunk.

Our own design. It puts together the shared trunk of BEiT-3 (Wang et al. 2022, arXiv:2208.10442), the split into
unimodal and multimodal blocks of CoCa (Yu et al. 2022, arXiv:2205.01917), contrastive alignment over every pair of
modalities (ImageBind, Girdhar et al. 2023, arXiv:2305.05665) and masked modelling (arXiv:2111.09886). There
are no public weights.
"""

from __future__ import annotations

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities import Audio, Image, Series, Text, Video
from ..nn.architectures.unified import Unified
from ..nn.encoders.grid import GridEncoder
from ..nn.encoders.stems import ConvStem, LinearStem
from ..nn.encoders.tokens import TokenEncoder
from ..nn.layers.blocks import block
from ..nn.layers.transformer import Transformer
from ..objectives import Contrastive, MaskedPatches, MaskedTokens, NextToken
from ..training.muon import Muon
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training

#: width, depth, blocks that read a segment alone, heads, embedding, image side, image patch, batch, learning rate
SIZES = {
    "tiny": (128, 4, 2, 8, 128, 64, 8, 64, 4e-3),
    "small": (384, 8, 5, 6, 256, 128, 16, 128, 2e-3),
    "base": (768, 12, 8, 12, 512, 224, 16, 256, 1e-3),
}


def unified(size: str = "tiny") -> Spec:
    """The System for text, image, audio, video and series; training drops the modalities that the data lacks."""
    if size not in SIZES:
        raise ConfigError(f"unified has no size {size!r}{nearest(size, SIZES)}")
    width, depth, alone, heads, embedding, side, patch, batch, rate = SIZES[size]
    mels, channels, vocabulary, frame = 64, 1, 2048, side // 2
    modalities = {
        "image": Spec(Image, size=side),
        "audio": Spec(Audio, mels=mels),
        "video": Spec(Video, frames=8, size=frame),
        "series": Spec(Series, channels=channels),
        "text": Spec(Text, vocabulary=vocabulary),
    }
    stems = {
        "image": Spec(ConvStem, patch=[patch, patch], channels=3, width=width),
        "audio": Spec(ConvStem, patch=[4], channels=mels, width=width),
        "video": Spec(ConvStem, patch=[1, patch, patch], channels=3, width=width),
        "series": Spec(LinearStem, patch=[8], channels=channels, width=width),
    }
    encoders = {name: Spec(GridEncoder, stem=stem) for name, stem in stems.items()}
    encoders["text"] = Spec(TokenEncoder, vocabulary=vocabulary, width=width, mask_id=3)
    return Spec(
        System,
        modalities=modalities,
        model=Spec(
            Unified,
            encoders=encoders,
            trunk=Spec(
                Transformer,
                width=width,
                depth=depth,
                block=block(width=width, heads=heads, hidden=4 * width, activation="gelu_tanh"),
            ),
            alone=alone,
            embedding=embedding,
            language="text",
        ),
        objectives={
            "language": Spec(NextToken),
            "masked_tokens": Spec(MaskedTokens, weight=0.5),
            "masked_patches": Spec(MaskedPatches, weight=0.5),
        },
        contrastive=Spec(Contrastive, weight=2.0),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=batch),
            optimizer=Spec(Muon, lr=rate, others=Spec(AdamW, lr=rate / 2)),
        ),
    )
