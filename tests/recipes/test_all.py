"""What every page of ``recipes/`` can do: sizes, files, cards, training in its smallest size, a place in the docs."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sensorium.core import ConfigError, Sample, Segment, Spec
from sensorium.core.state import saved_tensors
from sensorium.core.system import System
from sensorium.nn.architectures.network import Network
from sensorium.nn.skeleton import Skeleton
from sensorium.public import open_network, public_files
from sensorium.recipes import find
from sensorium.testing import check_recipe
from sensorium.weights.family import Family, Folder, write_files
from sensorium.weights.write import SAFETENSORS, write_tensors

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [name for name in find.names() if name != "vlm"]  # whose parts are those of others
CARDS = {family.name: family.card for family in find.families()} | find.cards()
#: Pages of towers that classify or give features: nothing tells them what to learn.
NOTHING_TO_LEARN = {"bit", "dinov2", "efficientnet", "resnet", "vit"}
READ_ONLY = {"open_flamingo"}  # layouts that hold a part of a model
LAYOUTS = [
    pytest.param(family, id=f"{family.name}-{family.layout}")
    for family in find.families()
    if family.layout not in READ_ONLY
]
LARGEST = 3_000_000  # parameters of a tiny size


def page(name: str) -> ModuleType:
    return importlib.import_module(f"sensorium.recipes.{name}")


def tiny(name: str) -> Spec:
    return find.builtin(f"{name}:tiny")


@pytest.mark.parametrize("name", PAGES)
def test_every_size_is_a_system_that_fits_together_and_can_be_saved(name: str):
    sizes = list(page(name).SIZES)
    assert "tiny" in sizes
    for size in sizes:
        spec = find.builtin(f"{name}:{size}")
        assert spec.cls is System
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec, size
        with torch.device("meta"):
            assert isinstance(spec.model.build(), Network), size
        for part in [*spec.modalities.values(), *spec.objectives.values(), spec.training]:
            part.build()
    if name != "dual":  # which without a size joins towers that exist
        assert find.builtin(name).cls is System
    with pytest.raises(ConfigError, match=f"{name} has no size 'tny'"):
        find.builtin(f"{name}:tny")


@pytest.mark.parametrize("name", PAGES)
def test_the_tiny_size_is_small_and_can_be_a_skeleton(name: str):
    model = tiny(name).model
    before = torch.get_rng_state()
    with Skeleton():
        hollow = model.build()
    assert torch.equal(torch.get_rng_state(), before), "something is drawn that a file will replace"
    drawn = model.build()
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(hollow, kind)()), dict(getattr(drawn, kind)())
        assert found.keys() == expected.keys()
        for part, tensor in expected.items():
            assert (found[part].shape, found[part].dtype) == (tensor.shape, tensor.dtype), part
            if kind == "named_buffers" and not part.startswith("slow."):  # those of a slow copy are drawn
                assert torch.equal(found[part], tensor), part
    assert sum(parameter.numel() for parameter in drawn.parameters()) < LARGEST


def written(folder: Path, family: Family, spec: Spec, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that were written."""
    folder.mkdir()
    tensors = family.keys(spec).save(saved_tensors(network))
    write_tensors(folder, tensors, name=next(iter(family.weights_files), SAFETENSORS))
    write_files(folder, public_files(family, spec))
    return tensors


@pytest.mark.parametrize("family", LAYOUTS)
def test_what_is_written_is_read_and_written_again(family: Family, tmp_path: Path):
    """The same numbers, and from the first reading on the same Spec: nothing of a config is lost on the way."""
    spec = tiny(family.name)
    first = written(tmp_path / "first", family, spec, spec.model.build())
    read, network = open_network(Folder(tmp_path / "first"))
    second = written(tmp_path / "second", family, read, network)
    assert second.keys() == first.keys()
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name
    again, _ = open_network(Folder(tmp_path / "second"))
    assert again == read
    assert read.family == family.name
    config = family.config_file
    assert (tmp_path / "second" / config).read_text() == (tmp_path / "first" / config).read_text()


def value(name: str, index: int) -> object:
    """Something of a modality, in a size of its own."""
    drawn = np.random.default_rng(index)
    if name == "text":
        return f"a {('red', 'blue', 'green')[index % 3]} thing number {index} of many"
    if name == "audio":
        return (0.1 * drawn.normal(size=16_000 + 1_600 * index)).astype(np.float32), 16_000
    if name == "series":
        return drawn.normal(size=(20 + index, 1)).astype(np.float32)
    if name == "episode":
        steps = 8 + index  # as the video has pictures
        return {"observations": drawn.normal(size=(steps, 2)), "actions": drawn.uniform(-1, 1, (steps, 1))}
    size = {"image": (50 + index, 60), "video": (8 + index, 40, 48)}[name]
    return drawn.integers(0, 256, (*size, 3), dtype=np.uint8)


def samples(spec: Spec) -> list[Sample]:
    return [
        Sample(
            f"s{index}",
            tuple(
                Segment(name, value(name, index), target=name in ("text", "episode"))
                for name in spec.modalities
            ),
        )
        for index in range(4)
    ]


@pytest.mark.parametrize("name", sorted(set(PAGES) - NOTHING_TO_LEARN))
def test_the_tiny_size_holds_together(name: str):
    """Saved and read back, trained, divided, loaded and asked."""
    check_recipe(tiny(name), samples(tiny(name)), steps=8)


@pytest.mark.parametrize("name", sorted(NOTHING_TO_LEARN))
def test_without_anything_to_learn_training_is_refused(name: str):
    with pytest.raises(ConfigError, match=r"nothing to learn, neither objectives nor contrastive.* dual"):
        check_recipe(tiny(name), samples(tiny(name)))


def test_every_page_but_those_of_our_own_design_has_a_card():
    assert set(PAGES) - CARDS.keys() == {"dual", "unified"}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_everything(name: str):
    card = CARDS[name]
    assert card.title
    assert card.licence
    assert len(card.preparation) > 10
    for paper in card.paper.split("; "):
        assert re.search(r" (19|20)\d\d, arXiv:\d{4}\.\d{4,5}$", paper), paper
    public = any(family.name == name for family in find.families())
    assert bool(card.examples) is public
    for example in card.examples:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", example)


@pytest.mark.parametrize("name", find.names())
def test_a_page_says_whose_work_it_is_and_where_it_is_in_the_docs(name: str):
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", page(name).__doc__ or "")
    assert f"../src/sensorium/recipes/{name}.py" in (DOCS / "field-map.md").read_text()


def test_no_two_families_claim_the_same_checkpoints():
    claimed = [kind for family in find.families() for kind in family.model_types]
    assert len(claimed) == len(set(claimed))
    assert {family.name for family in find.families()} <= set(PAGES)
