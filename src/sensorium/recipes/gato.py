"""Gato: one language model over one stream of texts, pictures, states and actions.

Reed et al. 2022, "A Generalist Agent", arXiv:2205.06175.

A composition: there are no public weights. Tokens are those of the paper (mu-law, 1,024 bins, whole numbers as they
are, places within a step, patches through a residual block); actions and texts are learnt, and earlier episodes of a
sample are its prompt. The trunk is GPT-2's, with learned places in the whole sequence, where the paper has a gated
feed-forward; the residual block is that of BiT, with standardised filters; the vocabulary of texts is learnt from
yours; patches know their place in the picture, but not within the step.
"""

from __future__ import annotations

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.control.alphabet import Alphabet
from ..modalities.control.episode import Episode
from ..modalities.video import Video
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.unchanged import Unchanged
from ..nn.decoders.language_model import LanguageModel, PlaceEmbedding
from ..nn.decoders.local_words import LocalWords
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.residual_patches import ResidualPatches
from ..nn.encoders.tiled import Tiled
from ..nn.layers.blocks import block
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ._trunks import system

#: width, depth, heads, context, tokens of texts, tokens seen at a step, picture, patch, inner channels, groups, batch,
#: learning rate
SIZES = {
    "tiny": (64, 2, 4, 512, 1024, 64, 32, 8, 32, 8, 16, 4e-3),
    "79m": (768, 8, 24, 1024, 32_000, 512, 64, 16, 256, 32, 512, 1e-4),
    "364m": (1536, 12, 12, 1024, 32_000, 512, 64, 16, 256, 32, 512, 1e-4),
    "1.2b": (2048, 24, 16, 1024, 32_000, 512, 64, 16, 256, 32, 512, 1e-4),
}

CARD = Card(
    title="Gato",
    paper="Reed et al. 2022, arXiv:2205.06175",
    licence="none: no public weights",
    preparation="numbers in 1,024 bins, observations by the mu-law; pictures of a step as the frames of a clip",
)


def gato(size: str = "79m") -> Spec:
    """The System with fresh weights. Data: episodes, each with the clip of what was seen, if any."""
    if size not in SIZES:
        raise ConfigError(f"gato has no size {size!r}{nearest(size, SIZES)}")
    width, depth, heads, context, texts, places, side, patch, inner, groups, batch, rate = SIZES[size]
    alphabet = Alphabet(texts, ("video",))
    part = block(width=width, heads=heads, hidden=4 * width, activation="gelu_new")
    decoder = Spec(
        LanguageModel,
        embedding=Spec(LocalWords, vocabulary=alphabet.size, width=width, places=places),
        trunk=Spec(Transformer, width=width, depth=depth, block=part),
        norm=Spec(LayerNorm, width=width),
        positions=Spec(PlaceEmbedding, length=context, width=width),
    )
    # From -1 to 1, over the root of the patch's side.
    pixels = Spec(Pixels, mean=0.5, std=0.5 * patch**0.5)
    eye = Spec(
        ResidualPatches, patch=patch, channels=3, inner=inner, width=width, groups=groups, values=pixels
    )
    network = Spec(
        MultimodalLM,
        language="episode",
        decoder=decoder,
        towers={"video": Spec(Tiled, tower=eye)},
        connectors={"video": Spec(Unchanged, width=width)},
        placeholders=alphabet.places,
    )
    modalities = {
        "video": Spec(Video, frames=context, size=side, mean=None),
        "episode": Spec(
            Episode,
            texts=texts,
            pictures={"video": (side // patch) ** 2},
            places=places,
            max_tokens=context,
        ),
    }
    return system(None, network, modalities, lr=rate, batch=batch)
