"""What mkdocs puts into the pages when it builds them, so that it cannot differ from the code.

A line that is a comment of one of these kinds is replaced:

- `<!-- options -->`: the table of all options, from the one in the code;
- `<!-- causes -->`: the table of known reasons and remedies, likewise;
- `<!-- code: path -->`, `<!-- code: path function -->`: a file of the repository, or a function in it;
- `<!-- page: path -->`: a page of Markdown from elsewhere in the repository.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
_DIRECTIVE = re.compile(r"^<!-- (options|causes|code|page)(?:: (\S+)(?: (\w+))?)? -->$", re.MULTILINE)
_LANGUAGES = {".py": "python", ".yml": "yaml"}
LINKS = {
    "../hook/README.md": "hook-guide.md",
    "../docs/hook.md": "hook.md",
    "../docs/keras.md": "keras.md",
}
"""Links that are right where the Markdown is read in the repository, and what they are on the site."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    filled = _DIRECTIVE.sub(_fill, markdown)
    for there, here in LINKS.items():
        filled = re.sub(rf"\]\({re.escape(there)}(?=[)#])", f"]({here}", filled)
    return filled


def _fill(match: re.Match[str]) -> str:
    kind, path, function = match.groups()
    made: dict[str, Callable[[], str]] = {
        "options": option_table,
        "causes": cause_table,
        "code": lambda: code(path, function),
        "page": lambda: (ROOT / path).read_text(encoding="utf-8"),
    }
    return made[kind]()


def code(path: str, function: str | None = None) -> str:
    """A file, or one function of it, as a block of code."""
    source = (ROOT / path).read_text(encoding="utf-8")
    if function is not None:
        nodes = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) == function]
        source = textwrap.dedent(ast.get_source_segment(source, nodes[0], padded=True) or "")
    return f"```{_LANGUAGES[Path(path).suffix]}\n{source.rstrip()}\n```"


def _make_importable() -> None:
    # Not when this module is loaded: mkdocs puts the path back then.
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def cause_table() -> str:
    """Each reason with its name and its remedy."""
    _make_importable()
    from pytest_pipeline_ckpt.engine.causes import Cause

    filled = {"ops": "*ops*", "policy": "*the external state policy*"}
    rows = [(f"`{one.name}`", one.advice.reason.format(**filled), one.advice.remedy) for one in Cause]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (("", "why", "remedy"), *rows)]
    lines.insert(1, "---|---|---")
    return "\n".join(f"| {line} |" for line in lines)


def option_table() -> str:
    """Each option with its four names, its meaning, and where it can be given besides."""
    _make_importable()
    from pytest_pipeline_ckpt.options import OPTIONS

    blocks = []
    for option in OPTIONS:
        places = [f"`{option.variable}`", f"ini key `{option.name}`"]
        places += ["marker"] * option.in_marker + ["check"] * option.in_check
        words = re.sub(r"(?<!\w)'([^']+)'", r"`\1`", option.help)  # argparse has no other quotes
        words = re.sub(r"--preempt-[\w-]+(?:=\w+)?", r"`\g<0>`", words)
        value = "" if option.is_switch else f"={option.metavar}"
        blocks.append(
            f"### `{option.flag}{value}` {{ #{option.key.replace('_', '-')} }}\n\n"
            f"{words[0].upper()}{words[1:]}.\n\n*Also:* {', '.join(places)}"
        )
    return "\n\n".join(blocks)
