# SPDX-License-Identifier: GPL-3.0-or-later
"""Concurrent commands, stale locks, read-only repositories, passwords, and damaged or foreign files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults import BUSY, DAMAGED, DONE, INTERRUPTED, REFUSED, Context, files_under, halt, kill, state_of, tool


def test_two_writers(ctx: Context) -> None:
    """Two captures into one repository at once both succeed."""
    disk = ctx.make_disk("a/disk", 64)
    other = ctx.change_disk(disk, "b/disk", 25)
    for number in range(ctx.of(1, 8)):
        repository = ctx.folder / f"repo{number}"
        ctx.done("init-repo", repository, "--chunk-size", "64K")
        children = [
            ctx.start("capture", source, f"{repository}@", "--host", host, "--all-sectors", "--json")
            for host, source in (("one", disk), ("two", other), ("three", disk))
        ]
        ended = [ctx.wait(child) for child in children]
        ctx.that("three captures at once succeed", all(one.status == DONE for one in ended), "\n".join(map(str, ended)))
        held = {one.json()["imageID"]: source for one, source in zip(ended, (disk, other, disk))}
        why = ctx.wrong_repository(repository, held) or ctx.litter(repository)
        ctx.that("and restore correctly", not why, why)
        again = ctx.done("capture", disk, f"{repository}@", "--host", "four", "--all-sectors", "--json").json()
        ctx.that("the next one has no new bytes", again["newByteCount"] == 0, again)
        shutil.rmtree(repository)


def test_writer_and_pruner(ctx: Context) -> None:
    """Prunes without a grace time during captures keep the contents that the captures reuse."""
    ctx.needs("forget", "prune")
    disk = ctx.make_disk("0/disk", 48)
    held: dict[str, Path] = {}
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    rounds = ctx.of(4, 40)
    pruned: list[str] = []
    for number in range(rounds):
        # The disk alternates between states, so that captures reuse contents the prune could remove.
        disk = ctx.change_disk(disk, f"{number + 1}/disk", 8) if number % 2 == 0 else Path(disk)
        if held and number % 2:
            for snapshot in list(held)[:-1]:
                del held[snapshot]
            ctx.done("forget", repository, "--keep-last", "1")
        writer = ctx.start("capture", disk, f"{repository}@", "--host", "here", "--all-sectors", "--json")
        pruner = ctx.start("prune", repository, "--grace", "0s")
        second = ctx.start("prune", repository, "--grace", "0s")
        ended, removed, also = ctx.wait(writer), ctx.wait(pruner), ctx.wait(second)
        if ended.status != DONE or removed.status not in (DONE, BUSY) or also.status not in (DONE, BUSY):
            ctx.failed("a capture beside two prunes", f"{ended}\n{removed}\n{also}")
            return
        pruned.append(f"{removed.status}/{also.status}")
        held[ended.json()["imageID"]] = disk
        if why := ctx.wrong_repository(repository, held):
            ctx.failed(f"round {number}: a capture beside two prunes", f"{why}\n{removed}\n{also}")
            return
        time.sleep(1.01)
    ctx.that(f"{rounds} captures beside prunes (exit codes {' '.join(pruned)})", True)


def a_lock(ctx: Context, repository: Path, disk: Path) -> dict[str, Any]:
    """The content of a lock, from a halted capture."""
    child = ctx.start("capture", disk, f"{repository}@", "--host", "locker", "--all-sectors")
    deadline = time.monotonic() + 20
    while not (locks := list((repository / "locks").glob("[0-9a-f]*.json"))):
        if child.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no lock was seen: {ctx.wait(child)}")
    halt(child)
    text = locks[0].read_text()
    kill(child)
    ctx.wait(child)
    return json.loads(text)  # type: ignore[no-any-return]


@contextlib.contextmanager
def lease(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, as a command that changes passwords does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def put_lock(repository: Path, like: dict[str, Any], age: float = 0, **more: Any) -> Path:
    """Writes a lock of another holder."""
    lock = like | {"uuid": str(uuid.uuid4())} | more
    path = repository / "locks" / f"{lock['uuid']}.json"
    path.write_text(json.dumps(lock))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_locks(ctx: Context) -> None:
    """The lock of a dead process is removed; a live one of another host is waited for."""
    ctx.needs("prune")
    disk = ctx.make_disk("disk", 32)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    held = {ctx.capture(disk, repository): disk}
    like = a_lock(ctx, repository, disk)
    ctx.that("a killed capture leaves its lock", len(files_under(repository / "locks")) == 1)
    ended = ctx.done("prune", repository)
    ctx.that(
        "the next command reports and removes it", "stale lock" in ended.err and not ctx.litter(repository), ended
    )

    away = like["holder"] | {"host": "elsewhere", "machine": "another/machine", "boot": str(uuid.uuid4())}
    lock = put_lock(repository, like, operation="prune", holder=away)
    waiting = ctx.start("prune", repository)
    held[ctx.capture(disk, repository)] = disk
    why = ctx.wrong_repository(repository, held)
    ctx.that("captures, restores and verify work beside the prune of another host", not why and lock.exists(), why)
    ended = ctx.wait(waiting)
    ctx.that("a prune waits for it (75), and it is named", ended.status == BUSY and "elsewhere" in ended.said, ended)
    ctx.that("its lock stays", lock.exists())
    lock.unlink()
    lock = put_lock(repository, like, operation="prune", holder=like["holder"] | {"process": os.getpid()})
    ended = ctx.done("prune", repository)
    ctx.that("a lock with a reused process number is removed", not lock.exists(), ended)

    # Two real prunes at once: the second one waits, or names the holder.
    first = ctx.start("prune", repository, "--grace", "0s")
    second = ctx.start("prune", repository, "--grace", "0s")
    both = [ctx.wait(first), ctx.wait(second)]
    ctx.that(
        "two prunes at once: done, or busy (75)",
        all(one.status in (DONE, BUSY) for one in both), "\n".join(map(str, both)),
    )  # fmt: skip
    why = ctx.wrong_repository(repository, held) or ctx.litter(repository)
    ctx.that("and the repository is whole", not why, why)


def test_watched_locks(ctx: Context) -> None:
    """Clocks of machines may differ: a lock that looks old is watched, and removed only if it is not renewed."""
    ctx.needs("prune")
    disk = ctx.make_disk("disk", 16)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    held = {ctx.capture(disk, repository): disk}
    like = a_lock(ctx, repository, disk)
    ctx.done("prune", repository)
    away = like["holder"] | {"host": "elsewhere", "machine": "another/machine", "boot": str(uuid.uuid4())}
    lock = put_lock(repository, like, age=3600, operation="prune", holder=away)
    waiting = ctx.start("prune", repository)
    for step in range(60):
        time.sleep(1)
        os.utime(lock, (time.time() - 3600 + step,) * 2)
        if waiting.poll() is not None:
            break
    ended = ctx.wait(waiting)
    ctx.that(
        "a lock that looks an hour old but is renewed: watched, waited for (75), kept",
        ended.status == BUSY and "watching the lock of prune" in ended.err and lock.exists(), ended,
    )  # fmt: skip
    if ctx.full:
        # A dead lock, one of an earlier boot of this machine, and an unreadable one: watched together.
        earlier = like["holder"] | {"boot": str(uuid.uuid4())}
        locks = [lock, put_lock(repository, like, age=240, operation="prune", holder=earlier)]
        locks.append(repository / "locks" / f"{uuid.uuid4()}.json")
        locks[-1].write_text('{"format" : "reforge lo')
        os.utime(locks[-1], (time.time() - 7200,) * 2)
        started = time.monotonic()
        ended = ctx.reforge("prune", repository, timeout=280)
        seconds = time.monotonic() - started
        ctx.that(
            "without a holder they are removed, after 190 s and not earlier",
            ended.status == DONE and 185 < seconds < 250 and not any(lock.exists() for lock in locks), ended,
        )  # fmt: skip
    why = ctx.wrong_repository(repository, held)
    ctx.that("and the repository is whole", not why, why)


def test_read_only(ctx: Context) -> None:
    """A read-only repository: reading commands work, the others fail with the reason."""
    disk = ctx.make_disk("disk", 16)
    for keys in ([], ["--password-file", str(ctx.password_file())]):
        repository = ctx.folder / f"repo{len(keys)}"
        ctx.done("init-repo", repository, "--chunk-size", "64K", *(["--encrypt"] if keys else []), *keys)
        held = {ctx.capture(disk, repository, "here", *keys): disk}
        before = state_of(repository)
        with ctx.read_only(repository) as view:
            why = ctx.wrong_repository(view, held, *keys)
            ctx.that(f"read-only{' and encrypted' if keys else ''}: snapshots, verify, restore", not why, why)
            ended = ctx.reforge("inspect", f"{view}@latest", *keys)
            ctx.that("inspect", ended.status == DONE, ended)
            ended = ctx.reforge("capture", disk, f"{view}@", "--host", "here", *keys)
            ctx.that("capture fails with the reason (74)", ended.status == 74 and "ead-only" in ended.said, ended)
            commands = [["forget", view, "--keep-last", "1"], ["prune", view], ["copy", f"{view}@latest", f"{view}@"]]
            for command in commands:
                ended = ctx.reforge(*command, *keys)
                ctx.that(f"{command[0]} fails (exit code {ended.status})", ended.status in (74, 64), ended)
        ctx.that("nothing was written", state_of(repository) == before)


def test_passwords(ctx: Context) -> None:
    """Without the right password: a clear error, and nothing is written."""
    disk = ctx.make_disk("disk", 8)
    repository, image = ctx.folder / "repo", ctx.folder / "disk.img.enc"
    keys = ["--password-file", str(ctx.password_file())]
    ctx.done("init-repo", repository, "--chunk-size", "64K", "--encrypt", *keys)
    snapshot = ctx.capture(disk, repository, "here", *keys)
    ctx.done("capture", disk, image, "--encrypt", "--all-sectors", "--chunk-size", "64K", *keys)
    bad = ctx.folder / "bad"
    bad.write_text("wrong horse\n")
    bad.chmod(0o600)
    empty = ctx.folder / "empty"
    empty.write_text("")
    before = state_of(repository)
    target = ctx.folder / "target"
    with target.open("wb") as file:
        file.truncate(disk.stat().st_size)
    commands: list[list[str | Path]] = [
        ["snapshots", repository], ["capture", disk, f"{repository}@"], ["verify", repository], ["prune", repository],
        ["restore", f"{repository}@latest", target, "--yes"], ["forget", repository, "--keep-last", "1"],
        ["inspect", f"{repository}@latest"], ["verify", image], ["restore", image, target, "--yes"],
    ]  # fmt: skip
    for command in commands:
        name = " ".join(Path(word).name for word in map(str, command))
        ended = ctx.reforge(*command, "--password-file", bad)
        ctx.that(
            f"{name}: a wrong password (77)", ended.status == REFUSED and "wrong password" in ended.said, ended
        )
        ended = ctx.reforge(*command)
        ctx.that(
            f"{name}: no password, no terminal (77), with advice",
            ended.status == REFUSED and "--password-file" in ended.said, ended,
        )  # fmt: skip
    ended = ctx.reforge("snapshots", repository, "--password-file", empty)
    ctx.that("an empty password file", ended.status in (REFUSED, DAMAGED, 74), ended)
    ended = ctx.reforge("snapshots", repository, "--password-file", ctx.folder / "none")
    ctx.that("a missing password file (66)", ended.status == 66, ended)
    with lease(repository / "keys"):
        child = ctx.start("key", "add", repository, *keys, "--new-password-file", str(bad))
        time.sleep(ctx.of(2, 4))
        ctx.that("key add waits for another holder of the keys", child.poll() is None)
        child.send_signal(signal.SIGINT)
        ended = ctx.wait(child, 30)
        ctx.that("and ends by Ctrl-C (75)", ended.status == INTERRUPTED, ended)
    ended = ctx.reforge("snapshots", repository, REFORGE_PASSWORD_FILE=keys[1])
    ctx.that("a password file from the environment", ended.status == DONE, ended)
    ctx.that("nothing was written to the target", not any(target.read_bytes()))
    ctx.that("nor to the repository", state_of(repository) == before, set(state_of(repository)) ^ set(before))
    # Only sizes and times are in plain text.
    stores = [path for name in ("snapshots", "packs", "indexes") for path in files_under(repository / name)]
    secrets = [b"EFI PART", b"imageUUID", b"partition", str(disk).encode()]
    readable = [(path.name, secret) for path in [*stores, image] for secret in secrets if secret in path.read_bytes()]
    ctx.that("they have none of the disk's plain text", not readable, readable)
    why = ctx.wrong(f"{repository}@{snapshot}", disk, *keys) or ctx.wrong(image, disk, *keys)
    ctx.that("the right password opens both", not why, why)


def test_damage(ctx: Context) -> None:
    """Truncated, missing and foreign files are reported, and snapshots that do not need them restore."""
    disk = ctx.make_disk("a/disk", 24)
    other_disk = ctx.make_disk("b/disk", 16)
    base, other, repository = ctx.folder / "base", ctx.folder / "other", ctx.folder / "repo"
    for folder in (base, other):
        ctx.done("init-repo", folder, "--chunk-size", "64K")
    first = ctx.capture(disk, base)
    second = ctx.capture(other_disk, base, "there")
    foreign = ctx.capture(other_disk, other)
    packs = sorted(files_under(base / "packs"), key=lambda path: path.stat().st_size)

    def fresh() -> None:
        shutil.rmtree(repository, ignore_errors=True)
        tool("cp", "-a", base, repository)

    def reported(name: str, *words: str) -> None:
        ended = ctx.reforge("verify", repository, "--read-data")
        ctx.that(
            f"{name} is reported by verify (65)",
            ended.status == DAMAGED and all(word in ended.said for word in words), ended,
        )  # fmt: skip
        for snapshot, of in ((first, disk), (second, other_disk)):
            target = ctx.folder / "restored"
            ended = ctx.restore(f"{repository}@{snapshot}", target, of.stat().st_size)
            is_right = ended.status == DONE and target.read_bytes() == of.read_bytes()
            is_honest = is_right or ended.status == DAMAGED
            ctx.that(f"{name}: a restore gives the disk or an error ({ended.status})", is_honest, ended)
        # A capture of the disk stores missing contents again.
        ended = ctx.reforge("capture", disk, f"{repository}@", "--host", "here", "--all-sectors", "--json")
        why = ctx.wrong(f"{repository}@{ended.json()['imageID']}", disk) if ended.status == DONE else str(ended)
        ctx.that(f"{name}: the next capture restores correctly", not why, why)

    for share in (0.0, 0.5, 1.0):
        fresh()
        pack = repository / packs[-1].relative_to(base)
        byte_count = pack.stat().st_size
        os.truncate(pack, min(int(byte_count * share), byte_count - 1))
        reported(f"a pack cut off at {share:.0%}", pack.name[:8])
    fresh()
    (repository / packs[-1].relative_to(base)).unlink()
    reported("a pack that is gone")
    fresh()
    index = files_under(repository / "indexes")[0]
    os.truncate(index, index.stat().st_size // 2)
    reported("an index cut off")
    fresh()
    for index in files_under(repository / "indexes"):
        index.unlink()
    reported("an index that is gone")
    fresh()
    snapshot = repository / "snapshots" / first
    os.truncate(snapshot, snapshot.stat().st_size // 2)
    reported("a snapshot cut off", first[:8])
    fresh()
    shutil.copy(files_under(other / "indexes")[0], repository / "indexes")
    reported("an index of another repository")
    fresh()
    pack = repository / packs[-1].relative_to(base)
    shutil.copy(files_under(other / "packs")[0], pack)
    reported("a pack of another repository under this name")
    fresh()
    foreign_pack = files_under(other / "packs")[0]
    (repository / "packs" / foreign_pack.parent.name).mkdir(exist_ok=True)
    shutil.copy(foreign_pack, repository / "packs" / foreign_pack.parent.name)
    ended = ctx.reforge("verify", repository, "--read-data")
    ctx.that(
        f"a pack of another repository under its own name: reported or harmless ({ended.status})",
        ended.status in (DONE, DAMAGED), ended,
    )  # fmt: skip
    fresh()
    shutil.copy(other / "snapshots" / foreign, repository / "snapshots" / foreign)
    ended = ctx.reforge("verify", repository)
    ctx.that("a snapshot of another repository is reported (65)", ended.status == DAMAGED, ended)
    for snapshot_id, of in ((first, disk), (second, other_disk)):
        why = ctx.wrong(f"{repository}@{snapshot_id}", of)
        ctx.that("and the others restore", not why, why)

    # An older snapshot must not replace a damaged newest one.
    fresh()
    changed = ctx.change_disk(disk, "c/disk", 2)
    time.sleep(1.01)
    newest = repository / "snapshots" / ctx.capture(changed, repository)
    os.truncate(newest, newest.stat().st_size - 1)
    for behind in ("here/latest", f"here/disk/{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}", newest.name):
        target = ctx.folder / "restored"
        ended = ctx.restore(f"{repository}@{behind}", target, disk.stat().st_size)
        is_untouched = not any(target.read_bytes())
        ctx.that(
            f"@{behind[:20]} with a damaged newest snapshot is refused (65)",
            ended.status == DAMAGED and is_untouched, ended,
        )  # fmt: skip
    why = ctx.wrong(f"{repository}@{first}", disk)
    ctx.that("and the older one restores by its id", not why, why)
