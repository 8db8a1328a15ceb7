"""The benchmarks' own parts: data, counting, statistics and records are right; what they time is not timed here."""

from __future__ import annotations

import gzip
import importlib
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

import sensorium
from sensorium.data.sources.open import open_source
from sensorium.data.world import write_world
from sensorium.modalities import standard

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def write_idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """Forty pictures, and six takes of each digit by one speaker."""
    folder = tmp_path / "digits"
    (folder / "spoken").mkdir(parents=True)
    numbers = np.random.default_rng(0)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", numbers.integers(0, 256, (40, 28, 28)))
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(40) % 10)
    for digit in range(10):
        for take in range(6):
            wave = numbers.uniform(-0.5, 0.5, 800).astype(np.float32)
            soundfile.write(folder / "spoken" / f"{digit}_ann_{take}.wav", wave, 8_000)
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_imported_and_says_what_it_measures(name: str) -> None:
    module = script(name)
    assert callable(module.main)
    assert module.__doc__


def test_idx_is_read_back(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / "x.gz", values)
    assert np.array_equal(script("digits").read_idx(tmp_path / "x.gz"), values)
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"\0\0\x0d\1" + bytes(8)))
    with pytest.raises(ValueError, match="not an IDX file of bytes"):
        script("digits").read_idx(tmp_path / "y.gz")


def test_digits_keep_the_official_split_and_pair_equal_digits(fake: Path, tmp_path: Path) -> None:
    digits, out = script("digits"), tmp_path / "out"
    digits.write_data(fake, out, first=30)
    found = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in out.glob("*.jsonl")
    }
    counts = {name: len(lines) for name, lines in found.items()}
    assert counts == {
        "train-speech": 10, "train-image": 30, "train-pairs": 30,
        "test-speech": 50, "test-image": 10, "test-pairs": 10,
    }  # fmt: skip
    assert {line["audio"].rpartition("_")[2] for line in found["train-speech"]} == {"5.wav"}
    for name in ("train-pairs", "test-pairs"):
        for line in found[name]:
            digit, speaker, take = Path(line["audio"]).stem.split("_")
            picture = int(Path(line["image"]).stem)
            assert digits.WORDS[int(digit)] == line["label"] == line["text"] == digits.WORDS[picture % 10]
            assert (int(take) < digits.TEST_TAKES) == (picture >= 30) == (name == "test-pairs")
            assert line["group"] == speaker
    for name, lines in found.items():
        source = open_source(out / f"{name}.jsonl", modalities=standard())
        assert (len(source), source.problems) == (len(lines), [])


def test_digits_are_written_once_and_the_same_for_a_seed(fake: Path, tmp_path: Path) -> None:
    digits = script("digits")
    for name in ("one", "two"):
        digits.write_data(fake, tmp_path / name, first=30)
    manifests = [(tmp_path / name / "train-pairs.jsonl").read_text() for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    (tmp_path / "one" / "train-pairs.jsonl").write_text("kept")
    digits.write_data(fake, tmp_path / "one", first=30)
    assert (tmp_path / "one" / "train-pairs.jsonl").read_text() == "kept"


def test_pairing_draws_among_all_recordings_of_the_digit() -> None:
    digits = script("digits")
    sounds = [digits.Thing(f"{digit}-{take}", digit, "", False) for digit in range(2) for take in range(3)]
    images = [digits.Thing(f"p{i}", 1, "", False) for i in range(60)]
    drawn = digits.matched(images, sounds, random.Random(0))
    assert {thing.file for thing in drawn} == {"1-0", "1-1", "1-2"}


def test_digits_without_data_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["digits.py", "--data", str(tmp_path)])
    script("digits").main()
    assert str(tmp_path) in capsys.readouterr().out


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_counted_forward_and_backward(masked: bool) -> None:
    q = torch.randn(2, 3, 8, 4, requires_grad=True)
    k, v = (torch.randn(2, 3, 16, 4, requires_grad=True) for _ in range(2))
    mask = torch.ones(2, 1, 8, 16, dtype=torch.bool) if masked else None

    def both() -> None:
        F.scaled_dot_product_attention(q, k, v, attn_mask=mask).sum().backward()

    forward = 2 * (2 * 2 * 3 * 8 * 16 * 4)
    assert script("step").count_operations(both) == forward + 5 * forward // 2


def test_products_are_counted() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert script("step").count_operations(lambda: a @ b) == 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::add_", "element-wise"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::native_layer_norm_backward", "normalisation"),
        ("aten::index_copy_", "copies and indexing"),
        ("aten::convolution_backward", "convolution"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("MmBackward0", "other"),
    ],
)
def test_operators_fall_into_groups(name: str, group: str) -> None:
    assert script("step").group_of(name) == group


def test_the_step_trains_on_a_realistic_batch() -> None:
    step = script("step")
    trainee = step.Trainee("unified:tiny")
    batch = step.make_batch(trainee.modalities, 3)
    assert [len(batch.streams[name]) for name in step.KNOWN] == [3, 3, 9]
    before = {name: p.detach().clone() for name, p in trainee.named.items()}
    trainee.step(batch)
    assert all(bool(p.isfinite().all()) for p in trainee.named.values())
    assert any(not torch.equal(p, before[name]) for name, p in trainee.named.items())


def test_differences_of_losses_are_the_largest_of_all_steps(tmp_path: Path) -> None:
    distributed = script("distributed")
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 4.0}\n{"event": "validation", "step": 1}\n{"step": 2, "loss": 2.0}\n')
    assert distributed.losses(log) == [4.0, 2.0]
    found = distributed.difference([4.0, 2.5], [4.0, 2.0])
    assert found == {"absolute": 0.5, "relative": 0.25}
    with pytest.raises(ValueError, match="zip"):
        distributed.difference([4.0], [4.0, 2.0])


@pytest.fixture
def small_world(tmp_path: Path) -> Path:
    """Twelve pairs of a world: what is learnt from, and what is tested on."""
    place = tmp_path / "world"
    write_world(
        place, 12, test_samples=8, compositional_samples=0, validation_samples=0, clips=0.0, workers=1
    )
    return place


def test_pairs_keep_images_and_captions_alone_in_the_words_asked_for(small_world: Path) -> None:
    finetune = script("finetune")
    plain, spelt = (
        finetune.read(finetune.pairs_of(small_world, "test", one)) for one in finetune.LANGUAGES.values()
    )
    original = [json.loads(line) for line in (small_world / "test.jsonl").read_text().splitlines()]
    assert plain == [{name: line[name] for name in ("key", "image", "text")} for line in original]
    assert finetune.backwards("a small red star") == "a llams der rats"
    assert [line["text"] for line in spelt] == [finetune.backwards(line["text"]) for line in plain]
    assert {line["image"] for line in spelt} == {line["image"] for line in plain}


def test_fresh_checkpoints_have_the_vocabulary_of_their_texts_and_open_elsewhere(
    small_world: Path, tmp_path: Path
) -> None:
    finetune = script("finetune")
    pairs = finetune.pairs_of(small_world, "test")
    texts = [line["text"] for line in finetune.read(pairs)] * 2
    one, other = (finetune.write_fresh(tmp_path / str(seed), texts, seed) for seed in (0, 1))
    assert finetune.difference(one, pairs) < 1e-5
    model, different = sensorium.load(one), sensorium.load(other)
    words = model.modalities["text"]
    assert all(len(words.prepare(text)) == len(text.split()) + 2 for text in texts)
    assert model.spec.model == different.spec.model
    assert not torch.equal(model.embed(text=texts[0]), different.embed(text=texts[0]))
    found = finetune.hits(model, pairs)
    assert found.shape == (8,)
    assert set(found.tolist()) <= {0.0, 0.5, 1.0}


def test_validation_chooses_the_rate_that_the_test_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    finetune = script("finetune")
    world = {split: Path(split) for split in ("train", "validation", "test")}
    validation, test = {1e-4: 0.2, 5e-4: 0.6, 2e-3: 0.4}, {1e-4: 0.9, 5e-4: 0.5, 2e-3: 0.7}

    def share(rate: float, pairs: Path) -> torch.Tensor:
        return torch.tensor([(validation if pairs == world["validation"] else test)[rate]])

    monkeypatch.setattr(finetune, "train", lambda start, pairs, out, *, steps, rate, batch: rate)
    monkeypatch.setattr(finetune, "hits", share)
    rate, tried, hits = finetune.best(Path(), world, Path(), steps=3, sizes=finetune.Sizes())
    assert (rate, hits.item()) == (5e-4, pytest.approx(0.5))
    assert tried == {"0.0001": 0.2, "0.0005": 0.6, "0.002": 0.4}


def test_figures_are_medians_with_intervals() -> None:
    found = script("common").figure([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found["value"], found["n"]) == (3.0, 5)
    assert 1.0 <= found["low"] <= 3.0 <= found["high"] <= 100.0


def test_timing_gives_seconds_and_the_result() -> None:
    spent = script("common").once(lambda: "done")
    assert spent.result == "done"
    assert spent.wall >= 0
    assert spent.cpu >= 0


def test_records_name_the_machine_and_its_load(tmp_path: Path) -> None:
    common = script("common")
    file = common.save("name", {"figure": {"value": 1.0}}, load_before=0.5, folder=tmp_path)
    record = json.loads(file.read_text())
    assert file.name == "name.json"
    assert record["figures"] == {"figure": {"value": 1.0}}
    assert record["load"]["before"] == 0.5
    assert record["machine"].keys() >= {"cpu", "cores", "torch", "threads"}
    assert record["date"].endswith("+00:00")
