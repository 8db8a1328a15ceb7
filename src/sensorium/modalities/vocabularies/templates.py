"""The chat templates of a checkpoint: their sources, from whichever of its files holds them."""

from __future__ import annotations

from typing import Any

from ...core import CheckpointError
from .files import CONFIG, LARGEST_TEMPLATE, MORE_TEMPLATES, PROCESSOR_TEMPLATE, TEMPLATE, Files, fields


def read_templates(files: Files) -> dict[str, str]:
    """The sources of chat templates by name; the usual one is ``default``.

    What processors read (``chat_template.json``) comes before files of single templates, and these before
    ``tokenizer_config.json``. Raises CheckpointError for what is no template or larger than 1 MiB.
    """
    single = {name: content for name, content in files.items() if _names_template(name)}
    if PROCESSOR_TEMPLATE in files:
        if any(name != TEMPLATE for name in single):
            raise CheckpointError(
                f"{PROCESSOR_TEMPLATE}: expected no other templates beside it, found {', '.join(single)}"
            )
        of = fields(files, PROCESSOR_TEMPLATE)
        return {"default": _template(PROCESSOR_TEMPLATE, of.values.get("chat_template"))}
    if single:
        return {_template_name(name): _decoded(name, content) for name, content in single.items()}
    place, found = f"{CONFIG}: field 'chat_template'", fields(files, CONFIG).values.get("chat_template")
    if found is None:
        return {}
    if not isinstance(found, list):
        return {"default": _template(place, found)}
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
        raise CheckpointError(f"{place}: expected a template or a list of named ones")
    return {one["name"]: _template(f"{place} {one['name']!r}", one.get("template")) for one in found}


def _names_template(name: str) -> bool:
    return name == TEMPLATE or name.startswith(f"{MORE_TEMPLATES}/")


def _template_name(name: str) -> str:
    return "default" if name == TEMPLATE else name.removeprefix(f"{MORE_TEMPLATES}/").removesuffix(".jinja")


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{name}: expected UTF-8 text, found a broken byte at {error.start:,}"
        ) from None


def _template(place: str, found: Any) -> str:
    if not isinstance(found, str):
        raise CheckpointError(f"{place}: expected a template, found {type(found).__name__}")
    if len(found) > LARGEST_TEMPLATE:
        raise CheckpointError(
            f"{place}: the template has {len(found):,} characters, the limit is {LARGEST_TEMPLATE:,}"
        )
    return found
