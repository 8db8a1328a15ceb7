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

from ..core.errors import CheckpointError


class Names(Protocol):
    """Named tensors whose shapes and types are known before they are read."""

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

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
        if self.change is not SAME:  # read, not mapped: the original is gone when this returns
            read = [torch.empty(found.shape(name), dtype=dtype) for name in names]
            for name, place in zip(names, read, strict=True):
                found.copy_into(name, place)
            return self.into(read).contiguous()
        if len(names) == 1:
            return found[names[0]].to(dtype).contiguous()
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
        parts = len(self.public)
        sizes = list(self.sizes or [len(public) // parts] * parts)
        if len(sizes) != parts or sum(sizes) != len(public):
            raise CheckpointError(
                f"{self.own!r} of shape {list(tensor.shape)} cannot be {parts} parts of sizes {sizes}"
            )
        return list(public.split(sizes))

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

        A parameter that is ``Fresh`` is not among them. Raises CheckpointError naming the tensors of ``where`` that
        are missing, left over, or of another shape or kind of number, before any is converted.
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
        """Public tensors, by canonical name, from ours. Raises CheckpointError for two parameters that have come to
        differ but are one there.
        """
        public = {rule.public: rule.made() for rule in self.rules if isinstance(rule, Fixed)}
        for own, tensor in tensors.items():
            match = self._sources(own)
            if match is None:
                continue
            rule, names = match
            for name, part in zip(names, rule.out(tensor), strict=True):
                if name in public and not torch.equal(public[name], part):
                    raise CheckpointError(f"{own!r} differs from another parameter that is {name!r} as well")
                public[name] = part
        return public

    def _sources(self, own: str, held: Container[str] = ()) -> tuple[Rule, list[str]] | None:
        """The rule about one of our parameters with the public names it asks for; None if it is fresh.

        The first rule whose tensors are all ``held``, else the first.
        """
        matching: list[tuple[Rule, list[str]]] = []
        for rule in self.rules:
            if isinstance(rule, Rule) and (names := rule.sources(own)) is not None:
                matching.append((rule, names))
            elif isinstance(rule, Fresh) and not matching and _pattern(rule.own).fullmatch(own):
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
                _check_fits(rule, [spelled[name] for name in names], found, own, expected[own], where)
        left = sorted(spelled.keys() - used)
        unread = {name: one for name in left if (one := self._unread(name)) is not None}
        extra = [name for name in left if name not in unread]
        faults = {"missing": missing, "not part of the model": extra}
        if missing or extra:
            said = "; ".join(_count(names, what) for what, names in faults.items() if names)
            raise CheckpointError(f"{where}: {said}")
        for name, (unused, named) in unread.items():
            _check_unread(unused, name, named, spelled, found, where)

    def _unread(self, name: str) -> tuple[Drop | Fixed, re.Match[str]] | None:
        """The rule about a public tensor that no parameter reads."""
        rules = (rule for rule in self.rules if isinstance(rule, Drop | Fixed))
        return next(
            ((rule, match) for rule in rules if (match := _pattern(rule.public).fullmatch(name))), None
        )


def prefixed(
    prefix: str,
    own: str,
    tower: Iterable[AnyRule],
    head: Iterable[AnyRule] | None,
    spellings: Sequence[tuple[str, str]] = (),
    bare: str | None = None,
) -> KeyMap:
    """The map of a tower, ``own`` of ours, whose public names begin with ``prefix.`` beside a ``head`` and stand
    alone without it; alone, the prefix is accepted too. ``bare`` are first parts of names (``a|b``) that are
    accepted without it beside a head. A rule of the head about a parameter of the tower goes first.
    """
    if head is None:
        return KeyMap(under("", own, tower), [*spellings, (rf"^{prefix}\.", "")])
    accepted = [] if bare is None else [(rf"^({bare})\.", rf"{prefix}.\1.")]
    return KeyMap([*head, *under(f"{prefix}.", own, tower)], [*spellings, *accepted])


def _check_unread(
    rule: Drop | Fixed,
    name: str,
    match: re.Match[str],
    spelled: Mapping[str, str],
    found: Names,
    where: str,
) -> None:
    """It holds what the rule says it must."""
    if isinstance(rule, Fixed):
        if not torch.equal(found[spelled[name]], rule.made()):
            raise CheckpointError(f"{where}: {name!r} is not what follows from the model's sizes")
    elif rule.equal is not None:
        other = rule.equal.format(**match.groupdict())
        if other not in spelled or not torch.equal(found[spelled[name]], found[spelled[other]]):
            raise CheckpointError(f"{where}: {name!r} differs from {other!r}, expected the same: {rule.why}")


def _check_fits(
    rule: Rule, names: Sequence[str], found: Names, own: str, expected: Tensor, where: str
) -> None:
    """Each public tensor has the shape in which the rule would write it, and numbers of the kind of ours."""
    wanted = rule.out(torch.empty(expected.shape, device="meta"))
    for name, part in zip(names, wanted, strict=True):
        shape, dtype = list(found.shape(name)), found.dtype(name)
        if shape != list(part.shape):
            raise CheckpointError(
                f"{where}: the tensor {name!r} has shape {shape}, expected {list(part.shape)} (for {own})"
            )
        if dtype.is_floating_point != expected.is_floating_point():
            kind = "floating-point" if expected.is_floating_point() else "whole"
            raise CheckpointError(
                f"{where}: the tensor {name!r} holds {dtype}, expected {kind} numbers (for {own})"
            )


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(name)))


def _count(names: Sequence[str], what: str) -> str:
    """``2 tensors are missing: 'a', 'b'``; of many names the first."""
    number = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{number} {what}: {', '.join(map(repr, names[:8]))}" + (", ..." if len(names) > 8 else "")
