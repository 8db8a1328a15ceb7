"""One tower by itself: features, a pooled vector, and classes where a checkpoint has them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import CapabilityError, ConfigError
from ...core.outputs import Outputs
from ..encoders.tower import Tower
from .network import Network


class Single(Network):
    """A tower for the modality ``name``, and perhaps a ``head`` from its pooled vector to logits of ``labels``.

    ``labels`` are the names of the classes, in the order of the logits. Embeddings are the pooled vectors at length 1.
    ``language`` is ``name`` if the tower reads words, else ConfigError.
    """

    def __init__(
        self,
        *,
        name: str,
        tower: Tower,
        head: nn.Module | None = None,
        labels: list[str] | None = None,
        language: str | None = None,
    ) -> None:
        super().__init__()
        if language not in (None, name):
            raise ConfigError(f"language names {language!r}, but the only tower is {name!r}")
        self.towers = nn.ModuleDict({name: tower})
        self.head, self.labels, self.language = head, labels, language

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The embeddings of all content segments."""
        return Outputs(embeddings={name: self.contrasted(name, batch) for name in self.towers})

    def classify(self, name: str, stream: Stream) -> Float[Tensor, "n classes"]:
        """Logits of the classes that the network was trained on. CapabilityError where it has no head for them."""
        if self.head is None:
            raise CapabilityError(
                "this network has no head of classes of its own: give labels and a tower that reads words"
            )
        return self.head(self.read(name, stream).pooled)
