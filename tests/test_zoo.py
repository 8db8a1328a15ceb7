"""The table of public checkpoints: one row for each page, from the cards of its families."""

from __future__ import annotations

from sensorium import zoo
from sensorium.recipes import find
from sensorium.weights.card import Card


def entry(**changes) -> zoo.Entry:
    card = Card("T|T", "A 2024", "MIT", "to 8 px", ("org/a", "org/b"))
    given = {"recipe": "r", "model_types": ("m",), "layouts": ("transformers", "open_clip"), "card": card}
    return zoo.Entry(**(given | {"parity": 3.14e-9} | changes))


def test_a_row_says_all_that_is_known():
    assert dict(zip(zoo.COLUMNS, entry().row(), strict=True)) == {
        "recipe": "r",
        "system": "T|T",
        "paper": "A 2024",
        "usual licence": "MIT",
        "layouts": "transformers, open_clip",
        "preparation": "to 8 px",
        "parity": "3e-09",
        "for example": "org/a, org/b",
    }


def test_a_row_says_what_is_not_there():
    row = dict(zip(zoo.COLUMNS, entry(layouts=(), parity=None).row(), strict=True))
    assert row["layouts"] == "no public weights"
    assert row["parity"] == "of its parts"


def test_every_page_with_a_card_has_one_row():
    names = [one.recipe for one in zoo.entries()]
    assert names == sorted({family.name for family in find.families()} | find.cards().keys())
    clip = next(one for one in zoo.entries() if one.recipe == "clip")
    assert clip.layouts == ("transformers", "open_clip")
    assert clip.model_types == ("clip",)


def test_as_markdown(monkeypatch):
    monkeypatch.setattr(zoo, "entries", lambda: [entry()])
    head, line, row = zoo.markdown().splitlines()
    assert head == f"| {' | '.join(zoo.COLUMNS)} |"
    assert line == "|" + " - |" * len(zoo.COLUMNS)
    assert row.startswith(r"| r | T\|T | A 2024 |")
    assert zoo.markdown().endswith("|\n")
