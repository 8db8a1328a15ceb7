"""The field map is true today: its links lead to what they name, and it leaves out none of the field's main ideas."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "field-map.md"
PACKAGE = PAGE.parents[1] / "src" / "sensorium"
LINK = re.compile(r"\[([^]]*)\]\(([^)]*)\)")
NOT_YET = "not yet"
MUST_HAVE = """
    encoder-only; decoder-only; encoder-decoder; dual encoder; masked encoder; mixture of experts; Q-Former;
    gated cross-attention; perceiver resampler; projector; early fusion; late fusion; bilinear; InfoNCE;
    image-text matching; language modelling; masked language modelling; masked autoencoding; CTC; diffusion;
    flow matching; classifier-free guidance; RLHF; instruction tuning; hard-negative mining; curriculum;
    knowledge distillation; LoRA; QLoRA; DoRA; adapters; prefix tuning; prompt tuning; BitFit; quantisation;
    pruning; task arithmetic; EWC; replay; federated learning; beam search; in-context learning; chain of thought;
    retrieval-augmented generation; BLEU; CIDEr; CLIPScore; FID; WER; R@K; perplexity; adversarial; corruptions;
    missing modality; modality dropout; demographic parity; equalized odds; differential privacy;
    attention rollout; counterfactual; calibration; modality gap; scaling laws; hallucination; WebDataset;
    rotary positions; key-value cache; CLIP; LLaVA; BLIP-2; Flamingo; Whisper; Stable Diffusion; SAM;
    Grounding DINO; Gato; PaLM-E; SeamlessM4T; HuggingGPT; recommendation; sign language; medicine
"""


def rows() -> list[list[str]]:
    """The cells of every row of every table, without headings."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "Idea" and set(row[0]) != {"-"}]


def links() -> list[tuple[str, str]]:
    return [link for row in rows() for link in LINK.findall(row[-1])]


def test_every_row_has_three_cells():
    assert len(rows()) > 150
    assert [row for row in rows() if len(row) != 3 or not all(row)] == []


def test_every_idea_is_linked_or_not_yet():
    assert [row[0] for row in rows() if row[-1] != NOT_YET and not LINK.search(row[-1])] == []


def test_no_idea_comes_twice():
    repeated = [idea for idea, count in Counter(row[0].lower() for row in rows()).items() if count > 1]
    assert repeated == []


@pytest.mark.parametrize(("name", "target"), sorted(set(links())))
def test_links_lead_to_what_they_name(name: str, target: str):
    """A link's text is a class, function or method that its file defines."""
    file = (PAGE.parent / target).resolve()
    assert file.is_file(), f"there is no file {target}"
    owner, _, member = name.strip("`").partition(".")
    source = file.read_text(encoding="utf-8")
    assert re.search(rf"^(class|def) {owner}\b", source, re.M), f"{target} defines no {owner}"
    assert not member or re.search(rf"^    def {member}\b", source, re.M), f"{owner} has no {member}"


@pytest.mark.parametrize("term", [term.strip() for term in MUST_HAVE.split(";")])
def test_main_ideas_are_there(term: str):
    text = " ".join(cell for row in rows() for cell in row[:2]).lower()
    assert term.lower() in text


def test_every_part_of_a_network_and_every_objective_is_on_the_map():
    linked = {(PAGE.parent / target).resolve() for _, target in links()}
    parts = [
        file
        for folder in ("nn", "objectives")
        for file in (PACKAGE / folder).rglob("*.py")
        if file.name != "__init__.py" and file.resolve() not in linked
    ]
    assert [str(file.relative_to(PACKAGE)) for file in parts] == []
