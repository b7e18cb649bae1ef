"""Draws `docs/how_it_works.svg`: `python docs/site/draw_how_it_works.py`. The same bytes each time, no dependency."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parents[1] / "how_it_works.svg"

WIDTH, HEIGHT = 900, 640
PITCH, RADIUS = 24, 10
ELEMENTS, ROOM = range(1, 25), {10: 34, 14: 10, 20: 34}
"""The elements that are shown, and the room behind some of them: for the saves, and for a kill."""
ZOOM_TOP, ZOOM_BOTTOM, RUN, HEADINGS, ROWS, ROW = 84, 132, 196, 262, 280, 90

STYLE = """
  text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif;
         font-size: 12.5px; fill: #57606a }
  .heading { font-size: 15px; font-weight: 600 }
  .strong { font-weight: 600 }
  .verdict { font-size: 15px; font-weight: 700 }
  .file { font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", Consolas, monospace; font-size: 12px }
  .middle { text-anchor: middle }
  .white { fill: #ffffff }
  .good { fill: #1a7f5a } .bad { fill: #b35900 } .number { font-size: 12px }
  .line { stroke: #8c959f; stroke-width: 1.5; fill: none }
  .slit { stroke: #ffffff; stroke-width: 1.5 }
  .guide { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 2 5; fill: none }
  .funnel { fill: #8c959f; fill-opacity: 0.16 }
  .card { fill: #8c959f; fill-opacity: 0.10; stroke: #8c959f }
  .tile { fill: #8c959f; fill-opacity: 0.22; stroke: #8c959f }
  .commit { fill: #2f6fb5; stroke: #2f6fb5 }
  .recorded { fill: #2f6fb5 }
  .same { fill: none; stroke: #1a7f5a; stroke-width: 1.6 }
  .other { fill: none; stroke: #b35900; stroke-width: 2 }
  .to-good { stroke: #1a7f5a; stroke-width: 1.6; fill: none }
  .to-bad { stroke: #b35900; stroke-width: 1.6; fill: none }
  .kill { fill: #c93c37 }
  .cross { stroke: #c93c37; stroke-width: 2.2; fill: none }
  .could { stroke: #c93c37; stroke-width: 1.3; fill: none; opacity: 0.6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #a3abb5 } .white { fill: #ffffff }
    .good { fill: #3fb68b } .same, .to-good { stroke: #3fb68b }
    .bad { fill: #e5903a } .other, .to-bad { stroke: #e5903a }
    .cross, .could { stroke: #f0655e }
  }
"""


class Row(NamedTuple):
    """What one kill leaves and what comes of it."""

    kill: str
    files: tuple[str, ...]
    odd: tuple[str, ...]
    """Those of the files that make the state what it is."""
    says: str
    """On the arrow."""
    first: int
    """Which element of the recorded run should come next."""
    taken: int
    """Which one the resumed life takes."""
    verdict: str
    why: tuple[str, str]


OPERATIONS = (
    ("temporary", "files written"),
    ("data", "renamed"),
    ("index", "made"),
    ("index", "written"),
    ("checkpoint", "renamed"),
    ("old ones", "deleted"),
    ("input saved,", "the same way"),
)
COMMIT = 4
KILLS_IN_SAVE = {"B": 3, "C": 5, "D": 7}
"""Behind how many of the operations."""
KILLED_AFTER_ELEMENT = 14
SAVED = (10, 20)

_HALF = "model.ckpt-20 (half)"
_STALE = ("input.ckpt-10", "checkpoint → 20")
TABLE = (
    Row(
        "A",
        ("model.ckpt-10", "input.ckpt-10", "checkpoint → 10"),
        (),
        "resume at 10",
        11,
        11,
        "exact",
        ("11 to 14 again, with", "the older model: legal"),
    ),
    Row(
        "B",
        ("model.ckpt-10", _HALF, "input.ckpt-10", "checkpoint → 10"),
        (_HALF,),
        "resume at 10",
        11,
        11,
        "exact",
        ("the half-written save", "is passed over"),
    ),
    Row(
        "C",
        ("model.ckpt-10", "model.ckpt-20", *_STALE),
        _STALE,
        "resume: model at 20, input at 10",
        21,
        11,
        "misaligned",
        ("input 10 elements", "behind the model"),
    ),
    Row(
        "D",
        ("model.ckpt-20", "input.ckpt-20", "checkpoint → 20"),
        (),
        "resume: model and input at 20",
        21,
        21,
        "exact",
        ("none lost,", "none twice"),
    ),
)


def draw() -> str:
    """The whole picture."""
    title = (
        "One run is recorded. What each kill would leave is rebuilt, resumed, and compared with that run's own tail."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title>',
        f"<style>{STYLE}</style>",
        _text(16, 26, "1  Record one run: its elements and its file operations, in one order", "heading"),
        *_zoom(),
        *_run(),
        _text(16, HEADINGS, "2  Rebuild what a kill leaves", "heading"),
        _text(330, HEADINGS, "3  Resume it, compare with the recorded run above", "heading"),
    ]
    for number, row in enumerate(TABLE):
        parts += _row(row, ROWS + number * ROW)
    return "\n".join([*parts, "</svg>", ""])


def _zoom() -> list[str]:
    """The save behind element 20, one tile for an operation, and the kills between them."""
    x, middle = _behind(SAVED[1]), (ZOOM_TOP + ZOOM_BOTTOM) / 2
    left, gap, width = 16.0, 16.0, 106.0
    right = left + len(OPERATIONS) * (width + gap) - gap
    corners = (
        f"{_n(left)},{ZOOM_BOTTOM + 6} {_n(right)},{ZOOM_BOTTOM + 6} {_n(x + 11)},{RUN - 12} {_n(x - 11)},{RUN - 12}"
    )
    parts = [f'<polygon class="funnel" points="{corners}"/>']
    parts.append(_text(x - 60, ZOOM_BOTTOM + 24, "inside the save at element 20", "middle"))
    for number, lines in enumerate(OPERATIONS):
        at, commit = left + number * (width + gap), number == COMMIT
        parts.append(_box(at, ZOOM_TOP, width, ZOOM_BOTTOM - ZOOM_TOP, "commit" if commit else "tile"))
        for line, y in zip(lines, (middle - 4, middle + 13), strict=True):
            parts.append(_text(at + width / 2, y, line, "middle strong white" if commit else "middle"))
        if commit:
            parts.append(_text(at + width / 2, ZOOM_TOP - 9, "= commit", "middle strong"))
        if number + 1 not in KILLS_IN_SAVE.values() and number + 1 < len(OPERATIONS):
            parts.append(_cross(at + width + gap / 2, middle, 4, "could"))
    for letter, done in KILLS_IN_SAVE.items():
        end = left + done * (width + gap) - gap
        at = end + gap / 2 if done < len(OPERATIONS) else end + 12
        parts += [_cross(at, middle, 6, "cross"), _line(at, ZOOM_TOP - 10, at, middle - 10, "cross")]
        parts += _badge(letter, at, ZOOM_TOP - 20)
    parts.append(_cross(21, 56, 4, "could"))
    return [*parts, _text(34, 60, "a kill can land here; four examples:")]


def _run() -> list[str]:
    """The recorded run."""
    parts = [_line(_x(1) - RADIUS - 6, RUN, _x(1) - RADIUS, RUN, "line"), *_track(1, RUN, "line")]
    for element in ELEMENTS:
        parts.append(f'<circle class="recorded" cx="{_n(_x(element))}" cy="{RUN}" r="{RADIUS}"/>')
        parts.append(_text(_x(element), RUN + 4, str(element), "middle number white"))
    for x in map(_behind, SAVED):
        parts.append(_box(x - 11, RUN - 12, 22, 24, "commit", radius=3))
        parts += [_line(x - 11 + step, RUN - 7, x - 11 + step, RUN + 7, "slit") for step in (6, 11, 16)]
        parts.append(_text(x, RUN + 30, "save", "middle"))
    parts.append(_text(_x(ELEMENTS[-1]) + 20, RUN + 4, "… to its end"))
    parts.append(_text(50, RUN + 30, "elements of the recorded run"))
    between = _behind(KILLED_AFTER_ELEMENT)
    parts += [_cross(between, RUN, 6, "cross"), _line(between, RUN + 8, between, RUN + 22, "cross")]
    return [*parts, *_badge("A", between, RUN + 30)]


def _row(row: Row, top: float) -> list[str]:
    """A kill, the directory, the arrow, the elements, the verdict."""
    height, middle, good = ROW - 14, top + (ROW - 14) / 2, row.first == row.taken
    parts = [*_badge(row.kill, 26, middle), _box(46, top, 167, height, "card")]
    first_line = middle - (len(row.files) - 1) * 8 + 4
    for number, name in enumerate(row.files):
        odd = ("file strong" if good else "file strong bad") if name in row.odd else "file"
        parts.append(_text(56, first_line + 16 * number, name, odd))
    kind = "good" if good else "bad"
    end = _x(row.first) - RADIUS - 6
    parts.append(_line(219, middle, end, middle, f"to-{kind}"))
    parts.append(
        f'<path class="to-{kind}" d="M{_n(end - 6)} {_n(middle - 4)} L{_n(end)} {_n(middle)} '
        f'L{_n(end - 6)} {_n(middle + 4)}"/>'
    )
    parts.append(_text(220, middle - 9, row.says, kind))
    parts += _track(row.first, middle, f"to-{kind}")
    guides = [_behind(save) for save in SAVED if save + 1 >= row.first]
    parts += [_line(x, top, x, top + (height if row is TABLE[-1] else ROW), "guide") for x in guides]
    for offset, place in enumerate(range(row.first, ELEMENTS[-1] + 1)):
        parts += _element(_x(place), middle, str(row.taken + offset), kind)
        parts.append(_text(_x(place), middle - RADIUS - 5, "=" if good else "≠", f"middle strong {kind}"))
    parts.append(_text(738, middle - 14, row.verdict, f"verdict {kind}"))
    parts += [_text(738, middle + 4 + 16 * number, line) for number, line in enumerate(row.why)]
    return parts


def _element(x: float, y: float, number: str, kind: str) -> list[str]:
    """Of a resumed life: a circle, or where it is another one than in the recorded run a square."""
    if kind == "good":
        shape = f'<circle class="same" cx="{_n(x)}" cy="{_n(y)}" r="{RADIUS}"/>'
    else:
        shape = _box(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS, "other", radius=2)
    return [shape, _text(x, y + 4, number, f"middle number {kind}")]


def _x(element: int) -> float:
    """Where an element is."""
    return 66 + (element - 1) * PITCH + sum(room for after, room in ROOM.items() if element > after)


def _behind(element: int) -> float:
    """The middle between an element and the next one."""
    return (_x(element) + _x(element + 1)) / 2


def _track(first: int, y: float, style: str) -> list[str]:
    """What joins the elements, without crossing them: nothing is filled."""
    ends = [(_x(element), _x(element + 1)) for element in range(first, ELEMENTS[-1])]
    parts = [_line(left + RADIUS, y, right - RADIUS, y, style) for left, right in ends]
    last = _x(ELEMENTS[-1]) + RADIUS
    return [*parts, _line(last, y, last + 6, y, style)]


def _badge(letter: str, x: float, y: float) -> list[str]:
    return [
        f'<circle class="kill" cx="{_n(x)}" cy="{_n(y)}" r="{RADIUS}"/>',
        _text(x, y + 4.5, letter, "middle strong white"),
    ]


def _cross(x: float, y: float, size: float, style: str) -> str:
    a, b, c, d = _n(x - size), _n(y - size), _n(x + size), _n(y + size)
    return f'<path class="{style}" d="M{a} {b} L{c} {d} M{a} {d} L{c} {b}"/>'


def _box(x: float, y: float, width: float, height: float, style: str, *, radius: float = 5) -> str:
    size = f'width="{_n(width)}" height="{_n(height)}"'
    return f'<rect class="{style}" x="{_n(x)}" y="{_n(y)}" {size} rx="{_n(radius)}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _text(x: float, y: float, words: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{_n(x)}" y="{_n(y)}" xml:space="preserve">{escape(words)}</text>'


def _n(number: float) -> str:
    return f"{number:g}"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
