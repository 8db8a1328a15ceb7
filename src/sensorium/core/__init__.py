"""The vocabulary of the whole package: torch and the standard library only."""

from .batch import Batch, Stream
from .errors import CapabilityError, CheckpointError, ConfigError, DataError, SensoriumError, nearest
from .modality import Modality
from .outputs import Embedding, Outputs, PatchPrediction, TokenPrediction
from .sample import ROLES, Sample, Segment
from .spec import Spec

__all__ = [
    "ROLES",
    "Batch",
    "CapabilityError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Embedding",
    "Modality",
    "Outputs",
    "PatchPrediction",
    "Sample",
    "Segment",
    "SensoriumError",
    "Spec",
    "Stream",
    "TokenPrediction",
    "nearest",
]
