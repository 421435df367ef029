# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at random instants: finished data stays whole, and the same command works when repeated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from faults import DONE, MIB, AtChange, Context, Kill, bytes_under, files_under, same, tool


def copy_folder(of: Path, to: Path) -> None:
    """A fresh copy of a repository."""
    shutil.rmtree(to, ignore_errors=True)
    tool("cp", "-a", of, to)


class Instants:
    """Moments to kill: half of them at a random instant, half at a change of the repository."""

    def __init__(self, ctx: Context, watched: Path, prepare: Callable[[], None], words: list[str | Path]) -> None:
        self.ctx = ctx
        self.watched = watched
        # The first run warms caches; the second gives the duration and the number of changes.
        for _ in range(2):
            prepare()
            changes = AtChange(watched, 1 << 30, 0)
            whole = ctx.kill(words, changes)
            if whole.was_killed or whole.ended.status != DONE:
                raise AssertionError(str(whole.ended))
        self.seconds = whole.seconds
        self.changes = max(1, changes.count)

    def draw(self) -> tuple[Callable[[float], bool], str]:
        """A moment and its description."""
        random = self.ctx.random
        if random.random() < 0.5:
            instant = random.uniform(0, self.seconds * 1.02)
            return lambda seconds: seconds >= instant, f"after {instant:.3f} of {self.seconds:.3f} s"
        number = random.randint(1, self.changes)
        delay = random.choice([0.0, random.uniform(0, self.seconds / self.changes)])
        return AtChange(self.watched, number, delay), f"at change {number} of {self.changes} + {delay * 1000:.1f} ms"


def half_an_image(ctx: Context, image: Path) -> str:
    """Verifies and removes the image after a kill: only a whole one may have the final name. Gives the fault."""
    if not image.exists():
        return ""
    ended = ctx.reforge("verify", image)
    if ended.status != DONE:
        return f"an incomplete image has the final name: {ended}"
    image.unlink()
    return ""


def kill_many(
    ctx: Context, name: str, count: int, watched: Path, prepare: Callable[[], None], words: list[str | Path],
    judge: Callable[[Kill], str],
) -> None:  # fmt: skip
    """Kills a command many times, each time after `prepare`, and judges the remains."""
    instants = Instants(ctx, watched, prepare, words)
    killed = 0
    tries = 0
    # Only kills in time count: a command of a fifth of a second often ends before the signal.
    while killed < count and tries < 12 * count:
        tries += 1
        prepare()
        moment, text = instants.draw()
        kill = ctx.kill(words, moment)
        if not kill.was_killed:
            # The command was faster: its result is judged, too, and the next instant is within its duration.
            text += ", ended before"
            instants.seconds = min(instants.seconds, kill.seconds)
        killed += kill.was_killed
        try:
            why = judge(kill)
        except AssertionError as error:
            why = str(error)
        if why or not ctx.full:
            ctx.that(f"{name} killed {text}", not why, why)
    ctx.that(f"{name}: killed {killed} times at work, of {tries}", killed >= count)


def after_capture(
    ctx: Context, repository: Path, disk: Path, held: dict[str, Path], keys: list[str], cleans: bool
) -> str:
    """Checks a repository after a killed capture; gives the fault, or an empty text."""
    held = dict(held)
    for snapshot in ctx.snapshots(repository, *keys):
        # The kill came after the last step.
        held.setdefault(snapshot, disk)
    if why := ctx.wrong_repository(repository, held, *keys):
        return f"after the kill: {why}"
    held[ctx.capture(disk, repository, "here", *keys)] = disk
    if why := ctx.wrong_repository(repository, held, *keys):
        return f"after the next capture: {why}"
    if why := ctx.litter(repository):
        return f"the next capture leaves {why}"
    if cleans:
        for _ in range(2):
            ctx.done("prune", repository, "--grace", "0s", *keys)
        if why := ctx.wrong_repository(repository, held, *keys):
            return f"after pruning: {why}"
    return ""


def test_capture(ctx: Context) -> None:
    """A capture into a repository is killed."""
    disk = ctx.make_disk("disk", 96)
    later = ctx.change_disk(disk, "later", 30)
    latest = ctx.change_disk(later, "latest", 30)
    base, repository = ctx.folder / "base", ctx.folder / "repo"
    ctx.done("init-repo", base, "--chunk-size", "64K")
    held = {ctx.capture(disk, base): disk, ctx.capture(later, base): later}
    words: list[str | Path] = ["capture", latest, f"{repository}@", "--host", "here", "--all-sectors"]
    cleans = iter([True] + [False, False, False] * 100)
    kill_many(
        ctx, "capture", ctx.of(4, 70), repository, lambda: copy_folder(base, repository), words,
        lambda _: after_capture(ctx, repository, latest, held, [], next(cleans)),
    )  # fmt: skip


def test_first_capture(ctx: Context) -> None:
    """The first capture into an encrypted repository is killed repeatedly."""
    disk = ctx.make_disk("disk", 96)
    keys = ["--password-file", str(ctx.password_file())]
    base, repository = ctx.folder / "base", ctx.folder / "repo"
    ctx.done("init-repo", base, "--chunk-size", "64K", "--encrypt", *keys)
    words: list[str | Path] = ["capture", disk, f"{repository}@", "--host", "here", "--all-sectors", *keys]
    instants = Instants(ctx, repository, lambda: copy_folder(base, repository), words)
    rounds = ctx.of(1, 4)
    for _ in range(rounds):
        copy_folder(base, repository)
        for _ in range(ctx.of(3, 8)):
            moment, text = instants.draw()
            ctx.kill(words, moment)
        why = after_capture(ctx, repository, disk, {}, keys, True)
        ctx.that(f"a capture killed several times, the last time {text}", not why, why)


def test_capture_goes_on(ctx: Context) -> None:
    """A capture after a late kill reuses the stored contents."""
    disk = ctx.folder / "disk"
    with disk.open("wb") as file:
        for _ in range(80):
            file.write(ctx.random.randbytes(8 * MIB))
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    whole = disk.stat().st_size
    kill = ctx.kill(
        ["capture", disk, f"{repository}@", "--host", "here", "--all-sectors"],
        lambda _: bool(files_under(repository / "indexes")),
    )
    stored = bytes_under(repository / "packs")
    ctx.that("it was killed at work", kill.was_killed, kill.ended)
    again = ctx.done("capture", disk, f"{repository}@", "--host", "here", "--all-sectors", "--json").json()
    share = again["storedByteCount"] / whole
    ctx.note(
        f"  killed with {stored / MIB:.0f} of {whole / MIB:.0f} MiB stored; the next run stores "
        f"{again['storedByteCount'] / MIB:.0f} MiB ({share:.0%}), "
        f"{again['deduplicatedByteCount'] / MIB:.0f} MiB are present"
    )
    ctx.that("the next capture stores less than half of the whole again", share < 0.5, again)
    why = ctx.wrong_repository(repository, {again["imageID"]: disk})
    ctx.that("and is whole", not why, why)


def fill(ctx: Context, repository: Path, disks: int, mebibytes: int, changed: int) -> dict[str, Path]:
    """Fills a repository with `disks` snapshots of one disk; gives them, oldest first."""
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    # A raw file has no serial number: its name identifies the disk.
    disk = ctx.make_disk("0/disk", mebibytes)
    held = {ctx.capture(disk, repository): disk}
    for number in range(1, disks):
        # Snapshots are ordered by the second.
        disk = ctx.change_disk(disk, f"{number}/disk", changed)
        time.sleep(1.01)
        held[ctx.capture(disk, repository)] = disk
    return held


def after_maintenance(
    ctx: Context, repository: Path, words: list[str | Path], kept: dict[str, Path], may_stay: dict[str, Path],
    fresh: int,
) -> str:  # fmt: skip
    """Checks a repository after a killed forget or prune; gives the fault, or an empty text."""
    there = ctx.snapshots(repository)
    if missing := set(kept) - set(there):
        return f"snapshots are gone: {missing}"
    held = {snapshot: (kept | may_stay)[snapshot] for snapshot in there}
    if why := ctx.wrong_repository(repository, held):
        return f"after the kill: {why}"
    ended = ctx.reforge(*words)
    if ended.status != DONE:
        return f"the next run: {ended}"
    if why := ctx.wrong_repository(repository, kept):
        return f"after the next run: {why}"
    for _ in range(2):
        ctx.done("prune", repository, "--grace", "0s")
    if why := ctx.wrong_repository(repository, kept):
        return f"after pruning: {why}"
    if why := ctx.litter(repository):
        return f"it leaves {why}"
    if (size := bytes_under(repository)) > fresh * 5 // 4 + MIB:
        return f"{size} bytes are left, where {fresh} would do"
    return ""


def maintained(ctx: Context) -> tuple[Path, dict[str, Path], int]:
    """A repository with five snapshots, the snapshots, and the size of a repository with only the newest two."""
    base = ctx.folder / "base"
    held = fill(ctx, base, 5, 48, 10)
    kept = dict(list(held.items())[-2:])
    # The size of a repository with those two only.
    fresh = ctx.folder / "fresh"
    ctx.done("init-repo", fresh, "--chunk-size", "64K")
    for disk in kept.values():
        ctx.capture(disk, fresh)
    size = bytes_under(fresh)
    shutil.rmtree(fresh)
    return base, held, size


def test_forget(ctx: Context) -> None:
    """A forget is killed."""
    ctx.needs("forget", "prune")
    base, held, size = maintained(ctx)
    kept = dict(list(held.items())[-2:])
    repository = ctx.folder / "repo"
    words: list[str | Path] = ["forget", repository, "--keep-last", "2"]
    kill_many(
        ctx, "forget", ctx.of(2, 30), repository, lambda: copy_folder(base, repository), words,
        lambda _: after_maintenance(ctx, repository, words, kept, held, size),
    )  # fmt: skip


def prunes(ctx: Context, count: int, grace: list[str]) -> None:
    """A prune is killed."""
    ctx.needs("forget", "prune")
    base, held, size = maintained(ctx)
    kept = dict(list(held.items())[-2:])
    for snapshot in held.keys() - kept.keys():
        # The result of a forget.
        (base / "snapshots" / snapshot).rename(base / "ledger" / f"{snapshot}.forgotten")
    repository = ctx.folder / "repo"
    words: list[str | Path] = ["prune", repository, *grace]

    def prepare() -> None:
        copy_folder(base, repository)
        # Half of the time the packs are marked already, so that the killed prune deletes them.
        if grace and ctx.random.random() < 0.5:
            ctx.done("prune", repository)

    kill_many(
        ctx, f"prune {' '.join(grace)}".strip(), count, repository, prepare, words,
        lambda _: after_maintenance(ctx, repository, words, kept, {}, size),
    )  # fmt: skip


def test_prune(ctx: Context) -> None:
    """A prune that only marks is killed."""
    prunes(ctx, ctx.of(1, 20), [])


def test_prune_without_grace(ctx: Context) -> None:
    """A prune that marks and deletes is killed."""
    prunes(ctx, ctx.of(2, 40), ["--grace", "0s"])


def test_copy(ctx: Context) -> None:
    """A copy from one repository to another is killed."""
    ctx.needs("copy")
    source, base, repository = ctx.folder / "source", ctx.folder / "base", ctx.folder / "repo"
    held = fill(ctx, source, 2, 64, 20)
    (first, _), (second, disk) = held.items()
    ctx.done("init-repo", base, "--like", source)
    ctx.done("copy", f"{source}@{first}", f"{base}@")
    there = {snapshot: held[first] for snapshot in ctx.snapshots(base)}
    words: list[str | Path] = ["copy", f"{source}@{second}", f"{repository}@"]

    def judge(_: Kill) -> str:
        whole = dict(there)
        for snapshot in ctx.snapshots(repository):
            whole.setdefault(snapshot, disk)
        if why := ctx.wrong_repository(repository, whole):
            return f"after the kill: {why}"
        ended = ctx.reforge(*words)
        if ended.status != DONE:
            return f"the next run: {ended}"
        for snapshot in ctx.snapshots(repository):
            whole.setdefault(snapshot, disk)
        if len(whole) < len(there) + 1:
            return f"no snapshot was copied: {ended}"
        if why := ctx.wrong_repository(repository, whole):
            return f"after the next run: {why}"
        for folder in (source, repository):
            # The source's lock may stay until the next command that locks the source.
            if folder == repository and (why := ctx.litter(folder)):
                return f"it leaves {why}"
        return ctx.wrong_repository(source, held)

    kill_many(ctx, "copy", ctx.of(2, 25), repository, lambda: copy_folder(base, repository), words, judge)


def test_copy_to_image(ctx: Context) -> None:
    """A copy into an image file is killed: no incomplete image is left."""
    ctx.needs("copy")
    source = ctx.folder / "source"
    held = fill(ctx, source, 1, 48, 1)
    ((snapshot, disk),) = held.items()
    folder = ctx.folder / "images"
    image = folder / "copied.img.zst"
    words: list[str | Path] = ["copy", f"{source}@{snapshot}", image]

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def judge(_: Kill) -> str:
        if why := half_an_image(ctx, image):
            return why
        ended = ctx.reforge(*words)
        if ended.status != DONE:
            return f"the next run: {ended}"
        return ctx.wrong(image, disk) or ctx.wrong_repository(source, held)

    kill_many(ctx, "copy to an image", ctx.of(1, 10), folder, prepare, words, judge)


def test_capture_of_image(ctx: Context) -> None:
    """A capture into an image file is killed: no incomplete image is left."""
    disk = ctx.make_disk("disk", 64)
    folder = ctx.folder / "images"
    image = folder / "disk.img.zst"
    words: list[str | Path] = ["capture", disk, image, "--all-sectors", "--chunk-size", "64K"]

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def judge(_: Kill) -> str:
        if why := half_an_image(ctx, image):
            return why
        ended = ctx.reforge(*words)
        return ctx.wrong(image, disk) if ended.status == DONE else f"the next run: {ended}"

    kill_many(ctx, "capture of an image", ctx.of(1, 10), folder, prepare, words, judge)


def test_init(ctx: Context) -> None:
    """init-repo is killed: the repository is complete, or init-repo can be repeated."""
    repository = ctx.folder / "repo"
    disk = ctx.make_disk("disk", 8)
    words: list[str | Path] = ["init-repo", repository, "--chunk-size", "64K"]

    def judge(_: Kill) -> str:
        if not (repository / "repository.json").exists():
            # The folder holds no data yet.
            shutil.rmtree(repository, ignore_errors=True)
            ctx.done(*words)
        return ctx.wrong_repository(repository, {ctx.capture(disk, repository): disk})

    kill_many(
        ctx, "init-repo", ctx.of(1, 10), repository, lambda: shutil.rmtree(repository, ignore_errors=True), words, judge
    )


def test_reading(ctx: Context) -> None:
    """A verify and a restore are killed: their locks do not block later commands."""
    disk = ctx.make_disk("disk", 48)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    snapshot = ctx.capture(disk, repository)
    target = ctx.folder / "target"
    with target.open("wb") as file:
        file.truncate(disk.stat().st_size)
    restore: list[str | Path] = ["restore", f"{repository}@{snapshot}", target, "--yes", "--layout", "keep"]
    for words in (["verify", repository, "--read-data"], restore):
        kill = ctx.kill(words, lambda _: any((repository / "locks").glob("*.json")))
        ctx.that(f"{words[0]} is killed at work", kill.was_killed, kill.ended)
        ctx.that("its lock is left", any(files_under(repository / "locks")))
        ended = ctx.done("capture", disk, f"{repository}@", "--host", "there", "--all-sectors")
        ctx.that(
            "the next command reports and removes it",
            "stale lock" in ended.err and not ctx.litter(repository), ended,
        )  # fmt: skip
    ended = ctx.restore_again(f"{repository}@{snapshot}", target)
    ctx.that("the restore resumes", ended.status == DONE and same(disk, target), ended)
