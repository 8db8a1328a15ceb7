"""Verbs that use a model: measure it, ask it, embed with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tyro.conf import Positional as Free
from tyro.conf import UseAppendAction as Many

from ..core import ConfigError
from .following import evaluate_on, report, require

if TYPE_CHECKING:
    pass


def evaluate(
    run: Free[Path],
    *,
    data: Many[tuple[str, ...]],
    split: str | None = None,
    limit: int = 1000,
    template: Many[tuple[str, ...]] = (),
    shots: Many[tuple[int, ...]] = (),
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Evaluate a run on data and write its report.

    Args:
        run: the run's folder.
        data: one or more data sets; the first is the main one.
        split: only samples of this split.
        limit: at most so many samples of each data set.
        template: texts for zero-shot classes, for example "a photo of a {}"; several make an ensemble.
        shots: also name classes by new names after so many demonstrations; repeat it for a curve.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from ..model import load

    console = Console()
    require(data)
    model = load(run, code=code, device=device)
    for place, path in enumerate(data):
        evaluate_on(model, run, path, split, limit, template, first=place == 0, console=console, shots=shots)
    report(run, console, data[0], model.writes, code)


def ask(
    run: Free[Path],
    question: Free[str | None] = None,
    *,
    image: Many[tuple[Path, ...]] = (),
    audio: Many[tuple[Path, ...]] = (),
    video: Many[tuple[Path, ...]] = (),
    series: Many[tuple[Path, ...]] = (),
    media: Many[tuple[str, ...]] = (),
    tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Ask a trained model about a picture, a sound, a clip or a recording; without a question it describes it.

    Args:
        run: the run's folder.
        question: for example "what colour is the star?"
        image: picture files.
        audio: sound files.
        video: clip files.
        series: sensor files.
        media: any other modality, as name=file.
        tokens: longest answer, in tokens.
        temperature: 0 takes the likeliest words; above that they are drawn.
        seed: for drawing.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from ..model import load

    given = {"image": image, "audio": audio, "video": video, "series": series}
    values: dict[str, Any] = {name: list(files) for name, files in given.items() if files}
    for pair in media:
        name, equals, file = pair.partition("=")
        if not equals:
            raise ConfigError(f"--media {pair!r}: expected name=file")
        values.setdefault(name, []).append(Path(file))
    model = load(run, code=code, device=device)
    answer = model.generate(question, max_new_tokens=tokens, temperature=temperature, seed=seed, **values)
    Console().print(answer, markup=False, highlight=False, soft_wrap=True)


def chat(
    model: Free[str],
    *,
    image: Many[tuple[Path, ...]] = (),
    audio: Many[tuple[Path, ...]] = (),
    video: Many[tuple[Path, ...]] = (),
    system: str | None = None,
    tokens: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    int8: bool = False,
    base_url: str | None = None,
    key_variable: str | None = None,
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Talk with a model, line by line, until an empty line; answers appear as they are written.

    Args:
        model: a directory, a hub id, or openai:NAME for a model behind a service of that protocol.
        image: picture files that the first question is about.
        audio: sound files.
        video: clip files.
        system: what the model is told first.
        tokens: longest answer, in tokens.
        temperature: 0 takes the likeliest words; above that they are drawn.
        seed: for drawing.
        int8: hold the weights in 8 bits: faster, with a little less precision.
        base_url: where the service is; by default OpenAI's.
        key_variable: the environment variable that holds the key of the service.
        code: your Python files that the model was trained with.
        device: cpu or cuda.
    """
    import sys

    from ..model import load
    from ..providers import is_remote, remote
    from ..session import Session

    how: dict[str, Any] = {"max_new_tokens": tokens, "temperature": temperature, "seed": seed}
    if is_remote(model):
        speaker: Any = remote(model, base_url=base_url, key_variable=key_variable)
    else:
        opened = load(model, code=code, device=device)
        speaker, how["session"] = opened.quantise() if int8 else opened, Session()
    given = {"image": image, "audio": audio, "video": video}
    content: list[Any] = [{"type": name, name: file} for name, files in given.items() for file in files]
    messages: list[Any] = [{"role": "system", "content": system}] if system else []
    console = Console()
    while True:
        if sys.stdin.isatty():
            console.print("[bold]you:[/bold] ", end="")
        line = sys.stdin.readline().strip()
        if not line:
            return
        messages.append({"role": "user", "content": [*content, {"type": "text", "text": line}]})
        content, said = [], ""
        for piece in speaker.stream(messages, **how):
            console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
            said += piece
        console.print()
        if not said.strip():
            return
        messages.append({"role": "assistant", "content": said})


def embed(
    run: Free[Path],
    *,
    data: str,
    out: Path,
    modality: Many[tuple[str, ...]] = (),
    split: str | None = None,
    batch_size: int = 64,
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Write the embeddings of data to .parquet (all modalities; key, modality, vector) or .npy (one modality).

    Args:
        run: the run's folder.
        data: any data that train accepts.
        out: ends in .parquet or .npy; beside an .npy, the keys go to a .keys.txt file.
        modality: which to embed; by default all that the model knows.
        split: only samples of this split.
        batch_size: how many at once.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from ..embeddings import write_embeddings
    from ..model import load

    model = load(run, code=code, device=device)
    written = write_embeddings(model, data, out, names=modality, split=split, batch_size=batch_size)
    console = Console(stderr=True)
    for problem in written.problems:
        console.print(f"left out: {problem}", style="yellow", markup=False)
    console.print(f"{written.count} embeddings of width {written.width} in {out}")
