"""The table of public checkpoints in the documentation is the one that the cards and the measured parity give."""

from __future__ import annotations

from pathlib import Path

from sensorium import zoo

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def test_the_page_is_what_make_parity_writes():
    assert PAGE.read_text(encoding="utf-8") == zoo.markdown()


def test_what_has_a_reference_was_measured():
    """In float64, beyond which the tests of a page do not let it go."""
    for entry in zoo.entries():
        if entry.layouts:
            assert entry.parity is not None, f"{entry.recipe}: run make parity"
            assert entry.parity <= 1e-7, entry.recipe
