"""BriVL: two towers that learn from weakly related pairs, with queues of what slow copies of them saw.

Fei et al. 2021, "Towards artificial general intelligence via a multimodal foundation model", arXiv:2110.14378; Huo
et al. 2021, "WenLan: Bridging Vision and Language by Large-Scale Multi-Modal Pre-Training", arXiv:2103.06561.

An honest composition: there are no public weights, so the parts are compared with others (EfficientNet, RoBERTa) and
the whole is not. It differs from the published one in what a picture is contrasted with: its own text as the network
sees it, not as the slow copy does; and the other texts of the batch besides those of the queue. How many heads the
blocks on top have is our choice.
"""

from __future__ import annotations

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..nn.architectures.momentum import Momentum
from ..nn.architectures.towers import Towers
from ..nn.encoders.attended import Attended, Regions
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.heads.projection import MLPProjection
from ..nn.heads.similarity import Similarity
from ..nn.layers.blocks import PostNorm, block
from ..nn.layers.transformer import Transformer
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.rules import Rule
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from .efficientnet import efficientnet, top_width
from .roberta import roberta

#: The sizes of EfficientNet and RoBERTa, grids of regions, blocks on top of each, embedding, queue, batch, rate.
SIZES = {
    "tiny": ("tiny", "tiny", [1, 2], 1, 64, 128, 64, 1e-3),
    "base": ("b7", "large", [1, 6], 4, 2560, 13440, 256, 1e-4),
}
DECAY = 0.99
#: The share of the newest batch in running statistics, which begin from nothing here.
STATISTICS = 0.1
TEMPERATURE = 0.07

CARD = Card(
    title="BriVL",
    paper="Fei et al. 2021, arXiv:2110.14378",
    licence="none: no public weights",
    preparation="that of EfficientNet; a vocabulary learnt from your texts",
)


def brivl(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts.

    ``model.size`` is the length of the queues: choose it well below the number of samples, since what is in a queue
    counts as different from everything in the batch.
    """
    if size not in SIZES:
        raise ConfigError(f"brivl has no size {size!r}{nearest(size, SIZES)}")
    eye, reader, grids, depth, embedding, queue, batch, rate = SIZES[size]
    seeing, reading = efficientnet(eye), roberta(reader)
    sight, words = seeing.model.tower.replace(momentum=STATISTICS), reading.model.tower
    widths = {"image": top_width(sight), "text": words.trunk.width}
    towers = {"image": Spec(Regions, tower=sight, grids=grids), "text": words}
    network = Spec(
        Towers,
        towers={name: _attended(tower, widths[name], depth) for name, tower in towers.items()},
        projections={
            name: Spec(MLPProjection, width=width, embedding=embedding) for name, width in widths.items()
        },
        similarity=Spec(Similarity, scale=1 / TEMPERATURE),
        language="text",
    )
    return Spec(
        System,
        modalities={"image": seeing.modalities["image"], "text": reading.modalities["text"]},
        model=Spec(
            Momentum, network=network, names=list(widths), embedding=embedding, size=queue, decay=DECAY
        ),
        objectives={},
        contrastive=Spec(Contrastive),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=batch, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=rate, weight_decay=1e-5),
            rules=[Spec(Rule, pattern=r"similarity\.log_scale$", rate=0.0)],
        ),
    )


def _attended(tower: Spec, width: int, depth: int) -> Spec:
    """A tower with post-norm blocks on top, whose tokens are averaged."""
    part = block(width=width, heads=width // 64, hidden=4 * width, placement=PostNorm)
    return Spec(
        Attended,
        tower=tower,
        trunk=Spec(Transformer, width=width, depth=depth, block=part),
        pool=Spec(Pool, width=width, select=Spec(MeanToken)),
    )
