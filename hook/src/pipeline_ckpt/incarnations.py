"""Whose checkpoints count: the incarnations that have written into a directory, and the chain that they form. Pure.

An *incarnation* is what one process writes from one resume on. It has a number and a nonce, `3-kqzvwmtb`, which are in
the names of all its files, so it replaces nothing of another one's. Its *token* `ckpt.3.token` says who it is, and
which checkpoint of which incarnation it goes on from. The token of a number can be made once only: of two processes
that look at the same time, one goes on. The largest number is the *head*. What counts are its checkpoints, those of the
one that it goes on from up to where it does, and so on: what a superseded process saves is beyond that.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

NEVER = ""
"""In the place of an incarnation: files of format 1, which had none, or of TensorFlow's own hook."""
_NONCE = 8
"""Letters: a name that ends with digits would be taken for a model's checkpoint."""


class Key(NamedTuple):
    """One checkpoint, among those of all incarnations."""

    step: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the checkpoints of an incarnation count."""

    incarnation: str
    up_to: float = math.inf
    """The step."""


@dataclass(frozen=True, slots=True)
class Token:
    """Who has begun to write, and where it goes on."""

    incarnation: str
    start: Key | None
    """The checkpoint that it goes on from; None: it goes on from none."""
    process: str = field(default_factory=lambda: f"process {os.getpid()} on {socket.gethostname()}")

    def content(self) -> dict[str, Any]:
        """As it is written, as JSON."""
        number, nonce = self.incarnation.split("-")
        start = None if self.start is None else self.start._asdict()
        return {"number": int(number), "nonce": nonce, "start": start, "process": self.process}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Token:
        """What was written."""
        start = content["start"]
        key = None if start is None else Key(int(start["step"]), str(start["incarnation"]))
        return cls(f"{int(content['number'])}-{content['nonce']}", key, str(content["process"]))


def new_incarnation(number: int) -> str:
    """The name of one that nobody else has."""
    return f"{number}-{''.join(secrets.choice(string.ascii_lowercase) for _ in range(_NONCE))}"


def number_of(incarnation: str) -> int:
    """The number of an incarnation; 0 of none."""
    return int(incarnation.partition("-")[0] or 0)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory has of the checkpoints of one basename."""

    names: frozenset[str]
    """All that is in it."""
    kinds: dict[str, set[Key]]
    """Of what there is a file or a directory, by what its name ends with."""
    tokens: frozenset[int]
    claims: frozenset[str]
    """The incarnations with something that was to become a token."""

    def of(self, *kinds: str) -> set[Key]:
        """Of what there is a file of one of these kinds."""
        return set().union(*(self.kinds.get(kind, ()) for kind in kinds))

    @property
    def head(self) -> int:
        """The number of the head; 0 for none."""
        return max(self.tokens, default=0)

    def on(self, chain: Iterable[Reach]) -> list[Key]:
        """The checkpoints with a mark that count: the newest first, and of one step the one that was written last."""
        depth = {reach.incarnation: (place, reach.up_to) for place, reach in enumerate(chain)}
        counting = [key for key in self.of("commit") if key.incarnation in depth]
        counting = [key for key in counting if key.step <= depth[key.incarnation][1]]
        return sorted(counting, key=lambda key: (-key.step, depth[key.incarnation][0]))


class Naming:
    """The names of the checkpoints of one basename.

    Args:
        basename: what they begin with.
    """

    def __init__(self, basename: str) -> None:
        self._basename = basename
        incarnation = rf"\d+-[a-z]{{{_NONCE}}}"
        self._file = re.compile(
            rf"{re.escape(basename)}-(\d+)(?:\.({incarnation}))?\.(commit|retired|tmp|mark|index|data-00000-of-00001|meta)"
        )
        self._token = re.compile(rf"{re.escape(basename)}\.(\d+)\.token")
        self._claim = re.compile(rf"{re.escape(basename)}\.({incarnation})\.claim")
        alone = re.sub(r"_(chief|worker)_\d+$", "", basename)
        task = r"_(chief|worker)_\d+" if alone == basename else ""
        self._of_another_count = re.compile(rf"({re.escape(alone)}{task}-\d+)(?:\.{incarnation})?\.commit")

    def listing(self, names: frozenset[str]) -> Listing:
        """What some names are."""
        kinds: dict[str, set[Key]] = {}
        tokens, claims = set(), set()
        for name in names:
            if not name.startswith(self._basename):
                continue
            if match := self._file.fullmatch(name):
                kinds.setdefault(match[3], set()).add(Key(int(match[1]), match[2] or NEVER))
            elif match := self._token.fullmatch(name):
                tokens.add(int(match[1]))
            elif match := self._claim.fullmatch(name):
                claims.add(match[1])
        return Listing(names, kinds, frozenset(tokens), frozenset(claims))

    def of_another_count(self, names: Iterable[str]) -> str:
        """The name of a checkpoint of one worker, where several train now, or the other way round; else empty."""
        return next((match[1] for match in map(self._of_another_count.fullmatch, sorted(names)) if match), "")

    def lost(self, listing: Listing, head: Token | None) -> list[str]:
        """What shows that a training was here, where no checkpoint counts: nobody must begin anew in its place.

        Args:
            listing: what there is.
            head: the head's token; None: there is none.
        """
        if head is not None:
            gone = [] if head.start is None else [f"{self._basename}-{head.start.step}"]
            return [f"{one}, from which {head.process} has gone on, is gone" for one in gone]
        tokens = {self.prefix(key): self.token(number_of(key.incarnation)) for key in sorted(listing.of("commit"))}
        return [f"{name} without {token}, which says whether it counts" for name, token in tokens.items()]

    def prefix(self, key: Key) -> str:
        """What the names of a checkpoint's files begin with."""
        return f"{self._basename}-{key.step}" + (f".{key.incarnation}" if key.incarnation else "")

    def token(self, number: int) -> str:
        """The name of an incarnation's token."""
        return f"{self._basename}.{number}.token"

    def claim(self, incarnation: str) -> str:
        """The name of what is to become its token."""
        return f"{self._basename}.{incarnation}.claim"


def continued(chain: Iterable[Reach], incarnation: str, start: Key | None) -> tuple[Reach, ...]:
    """The chain of an incarnation that goes on from a checkpoint on another chain.

    Args:
        chain: the other one.
        incarnation: the new one.
        start: the checkpoint; None: nothing counts but the incarnation's own.
    """
    if start is None:
        return (Reach(incarnation),)
    places = list(chain)
    first = next((place for place, reach in enumerate(places) if reach.incarnation == start.incarnation), len(places))
    older = [Reach(reach.incarnation, min(reach.up_to, start.step)) for reach in places[first:]]
    return (Reach(incarnation), *older)


__all__ = ["NEVER", "Key", "Listing", "Naming", "Reach", "Token", "continued", "new_incarnation", "number_of"]
