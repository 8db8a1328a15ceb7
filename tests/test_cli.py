"""The command line: its verbs and options are public, and a mistake is one line, never a traceback."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensorium import cli, zoo

#: Verbs and their arguments: positional ones in capitals, what may be left out in brackets.
#: Scripts of users rely on these: add, but do not rename or remove.
FROZEN = {
    "demo": "[--out] [--minutes] [--seed]",
    "train": "RECIPE [OVERRIDES] --data --out [--validation] [--epochs] [--steps] [--minutes] [--processes] "
    "[--device] [--image] [--text] [--audio] [--video] [--series] [--trunk] [--connector] "
    "[--learn] [--teacher] [--lock]",
    "inspect": "DATA [--decode] [--split] [--recipe] [--model] [--show] [--json-out]",
    "evaluate": "RUN --data [--split] [--limit] [--template] [--shots] [--code] [--device]",
    "embed": "RUN --data --out [--modality] [--split] [--batch-size] [--code] [--device]",
    "ask": "RUN [QUESTION] [--image] [--audio] [--video] [--series] [--media] [--tokens] [--temperature] "
    "[--seed] [--code] [--device]",
    "chat": "MODEL [--image] [--audio] [--video] [--system] [--tokens] [--temperature] [--seed] [--int8] [--base-url] "
    "[--key-variable] [--code] [--device]",
    "convert": "MODEL OUT [--to] [--code]",
    "zoo": "[FAMILY] [--markdown]",
    "world": "--out [--samples] [--seed] [--clips]",
}


def usage(verb: Callable[..., None]) -> str:
    """The arguments of a verb as in ``FROZEN``."""
    shown = []
    for name, parameter in inspect.signature(verb).parameters.items():
        positional = "Free[" in str(parameter.annotation)
        text = name.upper() if positional else "--" + name.replace("_", "-")
        shown.append(text if parameter.default is inspect.Parameter.empty else f"[{text}]")
    return " ".join(shown)


def test_verbs_are_frozen():
    assert {name: usage(verb) for name, verb in cli.VERBS.items()} == FROZEN


@pytest.mark.parametrize("verb", FROZEN)
def test_help_names_every_option(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        cli.main([verb, "--help"])
    assert left.value.code in (0, None)
    shown = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", FROZEN[verb]):
        assert option in shown
    assert " ".join(inspect.getdoc(cli.VERBS[verb]).splitlines()[0].split()[:4]) in shown


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on standard error before it leaves with 2."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert "Traceback" not in said
    return said


def mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a user's mistake prints, however long it is."""
    said = fails(arguments, capsys)
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1, said
    return said


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with a manifest, a file that is no folder, and Python files that are no recipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text(
        "".join(f'{{"key": "{i}", "text": "number {i}"}}\n' for i in range(8))
    )
    (tmp_path / "file").write_text("")
    (tmp_path / "cli_broken.py").write_text("def recipe(:\n")
    (tmp_path / "cli_needy.py").write_text("import there_is_no_such_module\n")
    (tmp_path / "cli_number.py").write_text("def recipe():\n    return 3\n")
    yield tmp_path
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "trian unified",
        "train",
        "ask",
        "world",
        "evaluate",
        "embed r --out e.npy",
    ],
)
@pytest.mark.usefixtures("here")
def test_a_command_that_cannot_be_read(typed: str, capsys: pytest.CaptureFixture[str]):
    """An unknown verb, or a required argument that is missing."""
    fails(typed.split(), capsys)


TRAIN = "--data texts.jsonl --out r --steps 1"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train unified:tiny --out r", "--data is missing"),
        ("evaluate r", "--data is missing"),
        (f"train unifed {TRAIN}", "did you mean 'unified'?"),
        (f"train unified:tny {TRAIN}", "did you mean 'tiny'?"),
        (f"train unified:tiny trunk.dept=3 {TRAIN}", "did you mean 'depth'?"),
        (f"train unified:tiny trnk.depth=3 {TRAIN}", "did you mean 'trunk.depth'?"),
        (f"train unified:tiny trunk.depth=deep {TRAIN}", "expects int, found 'deep'"),
        (f"train unified:tiny trunk.depth {TRAIN}", "expected path=value"),
        ("train unified:tiny --data texts.json --out r", "texts.json"),
        ("train unified:tiny --data texts.jsonl@x --out r", "expected path@weight with a positive weight"),
        (f"train unified:tiny {TRAIN} --validation nothing.jsonl", "nothing.jsonl: no such file or folder"),
        (f"train unified:tiny {TRAIN} --epochs 1", "one of steps, epochs or minutes"),
        (f"train unified:tiny {TRAIN} --device gpu", "gpu"),
        ("train unified:tiny --data texts.jsonl --out file --steps 1", "file"),
        (f"train missing.py:recipe {TRAIN}", "there is no file missing.py"),
        (f"train cli_number.py {TRAIN}", "which recipe of the file?"),
        (f"train cli_number.py:recipe {TRAIN}", "a recipe returns a Spec of a System, found int"),
        (f"train cli_number.py:recip {TRAIN}", "did you mean 'recipe'?"),
        (f"train cli_broken.py:recipe {TRAIN}", "cli_broken.py"),
        (f"train cli_needy.py:recipe {TRAIN}", "there_is_no_such_module"),
        ("inspect nothing.jsonl", "nothing.jsonl: no such file or folder"),
        ("inspect texts.jsonl --split tets", "no sample of the split 'tets'"),
        ("inspect texts.jsonl --decode -1", "decode"),
        ("inspect texts.jsonl --json-out nowhere/found.json", "nowhere"),
        ("ask nothing", "nothing holds no model"),
        ("ask nothing --media smell", "expected name=file"),
        ("evaluate nothing --data texts.jsonl", "nothing holds no model"),
        ("embed nothing --data texts.jsonl --out e.npy", "nothing holds no model"),
        ("demo --minutes 0.5", "--minutes must be at least 1"),
        ("demo --minutes nan", "--minutes must be at least 1"),
        ("world --out .", "expected an empty folder or a finished world"),
        ("train dual --data texts.jsonl --out r --steps 1", "dual needs two towers or more"),
        (f"train dual {TRAIN} --image nothing --text nothing", "nothing holds no model"),
        (f"train clip:tiny {TRAIN} --image nothing", "only dual and vlm take --image"),
        (f"train unified:tiny {TRAIN} --lock ^towers.smell", "smell"),
        ("convert nothing o", "nothing holds no model"),
        ("convert file o", "file holds no model"),
        (
            "convert nothing o --to onnx",
            "there is no layout 'onnx' (one of: open_clip, open_flamingo, sensorium, transformers)",
        ),
        ("convert nothing o --to open-clip", "did you mean 'open_clip'?"),
        ("convert nothing .", "expected a folder that is empty or not there yet"),
        ("convert nothing file", "file: expected a folder that is empty or not there yet"),
        ("zoo clp", "there is no family 'clp' (did you mean 'clip'?)"),
        ("zoo clip --markdown", "--markdown is the table of all families: leave out clip"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_mistake_is_one_line(typed: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert said in mistake(typed.split(), capsys)


@pytest.mark.usefixtures("here")
def test_a_question_in_the_place_of_the_run(capsys: pytest.CaptureFixture[str]):
    assert "what colour? holds no model" in mistake(["ask", "what colour?"], capsys)


def test_a_refused_command_leaves_the_run_untouched(here: Path, capsys: pytest.CaptureFixture[str]):
    """The right command can follow in the same folder."""
    mistake(f"train unified:tiny {TRAIN} --epochs 1".split(), capsys)
    assert not (here / "r" / "spec.json").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on eight texts and pictures, one step long."""
    folder = tmp_path_factory.mktemp("cli")
    cli.main(["world", "--out", str(folder / "world"), "--samples", "8", "--clips", "0"])
    data = str(folder / "world" / "train.jsonl")
    cli.main(
        [
            "train",
            "unified:tiny",
            "loading.batch=8",
            "--data",
            data,
            "--out",
            str(folder / "run"),
            "--steps",
            "1",
        ]
    )
    return folder / "run"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ask RUN", "generate needs a prompt or something to describe"),
        ("ask RUN what? --image nothing.png", "nothing.png"),
        ("ask RUN what? --image file", "the file is empty"),
        ("ask RUN what? --series file", "does not know 'series'"),
        ("ask RUN what? --tokens 0", "max_new_tokens must be from 1"),
        ("ask RUN what? --temperature -1", "temperature must be a number from 0"),
        ("ask RUN what? --device gpu", "gpu"),
        ("ask RUN what? --code nothing.py", "there is no file nothing.py"),
        ("embed RUN --data texts.jsonl --out e.txt", "a .parquet or .npy file"),
        ("embed RUN --data texts.jsonl --out e.npy", "choose with --modality"),
        ("embed RUN --data texts.jsonl --out e.npy --modality imge", "did you mean 'image'?"),
        ("embed RUN --data texts.jsonl --out e.npy --modality text --batch-size 0", "batch"),
        ("evaluate RUN --data nothing.jsonl", "nothing.jsonl: no such file or folder"),
        ("evaluate RUN --data texts.jsonl --split tets", "no sample of the split 'tets'"),
        ("evaluate RUN --data texts.jsonl --template broken", "has no {} for the label"),
        ("train unified:tiny loading.batch=4 --data texts.jsonl --out RUN --steps 1", "was begun with"),
        ("convert RUN o", "has no transformers layout (it has: none): save it as sensorium"),
        ("convert RUN o --to open_clip", "has no open_clip layout"),
        ("convert RUN RUN --to sensorium", "expected a folder that is empty or not there yet"),
        ("convert RUN o --code nothing.py", "there is no file nothing.py"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_mistake_with_a_trained_run(typed: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]):
    assert said in mistake([str(run) if word == "RUN" else word for word in typed.split()], capsys)


def test_a_run_can_be_asked_and_embedded(run: Path, here: Path, capsys: pytest.CaptureFixture[str]):
    picture = next((run.parent / "world" / "media").rglob("*.png"))
    cli.main(["ask", str(run), "what?", "--image", str(picture), "--tokens", "4"])
    cli.main(["embed", str(run), "--data", "texts.jsonl", "--out", "e.npy", "--modality", "text"])
    assert "8 embeddings of width" in " ".join(capsys.readouterr().err.split())
    assert (here / "e.keys.txt").read_text().split() == [str(i) for i in range(8)]


def test_a_run_becomes_a_model_without_what_training_needs(run: Path, here: Path, capsys):
    cli.main(["convert", str(run), "small/model", "--to", "sensorium"])
    assert "small/model: written in the layout of sensorium" in capsys.readouterr().out
    assert sorted(path.name for path in (here / "small" / "model").iterdir()) == [
        "modalities",
        "model.safetensors",
        "spec.json",
    ]
    for model in (str(run), "small/model"):
        cli.main(
            [
                "embed",
                model,
                "--data",
                "texts.jsonl",
                "--out",
                f"{Path(model).name}.npy",
                "--modality",
                "text",
            ]
        )
    assert (here / "run.npy").read_bytes() == (here / "model.npy").read_bytes()


@pytest.mark.usefixtures("here")
def test_a_refused_conversion_writes_nothing(run: Path, capsys: pytest.CaptureFixture[str]):
    for layout in ("transformers", "open_clip"):
        mistake(["convert", str(run), "o", "--to", layout], capsys)
        assert not Path("o").exists()


def test_the_zoo_lists_every_family(capsys: pytest.CaptureFixture[str]):
    cli.main(["zoo"])
    shown = capsys.readouterr().out
    for entry in zoo.entries():
        assert re.search(rf"^{entry.recipe}\b", shown, re.M), entry.recipe


def test_one_family_is_shown_whole(capsys: pytest.CaptureFixture[str]):
    cli.main(["zoo", "clip"])
    shown = " ".join(capsys.readouterr().out.split())
    entry = next(entry for entry in zoo.entries() if entry.recipe == "clip")
    for cell in (*zoo.COLUMNS, *entry.row()):
        assert cell in shown


def test_the_table_of_the_documentation_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]):
    cli.main(["zoo", "--markdown"])
    assert capsys.readouterr().out == zoo.markdown()
