"""Spec: the only configuration, and the only thing that a file may turn into objects."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass, field

import pytest

from sensorium.core import ConfigError, Spec
from sensorium.training.trainer import Training


class Engine:
    def __init__(self, *, power: int, fuel: str = "petrol", ratio: float = 0.5, quiet: bool = False) -> None:
        self.power, self.fuel, self.ratio, self.quiet = power, fuel, ratio, quiet


class Wheel:
    def __init__(self, *, size: int = 16, power: int | None = None) -> None:
        self.size, self.power = size, power


SPARE = Spec(Wheel, size=14)


class Spectrum:
    """Its name begins like Spec."""


class Car:
    def __init__(
        self,
        *,
        engine: Engine,
        wheels: list[Wheel] | None = None,
        extras: dict[str, Engine] | None = None,
        spare: Wheel = SPARE,  # type: ignore[assignment]
        name: str | None = None,
    ) -> None:
        self.engine, self.wheels, self.extras, self.spare, self.name = engine, wheels, extras, spare, name


class Garage:
    """Builds its own cars."""

    def __init__(self, *, car: Spec, others: list[Spec], spectrum: Spectrum | None = None) -> None:
        self.car, self.others, self.spectrum = car, others, spectrum


@dataclass(frozen=True)
class Plate:
    text: str
    tags: list[str] = field(default_factory=list)

    class Inner:
        def __init__(self, *, depth: int = 1) -> None:
            self.depth = depth


def function(power: int) -> int:
    return power


HERE = {__name__}
CAR = Spec(
    Car,
    engine=Spec(Engine, power=90),
    wheels=[Spec(Wheel), Spec(Wheel, size=17)],
    extras={"tow": Spec(Engine, power=5, fuel="none")},
)


def _through_json(spec: Spec) -> Spec:
    return Spec.from_json(json.loads(json.dumps(spec.to_json())), modules=HERE)


# Building and reading.


def test_nested_specs_are_built_first_in_arguments_lists_dicts_and_defaults():
    car = CAR.build()
    assert (car.engine.power, car.engine.fuel) == (90, "petrol")
    assert [wheel.size for wheel in car.wheels] == [16, 17]
    assert car.extras["tow"].power == 5
    assert car.spare.size == 14
    assert car.name is None


def test_each_build_makes_new_objects():
    assert CAR.build().engine is not CAR.build().engine


def test_parameters_annotated_with_spec_are_handed_over_unbuilt():
    garage = Spec(Garage, car=CAR, others=[CAR], spectrum=Spec(Spectrum)).build()
    assert garage.car is CAR
    assert garage.others == [CAR]
    assert isinstance(garage.spectrum, Spectrum), "a name that merely begins with Spec is another matter"


def test_dataclasses_and_nested_classes_are_classes_too():
    assert Spec(Plate, text="AB", tags=["x"]).build() == Plate("AB", ["x"])
    assert _through_json(Spec(Plate.Inner, depth=3)).build().depth == 3


def test_reading_gives_arguments_or_defaults():
    assert CAR.engine.power == 90
    assert CAR.engine.ratio == 0.5
    assert CAR.spare.size == 14
    with pytest.raises(ConfigError, match=r"Car has no setting 'engin' .did you mean 'engine'"):
        _ = CAR.engin
    with pytest.raises(ConfigError, match="Engine: the setting 'power' has no value yet"):
        _ = Spec(Engine).power


def test_unknown_and_missing_settings_are_refused():
    with pytest.raises(ConfigError, match=r"Engine has no setting 'powr' .did you mean 'power'"):
        Spec(Engine, powr=3)
    with pytest.raises(ConfigError, match="Engine needs the setting 'power'"):
        Spec(Car, engine=Spec(Engine)).build()


def test_equality_hash_repr_and_copies():
    assert CAR == CAR.replace() != CAR.replace(name="x")
    assert hash(CAR) == hash(CAR.replace())
    assert repr(Spec(Wheel)) == "Spec(Wheel)"
    assert repr(Spec(Wheel, size=3)) == "Spec(Wheel, size=3)"
    assert copy.deepcopy(CAR) == CAR
    assert pickle.loads(pickle.dumps(Spec(Training))) == Spec(Training)


# Changing.


def test_set_changes_a_copy_along_a_path():
    changed = (
        CAR.set("engine.power", 120)
        .set("wheels.1.size", 18)
        .set("extras.tow.fuel", "diesel")
        .set("spare.size", 9)
    )
    assert changed.engine.power == 120
    assert [wheel.size for wheel in changed.wheels] == [16, 18]
    assert changed.extras["tow"].fuel == "diesel"
    assert changed.spare.size == 9
    assert CAR.engine.power == 90
    assert CAR.wheels[1].size == 17
    assert CAR.extras["tow"].fuel == "none"
    assert CAR.build().spare.size == 14


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("engine.powr", "Engine has no setting 'powr'.*did you mean 'power'"),
        ("motor", "Car has no setting 'motor'"),
        ("extras.two.fuel", "extras has no entry 'two'.*did you mean 'tow'"),
        ("wheels.2.size", "wheels is .* which has no setting '2.size'"),
        ("wheels.x", "wheels is .* which has no setting 'x'"),
        ("name.first", "name is None, which has no setting 'first'"),
    ],
)
def test_unknown_paths_are_refused(path, says):
    with pytest.raises(ConfigError, match=says):
        CAR.set(path, 1)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("engine.power=120", 120),
        ("engine.ratio=2", 2.0),
        ("engine.ratio=1e-3", 1e-3),
        ("engine.quiet=true", True),
        ("engine.fuel=diesel", "diesel"),
        ('engine.fuel="7"', "7"),
        ("engine.fuel=a=b", "a=b"),
        ("name=null", None),
        ("name=", ""),
        ("wheels=[]", []),
    ],
)
def test_override_reads_json_or_else_a_string(typed, expected):
    path = typed.partition("=")[0]
    found = CAR.override(typed)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected
    assert type(found) is type(expected)


def test_override_finds_a_setting_of_a_direct_part_by_its_short_path():
    assert CAR.override("fuel=gas").engine.fuel == "gas"
    outer = Spec(Garage, car=CAR, others=[])
    assert outer.override("engine.power=7").car.engine.power == 7
    assert outer.override("car.engine.power=7") == outer.override("engine.power=7")


def test_override_refuses_what_is_ambiguous_or_unknown_and_names_what_is_meant():
    both = Spec(Car, engine=Spec(Engine, power=1), spare=Spec(Wheel))
    with pytest.raises(ConfigError, match=r"'power' is ambiguous: write engine.power or spare.power"):
        both.override("power=3")
    with pytest.raises(ConfigError, match=r"unknown setting 'engines.powr' .did you mean 'engine.power'"):
        both.override("engines.powr=3")
    with pytest.raises(ConfigError, match="'power' is not a setting: expected path=value"):
        both.override("power")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("engine.power=high", "Engine.power expects int, found 'high'"),
        ("engine.power=1.5", "Engine.power expects int, found 1.5"),
        ("engine.power=true", "Engine.power expects int, found True"),
        ("engine.power=null", "Engine.power expects int, found None"),
        ("engine.ratio=fast", "Engine.ratio expects float, found 'fast'"),
        ("engine.quiet=1", "Engine.quiet expects bool, found 1"),
        ("engine.fuel=7", "Engine.fuel expects str, found 7"),
        ("spare.power=x", r"Wheel.power expects int \| None, found 'x'"),
        ("name=3", r"Car.name expects str \| None, found 3"),
    ],
)
def test_values_have_the_type_that_is_declared(typed, says):
    with pytest.raises(ConfigError, match=says):
        CAR.override(typed)


def test_every_path_that_is_listed_can_be_set():
    paths = set(CAR.paths())
    assert {"engine.power", "power", "wheels.0.size", "extras.tow.fuel", "spare.size", "name"} <= paths
    for path in sorted(paths - {"power", "fuel", "ratio", "quiet", "size"}):
        try:
            CAR.set(path, 1)
        except ConfigError as error:
            refused = str(error)
        else:
            continue
        assert "expects" in refused, "the path is known, the value is of another type"


# Files.


def test_json_round_trip():
    data = CAR.to_json()
    assert data["class"] == f"{__name__}:Car"
    assert _through_json(CAR) == CAR
    assert _through_json(CAR).build().wheels[1].size == 17
    training = Spec(Training).set("duration.epochs", 2.5).set("optimizer.lr", 1e-4)
    assert Spec.from_json(json.loads(json.dumps(training.to_json()))) == training


def test_only_json_values_and_specs_can_be_written():
    with pytest.raises(ConfigError, match="JSON values and Specs only, found object"):
        CAR.replace(name=object()).to_json()


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "builtins:open",
        "subprocess:Popen",
        "torch:load",
        "torch.nn:Linear",
        "pickle:Unpickler",
        "sensoriumx.core:Spec",
        "",
        "nothing",
        ":Spec",
        ".core:Spec",
        "sensorium.__main__:main",
        "sensorium.__main__:anything",
    ],
)
def test_a_file_may_not_name_another_module(name):
    with pytest.raises(ConfigError, match=r"spec.json.x: names the class .* outside this package"):
        Spec.from_json({"class": name}, where="spec.json.x")


@pytest.mark.parametrize(
    "name",
    [
        "sensorium.core.spec:json.loads",
        "sensorium.core.spec:json",
        "sensorium.core.spec:importlib.import_module",
        "sensorium.core.spec:Any",
        "sensorium.core.spec:cache",
        "sensorium.core.spec:Spec.from_json",
        "sensorium.core.spec:Spec.build",
        "sensorium.core.spec:Spec.__init__",
        "sensorium.core.spec:Spec.__class__",
        "sensorium.core.spec:_PLAIN",
        "sensorium.core:Spec",  # not where it is defined
        "sensorium.run:Path",
        "sensorium.run:train",
        "sensorium.run:Path.home",
        "sensorium.model:torch.load",
        "sensorium.model:import_code",
        "sensorium.training.checkpoint:shutil.rmtree",
        "sensorium.training.checkpoint:os.rename",
        "sensorium.core.random:seed_of.__class__",
        "sensorium.core.random:seed_of.__globals__",
    ],
)
def test_a_file_may_name_only_a_class_that_is_defined_where_it_says(name):
    with pytest.raises(ConfigError, match="is not a class defined there"):
        Spec.from_json({"class": name})


@pytest.mark.parametrize(
    "name",
    [
        "sensorium:nothing",
        "sensorium.nowhere:Spec",
        "sensorium.core.spec:Nothing",
        "sensorium.core.spec:",
        "sensorium..core:Spec",
    ],
)
def test_a_class_that_is_not_there_is_named(name):
    with pytest.raises(ConfigError, match="there is no class"):
        Spec.from_json({"class": name})


def test_nothing_hides_deeper_in_a_file():
    hostile = {"class": "os:system", "command": "true"}
    for place in (hostile, [hostile], {"a": hostile}, [[{"b": [hostile]}]]):
        data = {"class": f"{__name__}:Car", "engine": place}
        with pytest.raises(ConfigError, match="names the class os:system, which is outside"):
            Spec.from_json(data, modules=HERE)


@pytest.mark.parametrize("data", [[], "os:system", None, 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ConfigError, match=r"spec.json: expected an object that names a class"):
        Spec.from_json(data, where="spec.json")


def test_a_users_module_is_allowed_only_by_name():
    data = CAR.to_json()
    assert Spec.from_json(data, modules=HERE) == CAR
    for modules in ((), ("other",), (__name__.upper(),)):
        with pytest.raises(ConfigError, match="outside this package"):
            Spec.from_json(data, modules=modules)
    with pytest.raises(ConfigError, match="is not a class defined there"):
        Spec.from_json({"class": f"{__name__}:function", "power": 3}, modules=HERE)
    with pytest.raises(ConfigError, match="is not a class defined there"):
        Spec.from_json({"class": f"{__name__}:Training"}, modules=HERE)


def test_unknown_arguments_in_a_file_are_refused():
    with pytest.raises(ConfigError, match="Engine has no setting '__class__'"):
        Spec.from_json({"class": f"{__name__}:Engine", "power": 3, "__class__": "x"}, modules=HERE)
