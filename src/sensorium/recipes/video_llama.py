"""Video-LLaMA: what is seen and what is heard, each through a Q-Former over time, before one language model.

Zhang et al. 2023, "Video-LLaMA: An Instruction-tuned Audio-Visual Language Model for Video Understanding",
arXiv:2306.02858.

A composition: its published weights are files of their own kind, which are not read here. The branch that sees has the
eye and the Q-Former of BLIP-2 for each frame, compared with others on that page; the one that hears has a vision
transformer over spectrograms of 2 s in place of ImageBind's, whose patches overlap. The whole is compared with none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.chat.placeholders import Repeated
from ..modalities.mel_segments import MelSegments
from ..modalities.public_images import image_settings
from ..modalities.spectrogram import LogMel
from ..modalities.video import Video
from ..nn.connectors.composed import Chain, Framed, PieceByPiece
from ..nn.connectors.projector import Projector
from ..nn.connectors.qformer import QFormer, Queried
from ..nn.encoders.one_token import OneToken
from ..nn.encoders.patch_tower import PatchEmbedding, PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.tiled import Tiled
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.blocks import block
from ..nn.layers.norms import LayerNorm
from ..nn.layers.tables import PositionTable
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ._joined import Joined, joined
from ._queried import PROCESSOR, vision
from .blip2 import SEEING
from .llama import llama

_TINY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
#: The size of LLaMA, the public config of BLIP-2's eye, width and depth of what hears, width and depth of Q-Formers,
#: and frames.
SIZES: dict[str, tuple[str, dict[str, Any], tuple[int, int], tuple[int, int], int]] = {
    "tiny": ("tiny", {**_TINY, "image_size": 32, "patch_size": 8}, (64, 2), (64, 2), 4),
    "7b": ("7b", {}, (768, 12), (768, 12), 8),
}
#: Queries that look at a frame, at a clip and at a recording; at most how many frames and segments have places.
FRAME, CLIP, SOUND, FRAMES, SEGMENTS = 32, 32, 8, 32, 8
#: The blocks of the Q-Formers over time.
DEPTH = 2
PATCH, MELS, SECONDS, MEAN, STD = 16, 128, 2.0, -4.268, 9.138

CARD = Card(
    title="Video-LLaMA",
    paper="Zhang et al. 2023, arXiv:2306.02858",
    licence="that of the parts",
    preparation="8 frames of 224 x 224 and 8 pieces of sound of 2 s; 32 rows a clip, 8 a recording",
)


def video_llama(size: str = "7b") -> Spec:
    """The System with fresh weights. As published, the eye, what hears and the language model do not learn: ``--lock
    '^(towers|decoder)'``.
    """
    if size not in SIZES:
        raise ConfigError(f"video_llama has no size {size!r}{nearest(size, SIZES)}")
    reader, eye, ear, former, frames = SIZES[size]
    config = Config({"model_type": SEEING, **eye}, file=Path(f"video_llama:{size}"))
    tower = vision(config, SEEING)
    config.finish()
    side = {"height": eye.get("image_size", 224), "width": eye.get("image_size", 224)}
    image, pixels = image_settings({"size": side}, kind=PROCESSOR)
    tower = tower.set("embedding.values", Spec(Pixels, **pixels))
    width, depth = former
    heads = max(width // 64, 2)
    queried = Spec(
        QFormer,
        inner=tower.trunk.width,
        width=width,
        depth=depth,
        heads=heads,
        hidden=4 * width,
        queries=FRAME,
    )
    return of_parts(llama(reader), tower, image, queried, hearing(*ear), frames=frames)


def of_parts(trunk: Spec, tower: Spec, image: Spec, former: Spec, ear: Spec, *, frames: int = 8) -> Spec:
    """The System of a language model's System; of BLIP-2's eye, with its modality, and Q-Former; and of an ``ear``, a
    tower of spectrograms such as ``hearing`` makes.
    """
    places, wide = tower.embedding.positions, trunk.model.decoder.trunk.width
    tokens = places.prefix + places.grid[0] * places.grid[1]
    width = former.width
    each = Spec(PieceByPiece, tokens=tokens, connector=Spec(Queried, qformer=former))
    seen = Joined(
        modality=Spec(Video, frames=frames, geometry=image.geometry, mean=None),
        tower=Spec(Tiled, tower=tower),
        connector=Spec(
            Chain,
            connectors=[each, _over_time(width, former.queries, FRAMES, former.heads, CLIP, wide)],
        ),
        placeholder=_held("<video>", "<Video>", CLIP),
    )
    heard = Joined(
        modality=Spec(
            MelSegments,
            spectrogram=Spec(LogMel, rate=16_000, window=400, hop=160, mels=MELS, low=20.0, high=8000.0),
            seconds=SECONDS,
            segments=SEGMENTS,
            mean=MEAN,
            std=STD,
        ),
        tower=Spec(Tiled, tower=Spec(OneToken, tower=ear)),
        connector=_over_time(ear.trunk.width, 1, SEGMENTS, former.heads, SOUND, wide),
        placeholder=_held("<audio>", "<Audio>", SOUND),
    )
    return joined(trunk, {"video": seen, "audio": heard})


def hearing(width: int, depth: int) -> Spec:
    """A vision transformer over spectrograms of 2 s, whose class token is their vector."""
    grid = [round(SECONDS * 100) // PATCH, MELS // PATCH]
    return Spec(
        PatchTower,
        embedding=Spec(
            PatchEmbedding,
            patch=[PATCH, PATCH],
            channels=1,
            width=width,
            positions=Spec(PositionTable, grid=grid, width=width, prefix=1),
        ),
        trunk=Spec(
            Transformer,
            width=width,
            depth=depth,
            block=block(width=width, heads=max(width // 64, 2), hidden=4 * width),
        ),
        pool=Spec(Pool, width=width, select=Spec(FirstToken), norm=Spec(LayerNorm, width=width)),
    )


def _over_time(width: int, tokens: int, places: int, heads: int, queries: int, wide: int) -> Spec:
    """A vector for each place in time, a Q-Former over all of them, and a linear map to the language model."""
    former = Spec(
        QFormer,
        inner=width,
        width=width,
        depth=DEPTH,
        heads=heads,
        hidden=4 * width,
        queries=queries,
        every=1,
    )
    queried = Spec(Queried, qformer=former, projector=Spec(Projector, inner=width, width=wide))
    return Spec(Framed, width=width, tokens=tokens, frames=places, connector=queried)


def _held(token: str, mark: str, count: int) -> Spec:
    return Spec(Repeated, written=token, token=token, count=count, before=mark, after=mark.replace("<", "</"))
