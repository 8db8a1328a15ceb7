"""check_modality: what keeps its promises passes, and each broken promise is named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core import CheckpointError, ConfigError, DataError, Modality
from sensorium.modalities import Image, Series, Text, html
from sensorium.modalities.files import read_bytes
from sensorium.testing import check_modality

VALUES = [[1.0, 2.0, 4.0], [3.0], [0.0, 5.0]]


class Numbers(Modality):
    """Lists of numbers or files of one number a line, less their mean, in training with some noise."""

    name = "numbers"
    extensions = (".num",)
    noise = 0.0
    mean = 0.0

    @property
    def draws(self) -> bool:
        return self.noise > 0

    def read(self, source: Any) -> Any:
        if isinstance(source, list):
            return source
        try:
            return [float(line) for line in read_bytes(source, 1000).decode().splitlines()]
        except ValueError:
            raise DataError("expected one number a line") from None

    def check(self, raw: Any) -> None:
        if not raw or not np.isfinite(raw).all():
            raise DataError("expected finite numbers")

    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> Tensor:
        values = torch.tensor(raw)[:, None] - self.mean
        if generator is not None and self.noise:
            values += self.noise * torch.randn(values.shape, generator=generator)
        return values

    def blank(self) -> Tensor:
        return torch.zeros(1, 1)

    def size(self, raw: Any) -> Any:
        return len(raw), "numbers"

    def show(self, raw: Any) -> str:
        return f"<p>{html.escape(str(raw))}</p>"

    def fit(self, raws: Iterable[Any]) -> None:
        self.mean = float(np.mean([number for raw in raws for number in raw]))

    def save(self, directory: Path) -> None:
        (directory / "numbers.json").write_text(json.dumps(self.mean))

    def load(self, directory: Path) -> None:
        try:
            self.mean = json.loads((directory / "numbers.json").read_text())
        except OSError:
            raise CheckpointError("no numbers.json") from None


class Noisy(Numbers):
    noise = 0.1


class Words(Numbers):
    """Text between spaces."""

    name = "words"
    inline = True

    def read(self, source: Any) -> Any:
        if not isinstance(source, str):
            raise DataError("expected text")
        return source

    def check(self, raw: Any) -> None:
        if not raw.strip():
            raise DataError("empty")

    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> Tensor:
        return torch.tensor([len(word) for word in raw.split()])

    def blank(self) -> Tensor:
        return torch.zeros(1, dtype=torch.long)

    def fit(self, raws: Iterable[Any]) -> None:
        pass


class Nameless(Numbers):
    name = "two words"


class Reserved(Numbers):
    name = "label"


class Keyword(Numbers):
    name = "batch_size"


class OneEnding(Numbers):
    extensions = ".num"  # type: ignore[assignment]


class Capitals(Numbers):
    extensions = (".NUM",)


class TwiceEnding(Numbers):
    extensions = (".num", ".num")


class Strict(Numbers):
    def check(self, raw: Any) -> None:
        raise DataError("never good enough")


class Listed(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Any:
        return list(raw)


class HalfWords(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw).to(torch.int32)


class Empty(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw)[:0]


class Learnt(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw).requires_grad_()


class Scaled(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw) / (max(raw) - min(raw))


class Arbitrary(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw) + torch.rand(())


class GlobalNoise(Noisy):
    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> Tensor:
        values = super().prepare(raw, generator)
        return values if generator is None else values + float(np.random.rand())


class InPlace(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        raw[0] += 1.0
        return super().prepare(raw)


class SilentNoise(Noisy):
    draws = False  # type: ignore[assignment]


class Consumes(Numbers):
    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> Tensor:
        torch.rand((), generator=generator) if generator is not None else None
        return super().prepare(raw)


class Calm(Numbers):
    draws = True  # type: ignore[assignment]


class Wide(Numbers):
    def prepare(self, raw: Any, generator: Any = None) -> Tensor:
        return super().prepare(raw).T


class OtherBlank(Numbers):
    def blank(self) -> Tensor:
        return torch.zeros(1, 2)


class LongBlank(Numbers):
    def blank(self) -> Tensor:
        return torch.zeros(2, 1)


class ReadsOnce(Numbers):
    def read(self, source: Any) -> Any:
        if isinstance(source, tuple):
            raise DataError("unknown")
        return tuple(super().read(source))


class Doubles(Numbers):
    def read(self, source: Any) -> Any:
        return [2 * number for number in super().read(source)]


class RandomReading(Numbers):
    def read(self, source: Any) -> Any:
        return [number + float(np.random.rand()) for number in super().read(source)]


class Forgetful(Numbers):
    def save(self, directory: Path) -> None:
        pass

    def load(self, directory: Path) -> None:
        pass


class Lenient(Numbers):
    def load(self, directory: Path) -> None:
        file = directory / "numbers.json"
        self.mean = json.loads(file.read_text()) if file.exists() else 0.0


class LosesState(Numbers):
    def __getstate__(self) -> dict[str, Any]:
        return {}


class Unpicklable(Numbers):
    def fit(self, raws: Iterable[Any]) -> None:
        self.shift = lambda: 0


class Unitless(Numbers):
    def size(self, raw: Any) -> Any:
        return len(raw)


class Loads(Numbers):
    def show(self, raw: Any) -> str:
        return '<img src="https://example.org/a.png">'


class Styled(Numbers):
    def show(self, raw: Any) -> str:
        return '<p style="background: url(//example.org/a.png)">1</p>'


class Imports(Numbers):
    def show(self, raw: Any) -> str:
        return "<style>@import 'a.css';</style><p>1</p>"


class Clicks(Numbers):
    def show(self, raw: Any) -> str:
        return '<p onclick="alert(1)">1</p>'


class Nothing(Numbers):
    def show(self, raw: Any) -> str:
        return ""


class Unescaped(Words):
    def show(self, raw: Any) -> str:
        return f"<p>{raw}</p>"


class Crashes(Numbers):
    def read(self, source: Any) -> Any:
        return source if isinstance(source, list) else [float(x) for x in Path(source).read_text().split()]


class Accepts(Numbers):
    def read(self, source: Any) -> Any:
        return source if isinstance(source, list) else [1.0]


def walk(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(
    ("modality", "values", "broken"),
    [
        (Numbers(), [*VALUES, b"1\n2\n"], [[], [float("nan")], b"one", {}]),
        (Noisy(), VALUES, [[]]),
        (Words(), ["one two", "three"], ["", 3]),
        (Text(vocabulary=300), ["a text", "ü", "<b>bold</b>"], ["", " ", "\ud800", b"\xff"]),
        (Series(channels=2, noise=0.1), [walk(9, 2), walk(3, 2), b"a,b\n1,2\n"], [walk(3, 3), b"a", [[1, "b"]]]),
        (Image(size=8, flip=True), [np.zeros((9, 7, 3), np.uint8)], [b"GIF", np.zeros((0, 3, 3), np.uint8)]),
    ],
)  # fmt: skip
def test_passes(modality: Modality, values: list[Any], broken: list[Any]):
    check_modality(modality, values, broken=broken)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Nameless, "choose an identifier"),
        (Reserved, "means something else"),
        (Keyword, "means something else"),
        (OneEnding, "must be a tuple"),
        (Capitals, "lower case"),
        (TwiceEnding, "holds one twice"),
        (Strict, r"refuses values\[0\], which is usable: never good enough"),
        (Listed, "is a list: return a torch.Tensor"),
        (HalfWords, "torch.int32: return numbers as float32"),
        (Empty, "is empty"),
        (Learnt, "need no gradient"),
        (Scaled, r"prepare\(values\[1\]\) is not finite"),
        (Arbitrary, "differs from call to call without a generator"),
        (GlobalNoise, "differs from call to call with equal generators"),
        (InPlace, "differs from call to call without"),
        (SilentNoise, "draws is False: return True"),
        (Consumes, "draws is False: return True"),
        (Calm, "draws is True: override"),
        (Wide, "differ in more than the length of their first axis"),
        (OtherBlank, "only the first axis may differ"),
        (LongBlank, "expected the shortest there is, from 1 to 1"),
        (ReadsOnce, "read refuses its own result"),
        (Doubles, "read changes its own result"),
        (RandomReading, "not read the same twice"),
        (Forgetful, "not the same after save and load"),
        (Lenient, "must raise CheckpointError"),
        (LosesState, "not the same after being sent to a loader process"),
        (Unpicklable, "cannot be sent to loader processes after fit"),
        (Unitless, "return a number and its unit"),
        (Loads, "example.org/a.png"),
        (Styled, "url"),
        (Imports, "<style> with an outside address"),
        (Clicks, "onclick"),
        (Nothing, "show must return HTML"),
        (Crashes, "an object raises TypeError"),
        (Accepts, "an object is accepted"),
    ],
)
def test_names_the_broken_promise(cls: type[Modality], message: str):
    with pytest.raises(AssertionError, match=message):
        check_modality(cls(), [list(value) for value in VALUES])


def test_hostile_text_must_be_escaped():
    with pytest.raises(AssertionError, match="<script>"):
        check_modality(Unescaped(), ["one two"])


def test_a_local_class_cannot_be_sent():
    class Local(Numbers):
        pass

    with pytest.raises(AssertionError, match="at the top of a module"):
        check_modality(Local(), VALUES)


def test_broken_values_must_be_refused():
    with pytest.raises(AssertionError, match=r"broken\[1\] is accepted"):
        check_modality(Numbers(), VALUES, broken=[[], [1.0]])
    with pytest.raises(AssertionError, match=r"broken\[0\] raises TypeError"):
        check_modality(Numbers(), VALUES, broken=[["one"]])


def test_without_values_there_is_nothing_to_check():
    with pytest.raises(ConfigError, match="at least one usable value"):
        check_modality(Numbers(), [])


def test_nothing_is_left_changed():
    modality, values = Numbers(), [list(value) for value in VALUES]
    torch.manual_seed(5)
    np.random.seed(5)
    check_modality(modality, values)
    drawn = torch.rand(()), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    assert (torch.rand(()), np.random.rand()) == drawn
    assert modality.mean == 0.0
    assert values == VALUES
