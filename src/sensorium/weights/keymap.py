"""Key maps: how the tensors of a public checkpoint become those of a network, and back, from one declaration.

A rule names one or several *public* tensors and one *own* parameter; ``{i}`` in both stands for the same part of
a name. The maps are read from our side: each parameter is filled by the rule that matches it, and what of the file
no parameter asked for must be dropped by a rule that says why. Nothing else is accepted. Of several rules that match,
the first whose tensors are there fills, and the first of all writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import CheckpointError, nearest


class Names(Protocol):
    """Named tensors whose shapes are known before they are read."""

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def __getitem__(self, name: str) -> Tensor: ...

    def copy_into(self, name: str, place: Tensor) -> None: ...


@dataclass(frozen=True)
class Change:
    """A reversible change of a tensor: ``into`` our layout and ``out`` of it."""

    into: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]


SAME = Change(lambda x: x, lambda x: x)
#: A matrix stored the other way round.
TRANSPOSED = Change(lambda x: x.T, lambda x: x.T)


def convolution(*patch: int) -> Change:
    """The kernel [d, c, *patch] of a convolution that cuts patches, as a matrix over patches with channels last."""

    def out(x: Tensor) -> Tensor:
        return x.unflatten(1, (*patch, -1)).movedim(-1, 1)

    return Change(lambda x: x.movedim(1, -1).flatten(1), out)


def shaped(public: Sequence[int], own: Sequence[int]) -> Change:
    """The same numbers in another shape; -1 is worked out."""
    return Change(lambda x: x.reshape(tuple(own)), lambda x: x.reshape(tuple(public)))


@dataclass(frozen=True)
class Rule:
    """``own`` is made of ``public``: one tensor, or several along the first axis (of ``sizes``; equal if None)."""

    public: tuple[str, ...]
    own: str
    change: Change = SAME
    sizes: tuple[int, ...] | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return _pattern(self.own)

    def sources(self, own: str) -> list[str] | None:
        """The public names for one of our parameters, or None if the rule is not about it."""
        found = self.pattern.fullmatch(own)
        return [name.format(**found.groupdict()) for name in self.public] if found else None

    def into(self, tensors: Sequence[Tensor]) -> Tensor:
        """Our tensor from the public ones."""
        return self.change.into(tensors[0] if len(tensors) == 1 else torch.cat(list(tensors)))

    def read(self, found: Names, names: Sequence[str], shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Our tensor, contiguous; what needs no change stays in the file, what is put together is read in place."""
        if len(names) == 1 or self.change is not SAME:
            return self.into([found[name] for name in names]).to(dtype).contiguous()
        whole = torch.empty(shape, dtype=dtype)
        parts = whole.split([found.shape(name)[0] for name in names])
        for name, part in zip(names, parts, strict=True):
            found.copy_into(name, part)
        return whole

    def out(self, tensor: Tensor) -> list[Tensor]:
        """The public tensors from ours."""
        public = self.change.out(tensor)
        if len(self.public) == 1:
            return [public]
        sizes = self.sizes or [len(public) // len(self.public)] * len(self.public)
        return list(public.split(list(sizes)))

    def under(self, public: str, own: str) -> Rule:
        return replace(self, public=tuple(public + name for name in self.public), own=own + self.own)


@dataclass(frozen=True)
class Drop:
    """A public tensor that no parameter needs, and why. If it is ``equal`` to another, that is checked."""

    public: str
    why: str
    equal: str | None = None

    def under(self, public: str, own: str) -> Drop:
        return replace(
            self, public=public + self.public, equal=None if self.equal is None else public + self.equal
        )


@dataclass(frozen=True)
class Fresh:
    """A parameter of ours that no public checkpoint holds, and why."""

    own: str
    why: str

    def under(self, public: str, own: str) -> Fresh:
        return replace(self, own=own + self.own)


@dataclass(frozen=True)
class Fixed:
    """A public tensor of numbers that follow from the sizes: checked where a file holds it, and written for others."""

    public: str
    made: Callable[[], Tensor]

    def under(self, public: str, own: str) -> Fixed:
        return replace(self, public=public + self.public)


AnyRule = Rule | Drop | Fresh | Fixed


def same(public: str, own: str, change: Change = SAME) -> Rule:
    """One tensor under another name."""
    return Rule((public,), own, change)


def layer(public: str, own: str) -> list[AnyRule]:
    """The weight and the bias of one layer."""
    return [same(f"{public}.{part}", f"{own}.{part}") for part in ("weight", "bias")]


def batch_norm(public: str, own: str) -> list[AnyRule]:
    """The weight, the bias and the running statistics of one layer."""
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [same(f"{public}.{part}", f"{own}.{part}") for part in parts]


def fuse(public: Sequence[str], own: str, sizes: Sequence[int] | None = None) -> Rule:
    """Several tensors along the first axis of one."""
    return Rule(tuple(public), own, sizes=tuple(sizes) if sizes is not None else None)


def fused(public: Sequence[str], own: str, sizes: Sequence[int] | None = None) -> list[AnyRule]:
    """The weights and the biases of several linear maps as those of one."""
    return [
        fuse([f"{name}.{part}" for name in public], f"{own}.{part}", sizes) for part in ("weight", "bias")
    ]


def under(public: str, own: str, rules: Iterable[AnyRule]) -> list[AnyRule]:
    """Rules whose names all begin with these prefixes."""
    return [rule.under(public, own) for rule in rules]


@dataclass(frozen=True)
class KeyMap:
    """Rules, and ``spellings``: regular expressions, with what they are replaced by, that bring the names of other
    versions into the canonical ones that the rules speak of and that are written.
    """

    rules: Sequence[AnyRule]
    spellings: Sequence[tuple[str, str]] = ()

    def load(
        self, found: Names, expected: Mapping[str, Tensor], where: str, dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """Our tensors of the names, shapes and types of ``expected``, from public ones; floating ones as ``dtype``.

        Raises CheckpointError, naming all tensors that are missing, left over, or of another shape, before
        any is read.
        """
        spelled = self._spelled(found, where)
        plan = {own: self._sources(own, spelled) for own in expected}
        self._account(plan, spelled, found, expected, where)
        loaded = {}
        for own, match in plan.items():
            if match is not None:
                rule, names = match
                like = expected[own]
                wanted = dtype if dtype is not None and like.is_floating_point() else like.dtype
                loaded[own] = rule.read(found, [spelled[name] for name in names], like.shape, wanted)
        return loaded

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Public tensors, by canonical name, from ours."""
        public = {rule.public: rule.made() for rule in self.rules if isinstance(rule, Fixed)}
        for own, tensor in tensors.items():
            match = self._sources(own)
            if match is not None:
                rule, names = match
                public |= dict(zip(names, rule.out(tensor), strict=True))
        return public

    def _sources(self, own: str, held: Container[str] = ()) -> tuple[Rule, list[str]] | None:
        """The rule about one of our parameters with the public names it asks for; None if it is fresh.

        The first rule whose tensors are all ``held``, else the first.
        """
        matching: list[tuple[Rule, list[str]]] = []
        for rule in self.rules:
            if isinstance(rule, Rule) and (names := rule.sources(own)) is not None:
                matching.append((rule, names))
            elif isinstance(rule, Fresh) and _pattern(rule.own).fullmatch(own):
                return None
        if not matching:
            raise CheckpointError(f"no rule says where the parameter {own!r} comes from")
        return next((one for one in matching if all(name in held for name in one[1])), matching[0])

    def _spelled(self, found: Names, where: str) -> dict[str, str]:
        """The names in the file by their canonical spelling."""
        spelled: dict[str, str] = {}
        for name in found:
            canonical = name
            for pattern, replacement in self.spellings:
                canonical = re.sub(pattern, replacement, canonical)
            if canonical in spelled:
                raise CheckpointError(f"{where}: {spelled[canonical]!r} and {name!r} are the same tensor")
            spelled[canonical] = name
        return spelled

    def _account(
        self,
        plan: Mapping[str, tuple[Rule, list[str]] | None],
        spelled: Mapping[str, str],
        found: Names,
        expected: Mapping[str, Tensor],
        where: str,
    ) -> None:
        """Every tensor of both sides has its place, and fits."""
        used: set[str] = set()
        missing: list[str] = []
        for own, match in plan.items():
            if match is None:
                continue
            rule, names = match
            used |= set(names)
            absent = [name for name in names if name not in spelled]
            missing += absent
            if not absent:
                _fits(rule, names, spelled, found, own, expected[own], where)
        if missing:
            left = [name for name in spelled if name not in used]
            raise CheckpointError(
                f"{where}: {_count(missing, 'tensor')} missing: {_some(missing)}{nearest(missing[0], left)}"
            )
        drops = [rule for rule in self.rules if isinstance(rule, Drop)]
        fixed = {rule.public: rule for rule in self.rules if isinstance(rule, Fixed)}
        extra = []
        for name in spelled.keys() - used:
            if name in fixed:
                if not torch.equal(found[spelled[name]], fixed[name].made()):
                    raise CheckpointError(f"{where}: {name!r} is not what follows from the model's sizes")
                continue
            drop = next((drop for drop in drops if _pattern(drop.public).fullmatch(name)), None)
            if drop is None:
                extra.append(name)
            elif drop.equal is not None and not torch.equal(found[spelled[name]], found[spelled[drop.equal]]):
                raise CheckpointError(f"{where}: {name!r} differs from {drop.equal!r}, expected: {drop.why}")
        if extra:
            raise CheckpointError(
                f"{where}: {_count(extra, 'tensor')} not part of the model: {_some(sorted(extra))}"
            )


def _fits(
    rule: Rule,
    names: Sequence[str],
    spelled: Mapping[str, str],
    found: Names,
    own: str,
    expected: Tensor,
    where: str,
) -> None:
    shapes = [tuple(found.shape(spelled[name])) for name in names]
    whole = _joined(shapes)
    try:
        made = tuple(rule.change.into(torch.empty(whole, device="meta")).shape) if whole is not None else None
    except (RuntimeError, IndexError):
        made = None
    if made != tuple(expected.shape):
        public = [tuple(part.shape) for part in rule.out(torch.empty(expected.shape, device="meta"))]
        for name, shape, wanted in zip(names, shapes, public, strict=True):
            if shape != wanted:
                raise CheckpointError(
                    f"{where}: the tensor {name!r} has shape {list(shape)}, expected {list(wanted)} (for {own})"
                )
        raise CheckpointError(f"{where}: {_some(names)} do not make {own!r} of shape {list(expected.shape)}")


def _joined(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of tensors put together along their first axis; None if they do not fit."""
    if len(shapes) == 1:
        return shapes[0]
    if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
        return None
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(name)))


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what} is" if len(names) == 1 else f"{len(names)} {what}s are"


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
