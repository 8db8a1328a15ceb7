"""Fine-tuning from an imported checkpoint against training from scratch: the same network, few pairs, the same steps.

Nothing is downloaded. A CLIP is trained on one world and written in the transformers layout, with a vocabulary of its
own; transformers must open it and give the same embeddings. That directory is imported as any public checkpoint is:
asked as it stands, and fine-tuned on a few hundred pairs of another world. The same network with fresh weights is
trained on the same pairs. Both may take the best of the same learning rates, by validation pairs; what is reported is
R@1 among test scenes that neither has seen. The other world is described twice: in the words of the first, where
there is little left to learn, and in words that are in the vocabulary but that the checkpoint has never read.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import limit_threads, load, once, peer, save, table
from PIL import Image
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

import sensorium
from sensorium import run
from sensorium.data.sources.open import open_source
from sensorium.data.world import write_world
from sensorium.evaluation import Retrieval, evaluate
from sensorium.evaluation.metrics import bootstrap, paired_difference
from sensorium.modalities.public_images import image_config, image_settings
from sensorium.public import read_public
from sensorium.recipes.clip import PROCESSOR
from sensorium.weights.family import Folder, write_files

START, END = "<|startoftext|>", "<|endoftext|>"
SIDE, PATCH, LENGTH = 64, 8, 32
WIDTH, DEPTH, HEADS = 64, 3, 4  # of both towers
FIRST, OTHER = 0, 1  # seeds of the worlds
IMPORTED, SCRATCH = "fine-tuned", "from scratch"


@dataclass(frozen=True)
class Sizes:
    """How much of everything; ``few`` pairs are learnt from in each number of ``steps``, at each of the ``rates``."""

    pairs: int = 8_000
    pretraining: int = 1_000
    batch: int = 125
    few: int = 500
    validation: int = 200
    test: int = 500
    steps: tuple[int, ...] = (50, 200)
    rates: tuple[float, ...] = (1e-4, 5e-4, 2e-3)


QUICK = Sizes(pairs=200, pretraining=4, batch=20, few=40, validation=20, test=40, steps=(2,), rates=(1e-3,))


def same(text: str) -> str:
    """A caption as the world has it."""
    return text


def backwards(text: str) -> str:
    """A caption in words that no caption has: each is spelt from its end."""
    return " ".join(word[::-1] for word in text.split())


LANGUAGES: dict[str, Callable[[str], str]] = {"the same words": same, "words never read": backwards}


def pairs_of(world: Path, split: str, language: Callable[[str], str] = same) -> Path:
    """A manifest of a split with images and captions alone, beside that of the world."""
    lines = map(json.loads, (world / f"{split}.jsonl").read_text().splitlines())
    kept = [
        {name: line[name] for name in ("key", "image")} | {"text": language(line["text"])} for line in lines
    ]
    manifest = world / f"{split}-{language.__name__}.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return manifest


def read(pairs: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in pairs.read_text().splitlines()]


def write_vocabulary(folder: Path, texts: Sequence[str]) -> dict[str, int]:
    """The files of a CLIP tokenizer learnt from texts: bytes, bytes that end a word, merges, and two special tokens."""
    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learnt.pre_tokenizer = pre_tokenizers.Sequence(  # white space only parts words, it is no part of any
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=1_000, show_progress=False, end_of_word_suffix="</w>")
    learnt.train_from_iterator([text.lower() for text in texts], trainer)
    merges = json.loads(learnt.to_str())["model"]["merges"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(one + "</w>" for one in alphabet), *map("".join, merges), START, END]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    write_files(folder, {"tokenizer_config.json": settings, "special_tokens_map.json": special})
    (folder / "vocab.json").write_text(json.dumps(ids))
    pairs = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{pairs}")
    return ids


def write_fresh(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """A checkpoint in the transformers layout whose weights have learnt nothing; returns its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids = write_vocabulary(folder, texts)
    body = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
    }
    special = {"bos_token_id": ids[START], "eos_token_id": ids[END], "pad_token_id": ids[END]}
    text = body | special | {"vocab_size": len(ids), "max_position_embeddings": LENGTH}
    config = {
        "model_type": "clip",
        "projection_dim": WIDTH,
        "text_config": text,
        "vision_config": body | {"image_size": SIDE, "patch_size": PATCH},
    }
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": SIDE}
    prepared = image_config(*image_settings(sizes, kind=PROCESSOR), PROCESSOR)
    write_files(folder, {"config.json": config, "preprocessor_config.json": prepared})
    spec = read_public(Folder(folder))
    torch.manual_seed(seed)
    network = spec.model.build()
    modalities = {name: part.build() for name, part in spec.modalities.items()}
    for modality in modalities.values():
        modality.load(folder)
    sensorium.Model(network.eval(), modalities, spec).save_pretrained(folder, layout="transformers")
    return folder


def difference(folder: Path, pairs: Path, count: int = 64) -> float:
    """The largest difference between our embeddings of a checkpoint and those of transformers; it must open cleanly."""
    transformers = peer("transformers")
    theirs, report = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    wrong = {name: keys for name, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"transformers opens {folder} with {wrong}")
    chosen = read(pairs)[:count]
    pictures = [Image.open(pairs.parent / pair["image"]).convert("RGB") for pair in chosen]
    texts = [pair["text"] for pair in chosen]
    prepared = transformers.CLIPImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = theirs.eval()(**tokens, **prepared)
    ours = sensorium.load(folder)
    both = (
        (ours.embed(image=pictures), found.image_embeds),
        (ours.embed(text=texts), found.text_embeds),
    )
    return max(float((one - other).abs().max()) for one, other in both)


def train(start: Path, pairs: Path, out: Path, *, steps: int, rate: float, batch: int) -> sensorium.Model:
    """``sensorium train START --data PAIRS --out OUT``: the model at the end."""
    shutil.rmtree(out, ignore_errors=True)
    settings = (f"optimizer.lr={rate}", f"loading.batch={batch}")
    plan = run.Plan(str(start), [str(pairs)], out, settings, {"steps": steps})
    run.train(plan, console=Console(quiet=True))
    return sensorium.load(out)


def hits(model: sensorium.Model, pairs: Path) -> Tensor:
    """For each pair, how much of R@1 is its own: whether its text is nearest to its image, and the reverse, halved."""
    source = open_source(pairs, modalities=model.modalities)
    found = evaluate(model, source, tasks=[Retrieval(limit=None)], limit=None, gallery=0)
    ways = ("image->text", "text->image")
    return (
        torch.tensor([[record[way]["rank"] == 1 for way in ways] for record in found.records])
        .double()
        .mean(1)
    )


def best(
    start: Path, world: Mapping[str, Path], out: Path, *, steps: int, sizes: Sizes
) -> tuple[float, dict[str, float], Tensor]:
    """The rate that validation prefers, the validation R@1 of each rate, and the preferred model's hits on the test."""
    tried: dict[float, tuple[float, sensorium.Model]] = {}
    for rate in sizes.rates:
        model = train(start, world["train"], out, steps=steps, rate=rate, batch=sizes.batch)
        tried[rate] = (float(hits(model, world["validation"]).mean()), model)
    rate = max(tried, key=lambda one: tried[one][0])
    return (
        rate,
        {f"{one:g}": round(value, 4) for one, (value, _) in tried.items()},
        hits(tried[rate][1], world["test"]),
    )


def compare(starts: Mapping[str, Path], world: Mapping[str, Path], out: Path, sizes: Sizes) -> dict[str, Any]:
    """R@1 of the import as it stands, and of both ways after each number of steps, with their difference."""
    imported = hits(sensorium.load(starts[IMPORTED]), world["test"])
    found: dict[str, Any] = {"imported, as it is": bootstrap(imported).to_json()}
    for steps in sizes.steps:
        reached: dict[str, Tensor] = {}
        for way, start in starts.items():
            rate, tried, reached[way] = best(start, world, out, steps=steps, sizes=sizes)
            figure = bootstrap(reached[way]).to_json()
            found[f"{way}, {steps} steps"] = figure | {"rate": rate, "validation by rate": tried}
        for title, other in ((SCRATCH, reached[SCRATCH]), ("imported, as it is", imported)):
            gain = paired_difference(reached[IMPORTED], other).to_json()
            found[f"{IMPORTED} less {title}, {steps} steps"] = gain
    return found


def measure(work: Path, sizes: Sizes) -> dict[str, Any]:
    """Everything, and what it cost."""
    first, other = work / "first", work / "other"
    write_world(
        first, sizes.pairs, FIRST, test_samples=0, compositional_samples=0, validation_samples=0, clips=0.0
    )
    write_world(
        other, sizes.few, OTHER, test_samples=sizes.test, compositional_samples=0,
        validation_samples=sizes.validation, clips=0.0,
    )  # fmt: skip
    seen = pairs_of(first, "train")
    texts = [language(line["text"]) for line in read(seen) for language in LANGUAGES.values()]
    fresh = [write_fresh(work / f"fresh-{seed}", texts, seed) for seed in (FIRST, OTHER)]
    steps, public = sizes.pretraining, work / "public"
    spent = once(
        partial(train, fresh[0], seen, work / "pretraining", steps=steps, rate=1e-3, batch=sizes.batch)
    )
    shutil.rmtree(public, ignore_errors=True)
    spent.result.save_pretrained(public, layout="transformers")
    found: dict[str, Any] = {
        "minutes of pretraining": round(spent.wall / 60, 2),
        "CPU minutes of pretraining": round(spent.cpu / 60, 2),
    }
    starts = {IMPORTED: public, SCRATCH: fresh[1]}
    for title, language in LANGUAGES.items():
        world = {split: pairs_of(other, split, language) for split in ("train", "validation", "test")}
        if language is same:
            found["largest difference from transformers"] = difference(public, world["test"])
        spent = once(partial(compare, starts, world, work / "run", sizes))
        found[title] = spent.result | {"minutes": round(spent.wall / 60, 2)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/finetune"), help="for data and runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few pairs; nothing is written")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    before = load()
    sizes = QUICK if arguments.quick else Sizes()
    work = arguments.work / ("quick" if arguments.quick else "full")
    spent = once(partial(measure, work, sizes))
    found = {"minutes": round(spent.wall / 60, 2), "CPU minutes": round(spent.cpu / 60, 2)} | spent.result
    for title in LANGUAGES:
        rows = [
            (name, f"{one['value']:.3f}", f"{one['low']:.3f} .. {one['high']:.3f}", one.get("rate", ""))
            for name, one in found[title].items()
            if isinstance(one, dict)
        ]
        table(f"{sizes.few} pairs of another world, {title}", ("R@1", "", "95 %", "rate"), rows)
    for name, value in found.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
    if not arguments.quick:
        print(save("finetune", asdict(sizes) | found, load_before=before))


if __name__ == "__main__":
    main()
