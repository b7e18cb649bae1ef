"""Input checkpoints as files of one directory. Knows nothing of graphs and sessions.

Checkpoint N of basename `input.ckpt` that incarnation `3-kqzvwmtb` has written is TensorFlow's pair
`input.ckpt-N.3-kqzvwmtb.index`, `input.ckpt-N.3-kqzvwmtb.data-00000-of-00001` and the mark
`input.ckpt-N.3-kqzvwmtb.commit`; one that holds a position only is the mark alone, if no model is saved with it. A save
writes the pair in the directory `input.ckpt-N.3-kqzvwmtb.tmp`, renames it to its place, renames the mark to its place,
and only then removes the temporary directory. So a pair without a mark is no checkpoint. A mark that is renewed is
written to `input.ckpt-N.3-kqzvwmtb.mark` first. All names in a mark are relative. Format 1 had no incarnations in the
names.

Whose marks count is in `incarnations.py`. A process that resumes *holds* the checkpoint that it goes on from, by links
of its own, so nobody can take it away; before its first step it *takes* the directory: its token is put in place. From
then on nothing counts that others save. What others have written is removed by the head only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from .errors import NoUsableCheckpointError, StorageError, SupersededError, of_a_newer_version
from .files import is_there, link, local_path, move_to_free_name, names_in, remove, remove_tree, rename, write
from .incarnations import NEVER, Key, Naming, Reach, Token, continued, new_incarnation, number_of
from .marks import PARTS, Mark, mark_of, newest_of_each_step
from .model_names import model_steps
from .pipelines import reason

_FORMAT = 2
_GONE = (FileNotFoundError, tf.errors.NotFoundError)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .incarnations import Listing


@dataclass(frozen=True, slots=True)
class _View:
    """What a look into the directory has shown."""

    head: int = 0
    chain: tuple[Reach, ...] = (Reach(NEVER),)
    marks: tuple[Mark, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Writer:
    """What this process writes as."""

    token: Token
    chain: tuple[Reach, ...]

    @property
    def number(self) -> int:
        """Of the incarnation."""
        return number_of(self.token.incarnation)


class CheckpointStore:
    """The input checkpoints with one basename in one directory.

    Args:
        directory: where they are; local, or anything that `tf.io.gfile` knows.
        basename: what their names begin with.
        max_to_keep: how many of the newest are kept in any case; None keeps all.
        durable: whether files and directories are fsynced before they count; local directories only.
    """

    def __init__(self, directory: str, basename: str, *, max_to_keep: int | None, durable: bool) -> None:
        self.directory = directory
        self.basename = basename
        self._max_to_keep = max_to_keep
        self._durable = durable
        self._naming = Naming(basename)
        self._view = _View()
        self._held: tuple[_Writer, Mark] | None = None
        """What is to be taken, and the checkpoint that it goes on from."""
        self._writer: _Writer | None = None
        self._listed: Listing | None = None
        """What the last save has seen; `prune` need not list again."""

    def named(self, basename: str) -> CheckpointStore:
        """The checkpoints with another basename."""
        return CheckpointStore(self.directory, basename, max_to_keep=self._max_to_keep, durable=self._durable)

    def prefix(self, mark: Mark) -> str:
        """TensorFlow's name of a checkpoint: the path without the parts' suffixes."""
        return self._prefix(mark.key)

    def _prefix(self, key: Key) -> str:
        return self._path(self._naming.prefix(key))

    # Looking.

    def open(self) -> None:
        """Makes the directory."""
        tf.io.gfile.makedirs(self.directory)

    def committed(self) -> tuple[list[Mark], list[str]]:
        """The whole checkpoints that count, newest first, and for each that is not whole a sentence that says why.

        Raises:
            NoUsableCheckpointError: a newer version of this package has written some, or nobody can tell which count.
        """
        self._view = self._look()
        return list(self._view.marks), list(self._view.problems)

    def _look(self) -> _View:
        while True:
            listing = self._list()
            try:
                chain, head = self._chain(listing)
            except _GONE:
                continue  # somebody has superseded those who were here
            found = {key: self._read_mark(key) for key in listing.on(chain)}
            broken = {key: why for key, why in found.items() if isinstance(why, str)}
            if all(is_there(self._prefix(key) + ".commit") for key in broken):  # else it was deleted meanwhile
                marks = newest_of_each_step(found)
                whole = {mark.step for mark in marks}
                problems = {key.step: why for key, why in reversed(broken.items()) if key.step not in whole}
                lost = () if found else self._naming.lost(listing, head)
                return _View(listing.head, chain, marks, (*lost, *reversed(problems.values())))

    def _chain(self, listing: Listing) -> tuple[tuple[Reach, ...], Token | None]:
        """Whose checkpoints count, without any token those of format 1; and the head's token."""
        tokens: list[Token] = []
        number = listing.head
        while number in listing.tokens:
            tokens.append(self._read_token(number))
            start = tokens[-1].start
            number = 0 if start is None else min(number_of(start.incarnation), number - 1)
        chain: tuple[Reach, ...] = (Reach(NEVER),)
        for token in reversed(tokens):
            chain = continued(chain, token.incarnation, token.start)
        return chain, tokens[0] if tokens else None

    def _read_token(self, number: int) -> Token:
        path = self._path(self._naming.token(number))
        try:
            with tf.io.gfile.GFile(path, "r") as file:
                content = json.loads(file.read())
            if not 1 <= content["format"] <= _FORMAT:
                raise of_a_newer_version(path, content["format"], newest=_FORMAT)
            return Token.of(content)
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            if isinstance(error, _GONE) and not is_there(path):
                raise
            raise NoUsableCheckpointError(
                f"{path} says whose checkpoints count, and is damaged ({error}). Restore the file, or train in another "
                "directory."
            ) from error

    def of_another_count(self) -> str:
        """The name of a checkpoint here of one worker, where several train now, or the other way round; else empty."""
        return self._naming.of_another_count(names_in(self.directory))

    def strangers(self) -> list[str]:
        """The names of checkpoints under this basename that are not ours."""
        listing = self._list()
        found = listing.of("index") - listing.of("commit", "retired", "tmp", "mark")
        return [self._naming.prefix(key) for key in sorted(found) if not key.incarnation]

    def foreign(self) -> list[int]:
        """The steps, newest first, of checkpoints that TensorFlow's own hook left here: pairs with its `.meta`."""
        listing = self._list()
        found = listing.of("meta") - listing.of("commit")
        whole = [key for key in found if {self._naming.prefix(key) + part for part in PARTS} <= listing.names]
        return sorted((key.step for key in whole if not key.incarnation), reverse=True)

    # Beginning to write.

    def hold(self, mark: Mark, *, foreign: bool = False) -> Mark | None:
        """Makes a checkpoint of `committed`, from which a training is to go on, this process's own; see `take`.

        Args:
            mark: the checkpoint.
            foreign: it is one of TensorFlow's own hook, and has no mark.

        Returns:
            The mark of the same checkpoint under one's own name; None: whoever else saves here has deleted it since.

        Raises:
            StorageError: it cannot be written.
        """
        self.drop()
        incarnation = new_incarnation(self._view.head + 1)
        start = None if foreign else mark.key
        held = dataclasses.replace(mark, incarnation=incarnation)
        self._held = (_Writer(Token(incarnation, start), continued(self._view.chain, incarnation, start)), held)
        try:
            before = self._identity(mark)
            for part in mark.parts:
                link(self.prefix(mark) + part, self.prefix(held) + part)
                self._sync(self.prefix(held) + part)
            # Its parts may have been replaced in between, by a save of the same step. A loss may be no number, which
            # does not equal itself.
            if self._identity(mark) == before and (foreign or repr(self._read_mark(mark.key)) == repr(mark)):
                self._write_mark(held, self.prefix(held) + ".mark")
                return held
        except _GONE:
            pass
        except (OSError, tf.errors.OpError) as error:
            raise unwritable(self.directory, error) from error
        self.drop()
        return None

    def _identity(self, mark: Mark) -> list[tuple[int, int]]:
        stats = [tf.io.gfile.stat(self.prefix(mark) + part) for part in mark.parts]
        return [(stat.length, stat.mtime_nsec) for stat in stats]

    def drop(self) -> None:
        """Removes what is held, and was not taken."""
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(OSError, tf.errors.OpError):  # it counts for nobody
                self._remove(*(self.prefix(held[1]) + part for part in (".commit", ".mark", *PARTS)))

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Drops what is still held at the end."""
        try:
            yield
        finally:
            self.drop()

    def check_unchanged(self) -> None:
        """Looks whether another process has taken the directory since `committed`; then what is held may be gone.

        Raises:
            SupersededError: one has.
        """
        head = self._list().head
        if head != self._view.head:
            raise self._superseded(head)

    def take(self) -> None:
        """From now on this process writes here, and goes on from what it holds; from nothing, if it holds nothing.

        Raises:
            SupersededError: another one has begun to since `committed`.
        """
        incarnation = new_incarnation(self._view.head + 1)
        writer = _Writer(Token(incarnation, None), (Reach(incarnation),)) if self._held is None else self._held[0]
        self._write_claim(writer)
        # As soon as the token may be there, others go on from what is held, whatever happens here.
        held, self._held = self._held, None
        self._put_token(writer)  # which somebody has done already who has begun since `committed`
        listing = self._list()
        if not self._is_there(writer.token):
            self._held = held
        self._check(writer, listing)
        self._writer = writer
        self._sweep(listing, below=writer.number)

    def _write_claim(self, writer: _Writer) -> None:
        """Writes what is to become a token."""
        content = json.dumps({"format": _FORMAT, **writer.token.content()})
        write(self._path(self._naming.claim(writer.token.incarnation)), content)

    def _put_token(self, writer: _Writer) -> None:
        """Puts a token in place that was claimed, unless there is one of that number."""
        temporary = self._path(self._naming.claim(writer.token.incarnation))
        with contextlib.suppress(*_GONE):  # who has been faster has removed it, which `_check` tells
            self._sync(temporary)
            move_to_free_name(temporary, self._path(self._naming.token(writer.number)))
        self._sync(self.directory)

    def _check(self, writer: _Writer, listing: Listing) -> None:
        """Raises SupersededError unless a writer is the head."""
        others = any(number_of(key.incarnation) > writer.number for key in listing.of("commit"))
        if not listing.tokens and not others:  # somebody has emptied the directory, and nobody has begun anew
            self._write_claim(writer)
            self._put_token(writer)
        if listing.head > writer.number or not self._is_there(writer.token):
            raise self._superseded(listing.head)

    def _is_there(self, token: Token) -> bool:
        """Whether a token is there, and no other one in its place; where reading fails, nobody knows: it raises."""
        try:
            return self._read_token(number_of(token.incarnation)) == token
        except _GONE:
            return False
        except NoUsableCheckpointError as error:
            if isinstance(error.__cause__, tf.errors.OpError):
                raise error.__cause__ from None
            return False

    def _token_or_none(self, number: int) -> Token | None:
        with contextlib.suppress(*_GONE, NoUsableCheckpointError):
            return self._read_token(number)
        return None

    def _superseded(self, head: int) -> SupersededError:
        token = self._token_or_none(head)
        who = "another process" if token is None else token.process
        where = "the beginning" if token is None or token.start is None else f"{self.basename}-{token.start.step}"
        return SupersededError(
            f"The training in {self.directory} was taken over by {who}, which goes on from {where}: what is there is "
            "whole, and nothing that this process saves would count any more. End this process, or let it train in "
            "another directory."
        )

    # Saving.

    @property
    def incarnation(self) -> str:
        """What this process writes as; empty before `take`."""
        return NEVER if self._writer is None else self._writer.token.incarnation

    def begin_save(self, step: int) -> str:
        """Makes the temporary directory of checkpoint `step`; the prefix to write to."""
        self.abandon(step)
        tf.io.gfile.makedirs(self._own(step) + ".tmp")
        return f"{self._own(step)}.tmp/part"

    def abandon(self, step: int) -> None:
        """Removes what a save has written so far, unless it is marked."""
        own = self._own(step)
        remove_tree(own + ".tmp")
        if not is_there(own + ".commit") and not is_there(own + ".retired"):
            self._remove(*(own + part for part in PARTS))

    def commit(self, mark: Mark) -> int:
        """Puts what was written to `begin_save`'s prefix in place and marks it; its size in bytes.

        Raises:
            SupersededError: another process has taken the directory; nothing is marked.
        """
        mark = dataclasses.replace(mark, incarnation=self.incarnation)
        prefix = self.prefix(mark)
        for part in mark.parts:
            self._sync(f"{prefix}.tmp/part{part}")
        self._listed = self._list()  # once: there may be a hundred thousand files
        self.check(self._listed)
        # What is there under this step was retired or is not whole, or it would not be saved again.
        self._remove(prefix + ".commit", prefix + ".retired")
        for part in mark.parts:
            rename(f"{prefix}.tmp/part{part}", prefix + part)
        size = self._write_mark(mark, f"{prefix}.tmp/commit")
        remove_tree(prefix + ".tmp")
        self._listed.kinds.setdefault("commit", set()).add(mark.key)
        return size

    def check(self, listing: Listing | None = None) -> None:
        """Looks whether another process has taken the directory.

        Args:
            listing: what is there; None: it is listed.

        Raises:
            SupersededError: one has.
        """
        assert self._writer is not None, "only who has taken the directory writes there"
        self._check(self._writer, listing or self._list())

    def renew(self, mark: Mark) -> None:
        """Replaces the mark of a checkpoint of one's own by one that knows more."""
        # Not in a temporary directory: one that is left behind says that the files are of a save that was killed.
        self._write_mark(mark, self.prefix(mark) + ".mark")

    def _own(self, step: int) -> str:
        return self._prefix(Key(step, self.incarnation))

    def _write_mark(self, mark: Mark, temporary: str) -> int:
        prefix, name = self.prefix(mark), self._naming.prefix(mark.key)
        sizes = {name + part: tf.io.gfile.stat(prefix + part).length for part in mark.parts}
        content = json.dumps({"format": _FORMAT, **dataclasses.asdict(mark), "bytes": sizes})
        write(temporary, content)
        self._sync(temporary)
        self._sync(self.directory)  # the renames of the pair come before the mark's
        rename(temporary, prefix + ".commit")
        self._sync(self.directory)
        return int(sum(sizes.values())) + len(content)

    def _sync(self, path: str) -> None:
        local = local_path(path) if self._durable else None
        if local is None:
            return
        descriptor = os.open(local, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # Removing.

    def retire(self, mark: Mark) -> None:
        """Takes the mark from a checkpoint; a person can still give it back until the next `prune`."""
        self._retire(mark.key)

    def _retire(self, key: Key) -> None:
        rename(self._prefix(key) + ".commit", self._prefix(key) + ".retired")

    def beyond(self, step: int) -> list[int]:
        """The steps of the checkpoints of `committed` that are newer than where a training goes on, oldest first."""
        return sorted(mark.step for mark in self._view.marks if mark.step > step)

    def prune(self) -> None:
        """Deletes what does not count any more, and checkpoints that no kept model checkpoint can need.

        Needed are the newest `max_to_keep`, and for each model checkpoint in the directory the newest that is
        not beyond it. One that is not whole can stand for none, and is left to whoever looks into it.
        """
        writer = self._writer
        assert writer is not None, "only the head removes what others have written"
        listing, self._listed = self._listed or self._list(), None
        found = {key: self._read_mark(key) for key in listing.on(writer.chain)}
        marks = newest_of_each_step(found)
        keep = {mark.key for mark in (marks if self._max_to_keep is None else marks[: self._max_to_keep])}
        for model in model_steps(listing.names, basename=self.basename):
            keep.update([mark.key for mark in marks if mark.model_step <= model][:1])
        keep |= {key for key, mark in found.items() if isinstance(mark, str)}
        # One's own, and those of who came before; who has come since is not ours to remove.
        past = {key for key in listing.of("commit", "retired") if number_of(key.incarnation) <= writer.number}
        for key in past - keep:
            # A kill in between must leave neither a mark without its files, nor files that nobody knows of. One that
            # TensorFlow's own hook left has a meta graph too.
            if key not in listing.of("retired"):
                with contextlib.suppress(*_GONE):  # who wrote it deletes it too
                    self._retire(key)
            self._remove(*(self._prefix(key) + part for part in (".commit", *PARTS, ".meta", ".retired")))
        self._sweep(listing, below=writer.number + 1)
        last = max(place for place, reach in enumerate(writer.chain) if place == 0 or _leads_to(keep, reach))
        needed = {number_of(reach.incarnation) for reach in writer.chain[: last + 1]}
        self._remove(
            *(
                self._path(self._naming.token(one))
                for one in listing.tokens
                if one < writer.number and one not in needed
            )
        )

    def _sweep(self, listing: Listing, *, below: int) -> None:
        """Removes what saves and resumes of others have left that were killed.

        Args:
            listing: what there is.
            below: of the incarnations with a smaller number than this.
        """

        def left(*kinds: str) -> Iterator[Key]:
            found = listing.of(*kinds)
            return (key for key in found if number_of(key.incarnation) < below and key.incarnation != self.incarnation)

        unmarked = set(left("index", "data-00000-of-00001")) - listing.of("commit", "retired")
        # Without an incarnation in its name a pair may be somebody else's.
        for key in unmarked:
            if key.incarnation or key in listing.of("tmp"):
                self._remove(*(self._prefix(key) + part for part in PARTS))
        for key in left("tmp"):
            with contextlib.suppress(OSError, tf.errors.OpError):  # who is superseded may still write there
                remove_tree(self._prefix(key) + ".tmp")
        self._remove(*(self._prefix(key) + ".mark" for key in left("mark")))
        self._remove(*(self._path(self._naming.claim(one)) for one in listing.claims if number_of(one) < below))

    def _read_mark(self, key: Key) -> Mark | str:
        try:
            with tf.io.gfile.GFile(self._prefix(key) + ".commit", "r") as file:
                content = json.loads(file.read())
            if not 1 <= content["format"] <= _FORMAT:
                checkpoint = f"{self.directory}/{self.basename}-{key.step}"
                raise of_a_newer_version(checkpoint, content["format"], newest=_FORMAT)
            for name, size in content["bytes"].items():
                found = tf.io.gfile.stat(self._path(name)).length
                if found != size:
                    raise ValueError(f"{name} has {found} bytes instead of {size}")
            return mark_of({**content, **key._asdict()})
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            return f"{self.basename}-{key.step}: {error}"

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _list(self) -> Listing:
        return self._naming.listing(names_in(self.directory))

    def _remove(self, *paths: str) -> None:
        for path in paths:
            remove(path)


def _leads_to(keys: set[Key], reach: Reach) -> bool:
    return any(key.incarnation == reach.incarnation for key in keys)


def unwritable(directory: str, error: Exception) -> StorageError:
    """What to raise when nothing can be written before a training begins."""
    return StorageError(
        f"No input checkpoint can be written to {directory}: {reason(error)}. Nothing was trained; make room or the "
        "directory writable, or pass another checkpoint_dir."
    )
