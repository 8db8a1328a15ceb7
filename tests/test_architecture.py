"""The house rules that a reader relies on: who may import whom, and what no module does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "sensorium"

#: What each package, or module beside them, may import besides itself.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "modalities": {"core"},
    "data": {"core", "modalities"},
    "nn": {"core"},
    "objectives": {"core"},
    "weights": {"core"},
    "recipes": {"core", "modalities", "nn", "objectives", "weights", "training"},
    "training": {"core", "data", "objectives"},
    "adaptation": {"core", "nn"},
    "generation": {"core"},
    "evaluation": {"core"},
    "providers": {"core", "modalities", "generation"},
    "serving": {"core", "data", "generation", "evaluation"},
    "launch": {"core"},
}
#: Modules that put the others together and may import everyone.
ASSEMBLERS = {
    "__init__",
    "__main__",
    "model",
    "public",
    "start",
    "zoo",
    "run",
    "cli",
    "embeddings",
    "acting",
    "session",
    "speaking",
    "tokens",
    "testing",
}
#: What a package may import from outside, where that is little.
THIRD_PARTY = {
    "core": {"torch", "jaxtyping"},
    "nn": {"torch", "jaxtyping"},
    "objectives": {"torch", "jaxtyping"},
    "weights": {"torch", "jaxtyping", "safetensors", "huggingface_hub"},
}
HEAVY = {
    "av",
    "pyarrow",
    "datasets",
    "webdataset",
    "tensorboard",
    "transformers",
    "huggingface_hub",
    "fastapi",
    "uvicorn",
}
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
MODALITIES = {"text", "image", "audio", "video", "series"}
#: The one module that reads others' pickled weights, with the reader of torch that runs no code.
LEGACY = ("weights", "legacy")
LONGEST = 500
MOST_ARGUMENTS = 15


@dataclass(frozen=True)
class Import:
    """``name`` in full; ``eager``: run when the module is imported."""

    name: str
    line: int
    eager: bool


@dataclass(frozen=True)
class Module:
    """One file of the package: its parts, its text and its syntax tree."""

    path: Path
    tree: ast.Module
    lines: list[str]

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.relative_to(ROOT).with_suffix("").parts

    @property
    def home(self) -> str:
        """The package it is in, or its own name at the top."""
        return self.parts[0]

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT.parent)}:{line}"

    def commented(self, line: int) -> bool:
        """Whether the line gives a reason after a ``#``, besides any ``noqa: CODE``."""
        comment = self.lines[line - 1].partition("#")[2]
        return bool(re.sub(r"noqa(: *[A-Z]+[0-9]+)?|[#\s]", "", comment))

    def imports(self) -> Iterator[Import]:
        lazy = {id(inner) for node in ast.walk(self.tree) if _is_lazy(node) for inner in ast.walk(node)}
        for node in ast.walk(self.tree):
            eager = id(node) not in lazy
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno, eager)
            elif isinstance(node, ast.ImportFrom):
                start = ["sensorium", *self.parts][: -node.level] if node.level else []
                base = ".".join([*start, *([node.module] if node.module else [])])
                for alias in node.names:
                    yield Import(f"{base}.{alias.name}", node.lineno, eager)


def _is_lazy(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


@cache
def modules() -> list[Module]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path, ast.parse(text), text.splitlines()))
    assert len(found) > 50, f"found only {len(found)} modules under {ROOT}"
    return found


def inner(name: str) -> str | None:
    """The package or top module of ours that ``name`` is in."""
    first, *rest = name.split(".")
    return (rest[0] if rest else "__init__") if first == "sensorium" else None


def test_every_package_has_its_arrows():
    unknown = {module.home for module in modules()} - ARROWS.keys() - ASSEMBLERS
    assert not unknown, f"say in ARROWS what these may import: {sorted(unknown)}"


def test_arrows_run_one_way():
    """Imports inside functions and for type checking count too."""
    wrong = [
        f"{module.at(found.line)}: {module.home} imports {found.name}"
        for module in modules()
        if module.home not in ASSEMBLERS
        for found in module.imports()
        if (home := inner(found.name)) is not None and home not in ARROWS[module.home] | {module.home}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_allowed_arrows_have_no_cycle():
    left = {name: set(allowed) for name, allowed in ARROWS.items()}
    while left:
        free = [name for name, allowed in left.items() if not allowed & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for name in free:
            del left[name]


def test_inner_packages_need_only_torch():
    wrong = [
        f"{module.at(found.line)}: {module.home} imports {found.name}"
        for module in modules()
        if module.home in THIRD_PARTY
        for found in module.imports()
        if (top := found.name.partition(".")[0]) not in {"sensorium", *THIRD_PARTY[module.home]}
        and top not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_are_imported_where_they_are_used():
    wrong = [
        f"{module.at(found.line)}: {found.name}"
        for module in modules()
        for found in module.imports()
        if found.eager and HEAVY & set(found.name.split(".")) and inner(found.name) is None
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_a_pickle():
    """To read one is to run a program. Processes of ours may exchange them: say so on the line of the import."""
    wrong = [
        f"{module.at(found.line)}: {found.name}"
        for module in modules()
        for found in module.imports()
        if found.name.partition(".")[0] in UNSAFE and not module.commented(found.line)
    ]
    wrong += [
        f"{module.at(call.lineno)}: {called}"
        for module in modules()
        for call, called in _calls(module)
        if (
            called in ("torch.load", "torch.save", "pickle.load", "pickle.dump")
            and not _is_safe(module, call)
        )
        or any(k.arg == "allow_pickle" and not _is_false(k.value) for k in call.keywords)
    ]
    assert not wrong, "\n".join(wrong)


def test_networks_name_no_modality():
    wrong = []
    for module in modules():
        if module.home == "nn":
            docstrings = _docstrings(module.tree)
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                    words = set(re.findall(r"[a-z]+", node.value.lower()))
                elif isinstance(node, ast.arg):
                    words = set(node.arg.split("_"))
                else:
                    continue
                wrong += [f"{module.at(node.lineno)}: {word!r}" for word in sorted(words & MODALITIES)]
    assert not wrong, "\n".join(wrong)


def test_modules_are_short():
    long = [
        f"{module.at(1)}: {len(module.lines)} lines" for module in modules() if len(module.lines) > LONGEST
    ]
    assert not long, "\n".join(long)


def test_modules_say_what_they_are():
    silent = [module.at(1) for module in modules() if not ast.get_docstring(module.tree)]
    assert not silent, "\n".join(silent)


def test_errors_are_caught_by_name():
    wrong = [
        module.at(node.lineno)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not module.commented(node.lineno)
    ]
    assert not wrong, "name the errors, or say on the line why not:\n" + "\n".join(wrong)


def test_weights_are_loaded_strictly():
    wrong = [
        module.at(call.lineno)
        for module in modules()
        for call, called in _calls(module)
        if called.endswith("load_state_dict")
        and any(k.arg == "strict" and not _is_true(k.value) for k in call.keywords)
        and not module.commented(call.lineno)
    ]
    assert not wrong, "load strictly, or say on the line who checked the names:\n" + "\n".join(wrong)


def test_constructors_are_explicit():
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                given = node.args
                count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1
                spec = module.parts == ("core", "spec")  # whose arguments are those of any class
                if count > MOST_ARGUMENTS or (given.kwarg is not None and not spec):
                    wrong.append(
                        f"{module.at(node.lineno)}: {count} arguments, **{given.kwarg and given.kwarg.arg}"
                    )
    assert not wrong, "\n".join(wrong)


def _calls(module: Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches everything and keeps it."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = ast.unparse(handler.type) if handler.type is not None else "BaseException"
    return bool({"Exception", "BaseException"} & set(re.findall(r"\w+", caught)))


def _is_safe(module: Module, call: ast.Call) -> bool:
    weights_only = any(k.arg == "weights_only" and _is_true(k.value) for k in call.keywords)
    return weights_only and module.parts == LEGACY and ast.unparse(call.func) == "torch.load"


def _is_true(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _docstrings(tree: ast.AST) -> set[ast.AST]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


LIGHT = """
import sys, time
import torch
started = time.perf_counter()
import sensorium
{use}
spent = time.perf_counter() - started
print(spent, *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
USE_EVERYTHING = "for name in sensorium.__all__: getattr(sensorium, name)"


def start(use: str) -> tuple[float, set[str]]:
    """Seconds beyond torch that importing and ``use`` take in a fresh process, and what is then imported."""
    code = LIGHT.format(use=use)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    spent, *loaded = ran.stdout.split()
    return float(spent), set(loaded)


@pytest.mark.parametrize("use", ["", USE_EVERYTHING], ids=["import", "every public name"])
def test_import_is_light(use: str):
    """Neither the import nor the first use of a public name brings in what only some of the work needs."""
    spent, loaded = start(use)
    assert not {"tokenizers", "PIL", "soundfile", "rich", "jinja2", "tyro", "safetensors", *HEAVY} & loaded
    assert spent < 0.3 or start(use)[0] < 0.3, "seconds beyond torch, twice"


def test_public_names():
    import sensorium

    for name in sensorium.__all__:
        assert getattr(sensorium, name) is not None
    assert set(sensorium.__all__) <= set(dir(sensorium))
    assert sensorium.Model.__module__ == "sensorium.model"
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        sensorium.lod  # noqa: B018  the access is the test
