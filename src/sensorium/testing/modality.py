"""Whether a modality keeps its promises: one preparation, the same everywhere, and an error for everything else."""

from __future__ import annotations

import inspect
import keyword
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import CheckpointError, ConfigError, DataError, Modality
from ..data.sources.dialogue import FIELDS as DIALOGUE
from ..data.sources.record import FIELDS
from ..model import Model
from .claims import claim
from .page import faults

_HOSTILE = "<script>alert(1)</script><img src=\"http://outside/\" onerror='alert(1)'> & more"
_USES = (Model.embed, Model.features, Model.classify, Model.generate)


def check_modality(modality: Modality, values: Sequence[Any], *, broken: Sequence[Any] = ()) -> None:
    """Raise AssertionError for the first promise of ``sensorium.core.Modality`` that ``modality`` breaks.

    ``values`` are usable things of all kinds that ``read`` accepts (paths, bytes, arrays), best of several lengths;
    ``broken`` are unusable ones. Where the modality learns from data, it learns from ``values``. The object
    itself is left as it is. Raises ConfigError if there are no ``values``.
    """
    if not values:
        raise ConfigError("check_modality needs at least one usable value")
    _check_name(modality)
    _check_extensions(modality)
    blank_slate = _check_sending(modality, "before fit")
    subject = _check_sending(modality, "before fit")
    raws = _check_reading(subject, values)
    subject.fit(iter(raws))
    _check_values(subject, raws)
    _check_determinism(subject, raws)
    _check_draws(subject, raws)
    _check_first_axis(subject, raws)
    _check_blank(subject, raws)
    _check_reading_again(subject, values, raws)
    _check_saving(subject, blank_slate, raws)
    _check_same(subject, _check_sending(subject, "after fit"), raws, "after being sent to a loader process")
    _check_size(subject, raws)
    _check_showing(subject, raws)
    _check_broken(subject, broken)


def _check_name(modality: Modality) -> None:
    """The name is a keyword argument, a column and a file name ending, and no field that records have already."""
    name = getattr(modality, "name", None)
    usable = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    claim(usable, f"{type(modality).__qualname__}.name is {name!r}: choose an identifier, such as 'inertial'")
    taken = {*FIELDS, *DIALOGUE, *(part for use in _USES for part in inspect.signature(use).parameters)}
    claim(
        name not in taken, f"name is {name!r}, which means something else in data or in Model: choose another"
    )


def _check_extensions(modality: Modality) -> None:
    """File name endings are in lower case, with their dot, each once."""
    endings = modality.extensions
    claim(isinstance(endings, tuple), f"{modality.name}: extensions must be a tuple, found {endings!r}")
    for ending in endings:
        good = isinstance(ending, str) and len(ending) > 1 and ending[0] == "." and ending == ending.lower()
        claim(good, f"{modality.name}: the extension {ending!r} must be lower case and begin with a dot")
    claim(len(set(endings)) == len(endings), f"{modality.name}: extensions holds one twice: {endings}")


def _check_sending(modality: Modality, when: str) -> Modality:
    """A copy, made as loader processes get theirs."""
    try:
        return ForkingPickler.loads(ForkingPickler.dumps(modality))
    except Exception as error:  # pickling calls the user's own code, which may raise anything
        raise AssertionError(
            f"{modality.name} cannot be sent to loader processes {when} ({error}): define the class at the top "
            "of a module, and keep no open files, locks or local functions in the object"
        ) from error


def _check_reading(modality: Modality, values: Sequence[Any]) -> list[Any]:
    """Usable values are read and pass the check."""
    raws = []
    for place, value in enumerate(values):
        try:
            raws.append(modality.load_value(value))
        except DataError as error:
            raise AssertionError(
                f"{modality.name} refuses values[{place}], which is usable: {error}"
            ) from error
    return raws


def _check_values(modality: Modality, raws: Sequence[Any]) -> None:
    """Preparation gives finite tensors with something in them."""
    for place, raw in enumerate(raws):
        where = f"{modality.name}: prepare(values[{place}])"
        found = modality.prepare(raw)
        claim(isinstance(found, Tensor), f"{where} is a {type(found).__name__}: return a torch.Tensor")
        claim(
            found.is_floating_point() or found.dtype in (torch.int64, torch.uint8),
            f"{where} is {found.dtype}: return numbers as float32, tokens as int64 or bytes as uint8",
        )
        claim(found.ndim > 0 and found.numel() > 0, f"{where} is empty: refuse such values in check")
        claim(
            not found.requires_grad and found.device.type == "cpu",
            f"{where} must be on the CPU and need no gradient: preparation is not part of the network",
        )
        claim(
            bool(found.isfinite().all()),
            f"{where} is not finite: refuse such values in check, or guard a division by zero in prepare",
        )


def _check_determinism(modality: Modality, raws: Sequence[Any]) -> None:
    """The result depends on the raw value and the generator alone, and the raw value stays as it is."""
    for place, raw in enumerate(raws):
        for seed in (None, 0):
            given = "without a generator" if seed is None else "with equal generators"
            first, second = (_prepare(modality, raw, seed, ambient)[0] for ambient in (0, 1))
            claim(
                torch.equal(first, second),
                f"{modality.name}: prepare(values[{place}]) differs from call to call {given}: draw from the given "
                "generator only, and change neither the raw value nor the modality",
            )


def _check_draws(modality: Modality, raws: Sequence[Any]) -> None:
    """``draws`` says whether the generator is used; if not, prepared values are kept and used again."""
    depends = False
    for raw in raws:
        first, one = _prepare(modality, raw, 0)
        second, other = _prepare(modality, raw, 1)
        unused = [torch.Generator().manual_seed(seed).get_state() for seed in (0, 1)]
        depends |= not torch.equal(first, second)
        depends |= not (torch.equal(one.get_state(), unused[0]) and torch.equal(other.get_state(), unused[1]))
    if depends:
        claim(
            modality.draws,
            f"{modality.name}: prepare uses its generator, but draws is False: return True while it augments",
        )
    else:
        claim(
            not modality.draws,
            f"{modality.name}: prepare does not use its generator, but draws is True: override the property "
            "to return False, so that prepared values can be kept",
        )


def _check_first_axis(modality: Modality, raws: Sequence[Any]) -> None:
    """Prepared values may differ along the first axis only, so that they can be padded to one batch."""
    found = {(str(values.dtype), values.shape[1:]) for values in map(modality.prepare, raws)}
    claim(
        len(found) == 1,
        f"{modality.name}: prepared values differ in more than the length of their first axis: "
        f"{sorted(map(str, found))}: resize, resample or cut them to one shape and type",
    )


def _check_blank(modality: Modality, raws: Sequence[Any]) -> None:
    """``blank`` stands in for prepared values: of their type and shape, and no longer than the shortest."""
    blank, prepared = modality.blank(), [modality.prepare(raw) for raw in raws]
    claim(
        blank.dtype == prepared[0].dtype and blank.shape[1:] == prepared[0].shape[1:],
        f"{modality.name}: blank() is {blank.dtype} {list(blank.shape)}, prepared values are {prepared[0].dtype} "
        f"{list(prepared[0].shape)}: only the first axis may differ",
    )
    shortest = min(map(len, prepared))
    claim(
        0 < len(blank) <= shortest,
        f"{modality.name}: blank() has the length {len(blank)}: expected the shortest there is, from 1 to {shortest}",
    )


def _check_reading_again(modality: Modality, values: Sequence[Any], raws: Sequence[Any]) -> None:
    """A value gives the same each time it is read, and ``read`` takes its own results, as evaluation does."""
    for place, (value, raw) in enumerate(zip(values, raws, strict=True)):
        expected = modality.prepare(raw)
        where = f"{modality.name}: values[{place}]"
        again = modality.prepare(modality.load_value(value))
        claim(
            torch.equal(expected, again),
            f"{where} is not read the same twice: reading must not draw or change",
        )
        try:
            from_raw = modality.prepare(modality.load_value(raw))
        except DataError as error:
            raise AssertionError(
                f"{where}: read refuses its own result ({error}): return what is read already as it is"
            ) from error
        claim(torch.equal(expected, from_raw), f"{where}: read changes its own result: return it as it is")


def _check_saving(modality: Modality, blank_slate: Modality, raws: Sequence[Any]) -> None:
    """What ``fit`` learnt is saved whole, and its absence is noticed."""
    with TemporaryDirectory() as folder:
        full, empty = Path(folder, "full"), Path(folder, "empty")
        full.mkdir()
        empty.mkdir()
        modality.save(full)
        if any(full.iterdir()):
            try:
                _check_sending(blank_slate, "before fit").load(empty)
            except CheckpointError:
                pass
            else:
                raise AssertionError(
                    f"{modality.name}: load must raise CheckpointError where nothing was saved"
                )
        blank_slate.load(full)
    _check_same(
        modality, blank_slate, raws, "after save and load: save all that fit learnt, and read it back in load"
    )


def _check_same(modality: Modality, other: Modality, raws: Sequence[Any], when: str) -> None:
    """Two objects prepare alike."""
    for place, raw in enumerate(raws):
        same = torch.equal(modality.prepare(raw), other.prepare(raw))
        claim(same, f"{modality.name}: prepare(values[{place}]) is not the same {when}")


def _check_size(modality: Modality, raws: Sequence[Any]) -> None:
    """``size`` gives a number and its unit."""
    for raw in raws:
        found = modality.size(raw)
        good = (
            isinstance(found, tuple)
            and len(found) == 2
            and isinstance(found[0], int | float)
            and math.isfinite(found[0])
            and found[0] >= 0
            and isinstance(found[1], str)
        )
        claim(good, f"{modality.name}: size is {found!r}: return a number and its unit, such as (1.5, 's')")


def _check_showing(modality: Modality, raws: Sequence[Any]) -> None:
    """``show`` gives HTML that needs nothing from outside and runs no code, whatever the value says."""
    shown = list(raws)
    if modality.inline:
        with suppress(DataError):  # what is refused is not shown
            shown.append(modality.load_value(_HOSTILE))
    for raw in shown:
        fragment = modality.show(raw)
        claim(isinstance(fragment, str) and bool(fragment.strip()), f"{modality.name}: show must return HTML")
        found = faults(fragment)
        claim(
            not found,
            f"{modality.name}: show returns {', '.join(found)}: embed media as data: addresses, escape every text "
            "with sensorium.modalities.html.escape, and use no code",
        )


def _check_broken(modality: Modality, broken: Sequence[Any]) -> None:
    """Whatever cannot be used is refused by a DataError: yours, and things that no modality can read."""
    with TemporaryDirectory() as folder:
        always = {"an object": object(), "an empty file": b"", "a folder": Path(folder)}
        always["a missing file"] = Path(folder, "missing")
        for name, value in {**{f"broken[{i}]": v for i, v in enumerate(broken)}, **always}.items():
            try:
                modality.load_value(value)
            except DataError:
                continue
            except Exception as error:  # that it is no other error is what is checked
                raise AssertionError(
                    f"{modality.name}: {name} raises {type(error).__name__} ({error}): raise DataError instead"
                ) from error
            raise AssertionError(f"{modality.name}: {name} is accepted: raise DataError in read or in check")


def _prepare(
    modality: Modality, raw: Any, seed: int | None, ambient: int = 0
) -> tuple[Tensor, torch.Generator]:
    """The prepared value, and its generator as it is afterwards, whatever the global generators hold."""
    generator = torch.Generator().manual_seed(seed or 0)
    with _global_seed(ambient):
        return modality.prepare(raw, None if seed is None else generator), generator


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    plain, numpy, torch_ = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_)
