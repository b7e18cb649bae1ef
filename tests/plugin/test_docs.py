"""What the documents show is what is there."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_picture() -> None:
    """The committed picture is what its script draws; `python docs/draw_how_it_works.py` draws it again."""
    drawn = runpy.run_path(str(DOCS / "draw_how_it_works.py"))["draw"]()
    assert (DOCS / "how_it_works.svg").read_text(encoding="utf-8") == drawn
