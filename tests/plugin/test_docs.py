"""What the documents show is what is there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pytest_pipeline_ckpt import Outcome
from pytest_pipeline_ckpt.engine.causes import Cause
from pytest_pipeline_ckpt.options import OPTIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_picture() -> None:
    """The committed picture is what its script draws; `python docs/site/draw_how_it_works.py` draws it again."""
    drawn = runpy.run_path(str(DOCS / "site" / "draw_how_it_works.py"))["draw"]()
    assert (DOCS / "how_it_works.svg").read_text(encoding="utf-8") == drawn


def test_options() -> None:
    """The site's page of options has a heading for each, with its names, and nothing left of argparse's quotes."""
    table = runpy.run_path(str(DOCS / "site" / "build_hook.py"))["option_table"]()
    assert [line for line in table.splitlines() if line.startswith("#")] == [
        f"### `{option.flag}{'' if option.is_switch else f'={option.metavar}'}` {{ #{option.key.replace('_', '-')} }}"
        for option in OPTIONS
    ]
    for option in OPTIONS:
        assert f"`{option.variable}`, ini key `{option.name}`" in table
    assert " '" not in table


def test_causes() -> None:
    """The site's page on diagnoses has a row for each reason, and nothing left to be filled in."""
    table = runpy.run_path(str(DOCS / "site" / "build_hook.py"))["cause_table"]().splitlines()
    assert [line.split("`")[1] for line in table[2:]] == [cause.name for cause in Cause]
    assert not any("{" in line for line in table)


def test_every_verdict_has_an_example() -> None:
    """The page of verdicts has a section for each outcome, and no other."""
    script = runpy.run_path(str(DOCS / "site" / "print_verdicts.py"))
    names = [outcome.value for outcome in Outcome]
    assert list(script["blocks"]()) == list(script["SECTIONS"])
    assert sorted(script["SECTIONS"]) == sorted(names)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_verdicts_are_printed_as_shown() -> None:
    """The page of verdicts is what is printed; `python docs/site/print_verdicts.py` prints it anew."""
    script = runpy.run_path(str(DOCS / "site" / "print_verdicts.py"))
    printed = script["shown"](script["SECTIONS"])
    settled = script["settled"]
    assert {name: settled(text) for name, text in printed.items()} == {
        name: settled(text) for name, text in script["blocks"]().items()
    }


@pytest.mark.slow
@pytest.mark.tensorflow
def test_tutorial(tmp_path: Path) -> None:
    """Whoever follows the tutorial sees what it shows; `python docs/site/run_tutorial.py` prints what is seen."""
    script = runpy.run_path(str(DOCS / "site" / "run_tutorial.py"))
    commands = list(script["run"](tmp_path))
    assert len(commands) == 4
    for command in commands:
        assert script["is_shown"](command), command.printed
