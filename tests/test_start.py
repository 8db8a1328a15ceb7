"""What a run begins from: whatever a user may type as a recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from modalities import layouts
from transformers import CLIPConfig, CLIPModel

from sensorium.core import CheckpointError, ConfigError
from sensorium.core.system import System
from sensorium.model import Model
from sensorium.nn.architectures.towers import Towers
from sensorium.recipes.clip import clip
from sensorium.recipes.vit import vit
from sensorium.start import LESSONS, Start, load_files, outside, resolve
from sensorium.training.rules import Rule

PAGE = """
from sensorium.core import Spec
from sensorium.modalities import Text
from sensorium.recipes.clip import clip

class Mine(Text):
    pass

def plain():
    return clip("tiny")

def sized(size="tiny"):
    return clip("tiny").set("modalities.text", Spec(Mine, vocabulary=300 if size == "tiny" else 400))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with a page of recipes and a package that holds the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "start_page.py").write_text(PAGE)
    (tmp_path / "start_package").mkdir()
    (tmp_path / "start_package" / "pages.py").write_text(PAGE)
    yield tmp_path
    for name in ("start_page", "start_package", "start_package.pages"):
        sys.modules.pop(name, None)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny public CLIP with its tokenizer."""
    (tmp_path / "public").mkdir()
    layouts.clip(tmp_path / "public")
    entries = len(json.loads((tmp_path / "public" / "vocab.json").read_text()))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": entries,
            "max_position_embeddings": 16,
            "eos_token_id": entries - 1,
        },
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path / "public")
    return tmp_path / "public"


def test_recipes_of_this_package(here: Path):
    assert resolve("clip:tiny") == Start(clip("tiny"))
    assert resolve("clip").spec == clip()
    (here / "clip").mkdir()
    assert resolve("clip").spec == clip()  # ./clip is the folder
    with pytest.raises(ConfigError, match="clip holds no model"):
        resolve("./clip")


@pytest.mark.parametrize("module", ["start_page.py", "./start_page.py", "start_package.pages"])
def test_recipes_of_a_users_own(module: str, here: Path):
    """The class they define may be named by the Spec, and only by it."""
    name = "start_package.pages" if "package" in module else "start_page"
    assert resolve(f"{module}:plain").modules == {name}
    for typed, entries in ((f"{module}:sized", 300), (f"{module}:sized:large", 400)):
        start = resolve(typed)
        assert start.spec.cls is System
        assert start.spec.modalities["text"].vocabulary == entries
        assert start.modules == outside(start.spec) == {name}
        assert not start.weights
    assert resolve(f"{here}/start_page.py:plain").spec == clip("tiny")


def test_overrides_and_locks():
    start = resolve(
        "clip:tiny", ["model.towers.image.trunk.depth=3", "loading.batch=5"], lock=["^towers.image", "bias$"]
    )
    assert start.spec.model.towers["image"].trunk.depth == 3
    assert start.spec.training.loading.batch == 5
    rules = start.spec.training.rules
    assert [(rule.cls, rule.pattern, rule.rate) for rule in rules] == [
        (Rule, "^towers.image", 0.0),
        (Rule, "bias$", 0.0),
    ]
    assert "rules" not in resolve("clip:tiny").spec.training.arguments


def test_a_directory_is_a_model_to_go_on_from(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    typed = str(checkpoint)
    start = resolve(typed)
    assert start.weights == {"": typed}
    assert start.files == {"image": typed, "text": typed}
    assert start.spec.family == "clip"
    monkeypatch.chdir(checkpoint.parent)
    checkpoint.rename("my.model")  # no module of Python
    assert resolve("my.model").spec == start.spec
    assert resolve("./my.model").spec == start.spec


def test_a_hub_id_is_looked_up(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr("sensorium.model.locate", lambda typed: asked.append(str(typed)) or checkpoint)
    assert resolve("some.org/some-model.v2").weights == {"": "some.org/some-model.v2"}
    assert asked == ["some.org/some-model.v2"]


def test_our_own_layout_goes_before_a_public_one_beside_it(checkpoint: Path):
    """As when it is loaded."""
    other = resolve("clip:tiny").spec.replace(family=None)
    model = Model(other.model.build(), {}, other)
    model.save_pretrained(checkpoint, layout="sensorium")
    assert resolve(str(checkpoint)).spec == other


def towers(**typed: str) -> Start:
    return resolve("dual", towers=typed)


def test_towers_of_several_models(checkpoint: Path, tmp_path: Path):
    spec = vit("tiny")
    Model(spec.model.build(), {}, spec).save_pretrained(tmp_path / "vit", layout="sensorium")
    sources = {"image": str(tmp_path / "vit"), "text": str(checkpoint)}
    start = towers(**sources)
    assert start.weights == {"towers.image": sources["image"], "towers.text": sources["text"]}
    assert start.files == sources
    assert start.spec.model.cls is Towers
    assert start.spec.model.towers["image"] == spec.model.tower
    assert start.spec.model.towers["text"] == resolve(str(checkpoint)).spec.model.towers["text"]
    assert start.spec.modalities["image"] == spec.modalities["image"]
    assert start.spec.model.language == "text"


def test_filled_it_has_their_weights_and_fresh_projections(checkpoint: Path):
    start = towers(image=str(checkpoint), text=str(checkpoint))
    torch.manual_seed(1)
    network, donor = start.spec.model.build(), CLIPModel.from_pretrained(checkpoint)
    fresh = network.projections["image"].project.weight.detach().clone()
    start.fill(network)
    own = network.towers["text"].embedding.token.weight
    assert torch.equal(own, donor.text_model.embeddings.token_embedding.weight)
    own = network.towers["image"].embedding.positions.weight
    assert torch.equal(own, donor.vision_model.embeddings.position_embedding.weight)
    assert torch.equal(network.projections["image"].project.weight, fresh)


def test_a_changed_part_cannot_be_filled(checkpoint: Path):
    start = resolve(str(checkpoint), ["model.towers.image.trunk.depth=2"])
    with pytest.raises(
        CheckpointError, match=r"public: the tensor 'towers\.image\.trunk\.blocks\.1.* is missing"
    ):
        start.fill(start.spec.model.build())


@pytest.mark.parametrize(
    ("typed", "also", "said"),
    [
        ("clp:tiny", {}, r"no recipe 'clp' \(did you mean 'clip'\?\); a model is a directory or a hub id such as"),
        ("clip:huge", {}, "clip has no size 'huge'"),
        ("dual", {}, "dual needs two towers or more, for example --image MODEL --text MODEL"),
        ("dual", {"towers": {"image": "CHECKPOINT"}}, "dual needs two towers or more"),
        ("dual", {"towers": {"image": "CHECKPOINT", "audio": "CHECKPOINT"}},
         r"--audio .*public: that model has no audio tower \(it has: image, text\)"),
        ("clip:tiny", {"towers": {"image": "x", "text": "y"}},
         "clip:tiny has towers of its own: only dual and vlm take --image, --text"),
        ("start_page.py", {}, "which recipe of the file\\? write start_page.py:my_recipe"),
        ("start_page.py:plan", {}, "start_page has no function 'plan' \\(did you mean 'plain'\\?\\)"),
        ("start_page.py:plain:tiny", {}, "this recipe has no sizes"),
        ("start_package.nothing:plain", {}, "there is no module 'start_package.nothing'"),
        ("missing.py:plain", {}, "there is no file missing.py"),
        ("CHECKPOINT", {"overrides": ["model.towers.smell.trunk.depth=2"]}, "no entry 'smell'"),
        ("CHECKPOINT", {"learn": "answers"}, "--learn answers: this recipe has no language model"),
        ("llama:tiny", {"learn": "answer"}, "did you mean 'answers'"),
        ("llama:tiny", {"trunk": "x"}, "llama:tiny has a trunk of its own"),
        ("dual:huge", {}, "dual has no size 'huge'"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_what_cannot_be_begun_from(typed: str, also: dict, said: str, checkpoint: Path):
    also = {
        name: {key: value.replace("CHECKPOINT", str(checkpoint)) for key, value in given.items()}
        if isinstance(given, dict)
        else given
        for name, given in also.items()
    }
    with pytest.raises(ConfigError, match=said):
        resolve(typed.replace("CHECKPOINT", str(checkpoint)), **also)


def test_modalities_read_what_their_models_had_learnt(tmp_path: Path):
    class Learnt:
        def load(self, directory: Path) -> None:
            self.read = directory

    (tmp_path / "run" / "modalities").mkdir(parents=True)
    (tmp_path / "public").mkdir()
    modalities = {"text": Learnt(), "image": Learnt(), "audio": Learnt()}
    load_files(modalities, {"text": str(tmp_path / "run"), "image": str(tmp_path / "public")})
    assert modalities["text"].read == tmp_path / "run" / "modalities"
    assert modalities["image"].read == tmp_path / "public"
    assert not hasattr(modalities["audio"], "read")


def test_a_run_begins_where_another_ended(tmp_path: Path):
    spec = vit("tiny")
    first = Model(spec.model.build(), {}, spec)
    first.save_pretrained(tmp_path / "first", layout="sensorium")
    start = resolve(str(tmp_path / "first"))
    assert start.spec == spec
    network = start.spec.model.build()
    start.fill(network)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_what_a_language_model_learns_from():
    found = {name: resolve("llama:tiny", learn=name).spec.objectives for name in LESSONS}
    assert {name: sorted(part) for name, part in found.items()} == {
        "answers": ["language"],
        "preferences": ["preferences"],
        "teacher": ["distilled", "language"],
    }
