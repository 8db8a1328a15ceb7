"""Sources of samples: manifests, tables, class folders, tar shards, Parquet and Hugging Face data sets."""

from .folder import FolderSource
from .huggingface import DatasetSource
from .jsonl import JsonlSource
from .open import open_source, open_sources
from .parquet import ParquetSource
from .record import parse_record
from .shards import ShardSource
from .source import DEFAULT_SPLIT, Source
from .table import TableSource

__all__ = [
    "DEFAULT_SPLIT",
    "DatasetSource",
    "FolderSource",
    "JsonlSource",
    "ParquetSource",
    "ShardSource",
    "Source",
    "TableSource",
    "open_source",
    "open_sources",
    "parse_record",
]
