"""How a public config says by how much tokens turn: ``rope_theta`` and ``rope_scaling``, or ``rope_parameters`` of
transformers 5, which holds both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..core.spec import Spec
from ..nn.layers.rotary import Rotary
from ..nn.layers.rotary_scaling import DynamicNTK, LinearScaling, Llama3, LongRope, Scaling, Yarn
from ..nn.layers.rotary_sections import Chunked, Interleaved
from ..weights.config import Config

#: The kinds of layers that configs tell apart: those that see everything before, and those that see what is near.
FULL, SLIDING = "full_attention", "sliding_attention"
#: The names of the usual base, and of that of sliding layers where it is another.
THETA, LOCAL_THETA = "rope_theta", "rope_local_base_freq"
_LONGEST, _ORIGINAL = "max_position_embeddings", "original_max_position_embeddings"
_SHARE = "partial_rotary_factor"
#: What the kinds of scaling are called in configs, and what else they were called.
_SCALINGS: Mapping[str, type[Scaling]] = {
    "linear": LinearScaling,
    "dynamic": DynamicNTK,
    "yarn": Yarn,
    "longrope": LongRope,
    "llama3": Llama3,
}
_OTHERWISE = {"su": "longrope", "mrope": "default"}
#: The settings of a scaling, with their names and types in configs.
_FIELDS: Mapping[str, tuple[str, Any]] = {
    "factor": ("factor", float),
    "original": (_ORIGINAL, int),
    "fast": ("beta_fast", float),
    "slow": ("beta_slow", float),
    "low": ("low_freq_factor", float),
    "high": ("high_freq_factor", float),
    "short": ("short_factor", list[float]),
    "long": ("long_factor", list[float]),
    "attention": ("attention_factor", float),
    "mscale": ("mscale", float),
    "mscale_all_dim": ("mscale_all_dim", float),
    "truncate": ("truncate", bool),
}


def rotary(
    config: Config, head_width: int, *, base: float = 10_000.0, share: float = 1.0, neighbours: bool = False
) -> Spec:
    """The Spec of the rotary positions of heads of ``head_width``; ``base`` and ``share`` (of the channels that turn)
    are what the config may leave out.
    """
    section = _parameters(config)
    share = (section if _SHARE in section else config).take(_SHARE, float, share, least=0, most=1)
    config.ignore(_SHARE)
    return _rotary(section, config, int(head_width * share), THETA, base, neighbours)


def rotaries(config: Config, head_width: int, *, full: float, sliding: float) -> dict[str, Spec]:
    """The same for each kind of layer, where those that slide turn by a base of their own (Gemma 3)."""
    whole = _parameters(config)
    nested = not whole.raw.keys().isdisjoint((FULL, SLIDING))
    parts = {FULL: whole.section(FULL) if nested else whole, SLIDING: whole.section(SLIDING)}
    return {
        FULL: _rotary(parts[FULL], config, head_width, THETA, full),
        SLIDING: _rotary(parts[SLIDING], config, head_width, LOCAL_THETA, sliding),
    }


def rotary_fields(spec: Spec, head_width: int) -> dict[str, Any]:
    """The fields from which ``rotary`` makes this."""
    scaling, fields = _scaling_fields(spec), {THETA: spec.base}
    if spec.turned != head_width:
        fields[_SHARE] = _share(spec.turned, head_width)
    if scaling:
        fields["rope_scaling"] = scaling
    if spec.scaling is not None and spec.scaling.cls is DynamicNTK:
        fields[_LONGEST] = spec.scaling.original
    if spec.scaling is not None and spec.scaling.cls is LongRope:
        fields[_ORIGINAL] = spec.scaling.original  # where versions before 5 look for it
    return fields


def rotaries_fields(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """The fields from which ``rotaries`` makes these, of which there need be but one."""
    if SLIDING in specs and specs[SLIDING].scaling is not None:
        return {"rope_parameters": {kind: _nested_fields(spec) for kind, spec in specs.items()}}
    fields = rotary_fields(specs[FULL], specs[FULL].turned) if FULL in specs else {}
    return fields | ({LOCAL_THETA: specs[SLIDING].base} if SLIDING in specs else {})


def _nested_fields(spec: Spec) -> dict[str, Any]:
    return {"rope_type": "default", THETA: spec.base} | _scaling_fields(spec)


def _parameters(config: Config) -> Config:
    if "rope_parameters" in config:
        return config.section("rope_parameters", "rope_scaling")
    return config.section("rope_scaling", "rope_parameters")


def _rotary(
    section: Config, config: Config, turned: int, theta: str, base: float, neighbours: bool = False
) -> Spec:
    if THETA in section:
        base = section.take(THETA, float, least=1)
        config.ignore(theta)
    else:
        base = config.take(theta, float, base, least=1)
    more: dict[str, Any] = {}
    if (scaling := _scaling(section, config)) is not None:
        more["scaling"] = scaling
    if "mrope_section" in section:
        cls = Interleaved if section.take("mrope_interleaved", bool, False) else Chunked
        more["sections"] = Spec(cls, sizes=section.take("mrope_section", list[int], least=1))
    return Spec(Rotary, turned=turned, base=base, neighbours=neighbours, **more)


def _scaling(section: Config, config: Config) -> Spec | None:
    for name in ("rope_type", "type"):
        section.expect(name, "default", *_SCALINGS, *_OTHERWISE, None)
    older = section.take("type", str | None, None)
    kind = section.take("rope_type", str | None, None) or older or "default"
    kind = _OTHERWISE.get(kind, kind)
    config.ignore(_ORIGINAL)
    if kind == "default":
        return None
    cls = _SCALINGS[kind]
    given = {name: section.take(public, sort | None, None) for name, public, sort in _settings(cls)}
    if "original" in given:
        given["original"] = _original(kind, given["original"], section, config)
    if given["factor"] is None and kind in ("yarn", "longrope"):
        given["factor"] = config.take(_LONGEST, int, least=1) / given["original"]
    if given["factor"] is None:
        section.take("factor", float)  # which says that it is missing
    return Spec(cls, **{name: value for name, value in given.items() if value is not None})


def _original(kind: str, given: int | None, section: Config, config: Config) -> int:
    """How many places a model was first trained on."""
    if kind == "dynamic":
        longest: int = config.take(_LONGEST, int, least=1)
        if given not in (None, longest):
            raise section.error(_ORIGINAL, f"expected {_LONGEST} ({longest}) with {kind}, found {given}")
        return longest
    if _ORIGINAL in config:
        given = config.take(_ORIGINAL, int, least=1)
    return config.take(_LONGEST, int, least=1) if given is None else given


def _scaling_fields(spec: Spec) -> dict[str, Any]:
    """The section of a config from which the scaling and the sections of ``spec`` are made; empty without any."""
    fields: dict[str, Any] = {}
    if (scaling := spec.scaling) is not None:
        fields["rope_type"] = next(kind for kind, cls in _SCALINGS.items() if cls is scaling.cls)
        held = {public: scaling.arguments.get(name) for name, public, _ in _settings(scaling.cls)}
        fields |= {public: value for public, value in held.items() if value is not None}
        if scaling.cls is DynamicNTK:
            del fields[_ORIGINAL]
    if spec.sections is not None:
        fields = {"rope_type": "default"} | fields | {"mrope_section": list(spec.sections.sizes)}
        if spec.sections.cls is Interleaved:
            fields["mrope_interleaved"] = True
    return fields


def _settings(cls: type[Scaling]) -> list[tuple[str, str, Any]]:
    """Of each setting of a scaling its name, that in configs, and its type there."""
    return [(field.name, *_FIELDS[field.name]) for field in dataclasses.fields(cls)]  # type: ignore[arg-type]


def _share(turned: int, head_width: int) -> float:
    """What gives ``turned`` again, when it is multiplied and cut to a whole number."""
    share = turned / head_width
    return share if int(head_width * share) == turned else math.nextafter(share, 1.0)
