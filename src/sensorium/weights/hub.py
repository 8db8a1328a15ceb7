"""Where a model that a user typed is: a directory, or a download from the Hugging Face hub. Files only, never code."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import CapabilityError, ConfigError

#: What describes a model and prepares its inputs.
_DESCRIPTION = (
    "config*.json",
    "*_config.json",
    "README.md",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.*",
    "*.model",
)
#: Weights, the preferred layout first: a later one is fetched only where a repository has none of the earlier.
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("open_clip_model.safetensors",),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    ("open_clip_pytorch_model.bin",),
)
_FOLDERS = "*/*"  # other formats and whole pipelines
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"(?:{_NAME}/)?{_NAME}")


def locate(typed: Path | str, revision: str | None = None) -> Path:
    """The directory that ``typed`` names: an existing one, or a hub id such as ``openai/clip-vit-base-patch32``.

    Hub files go to the user's ordinary cache, and come from it without a network (``HF_HUB_OFFLINE=1``).
    ``revision`` is a branch, tag or commit. Raises ConfigError if there is no such directory, model or
    revision, and CapabilityError if the hub cannot be used or reached, or asks the user to sign something.
    """
    directory = Path(typed).expanduser()
    if directory.is_dir() and typed != "":
        if revision is not None:
            raise ConfigError(f"{typed} is a directory, which has no revision {revision!r}")
        return directory
    name = str(typed)
    if directory.is_file() or not _ID.fullmatch(name) or "--" in name or ".." in name:
        found = "it is a file" if directory.is_file() else "it does not exist"
        raise ConfigError(f"{name!r}: expected a directory ({found}) or a hub id such as org/name")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        reason = f"{name!r} is no directory; models of the hub need: pip install 'sensorium[hub]'"
        raise CapabilityError(reason) from None
    from huggingface_hub import errors

    def fetch(patterns: tuple[str, ...]) -> Path:
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    name, revision=revision, allow_patterns=list(patterns), ignore_patterns=[_FOLDERS]
                )
            )
        except errors.GatedRepoError:
            page = f"https://huggingface.co/{name}"
            reason = f"{name}: its authors ask you to accept conditions: see {page}, then run: hf auth login"
            raise CapabilityError(reason) from None
        except errors.RepositoryNotFoundError:
            reason = f"{name!r}: no such directory, and no such model on the hub (or it is private)"
            raise ConfigError(reason) from None
        except errors.RevisionNotFoundError:
            raise ConfigError(f"{name}: the hub has no revision {revision!r} of it") from None
        except errors.LocalEntryNotFoundError as error:
            # Offline, a cache that others filled may lack files that are not needed: whoever needs one will say so.
            if (partial := getattr(error, "snapshot_path", None)) is not None:
                return Path(partial)
            reason = f"{name!r}: no such directory, not in the cache, and the hub cannot be reached"
            raise CapabilityError(reason) from None
        except Exception as error:  # noqa: BLE001  (its transport libraries, which change, have no common error)
            raise CapabilityError(f"{name}: cannot be downloaded: {error}") from None

    for weights in _WEIGHTS:
        directory = fetch((*_DESCRIPTION, *weights))
        if any(next(directory.glob(pattern), None) for pattern in weights):
            return directory
    looked = ", ".join(pattern for weights in _WEIGHTS for pattern in weights)
    raise ConfigError(f"{name}: it has no weights that can be read: looked for {looked}")
