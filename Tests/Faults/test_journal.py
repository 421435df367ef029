# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed restores: the next restore finds the journal, reports it, and resumes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from faults import DONE, MIB, Context, Kill, go_on, halt, same

EXACT = ["--yes", "--layout", "keep", "--no-boot-repair"]


def new_target(ctx: Context, byte_count: int, used: bool) -> Path:
    """A target: blank, or with older content."""
    target = ctx.folder / "target"
    with target.open("wb") as file:
        file.truncate(byte_count)
        if used:
            for offset in range(0, byte_count, 4 * MIB):
                file.seek(offset)
                file.write(ctx.random.randbytes(MIB))
    return target


def is_bootless(target: Path) -> bool:
    """Whether sector 0 is blank."""
    with target.open("rb") as file:
        return not any(file.read(512))


def killed(ctx: Context, image: str | Path, target: Path, seconds: float) -> Kill:
    """A restore, killed after `seconds`."""
    return ctx.kill(["restore", image, target, *EXACT], lambda now: now >= seconds)


def test_killed_restores(ctx: Context) -> None:
    """Restores of an image and of a snapshot are killed, some several times, and repeated."""
    disk = ctx.make_disk("disk", 96)
    image, repository = ctx.folder / "disk.img.zst", ctx.folder / "repo"
    ctx.done("capture", disk, image, "--all-sectors", "--chunk-size", "64K")
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    snapshot = f"{repository}@{ctx.capture(disk, repository)}"
    byte_count = disk.stat().st_size
    count = ctx.of(4, 60)
    found = 0
    for number in range(count):
        source: str | Path = [image, snapshot][number % 2]
        target = new_target(ctx, byte_count, number % 3 == 0)
        started = time.monotonic()
        ctx.done("restore", source, target, *EXACT)
        duration = time.monotonic() - started
        target = new_target(ctx, byte_count, number % 3 == 0)
        why = ""
        for _ in range(ctx.random.choice([1, 1, 3])):
            instant = ctx.random.uniform(0.02, duration)
            kill = killed(ctx, source, target, instant)
            # A kill after the commit leaves a whole disk; one before the first write leaves it unchanged.
            if kill.was_killed and not is_bootless(target) and not same(disk, target) and number % 3 == 0:
                with target.open("rb") as file:
                    file.seek(512)
                    if file.read(8) == b"EFI PART":
                        why = "a partition table on half a disk"
        has_journal = b"RFJOURNL" in journal_area(target)
        ended = ctx.reforge("restore", source, target, *EXACT)
        if ended.status != DONE:
            why = str(ended)
        elif has_journal and "interrupted restore of this image" not in ended.err:
            why = f"its journal was not reported: {ended}"
        elif not same(disk, target):
            why = f"the disk has other bytes: {ended}"
        found += has_journal
        name = "image" if source == image else "snapshot"
        if why or not ctx.full:
            ctx.that(f"restore of the {name} killed after {instant:.2f} of {duration:.2f} s resumes", not why, why)
    ctx.that(f"{found} of {count} killed restores left a journal", found > 0)


def journal_area(target: Path) -> bytes:
    """The area of the disk with the journal."""
    with target.open("rb") as file:
        return file.read(MIB)


def position(target: Path) -> int:
    """The progress of a restore in its journal, in bytes of the captured disk."""
    area = journal_area(target)
    slots = [area[offset : offset + 84] for offset in (64 << 10, 128 << 10)]
    return max((int.from_bytes(slot[72:80], "little") for slot in slots if slot.startswith(b"RFJOURNL")), default=0)


def test_goes_on_in_the_middle(ctx: Context) -> None:
    """A restore with progress in its journal resumes there, and writes only the rest."""
    disk = ctx.make_disk("disk", 96)
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image, "--all-sectors", "--chunk-size", "64K")
    byte_count = disk.stat().st_size
    started = time.monotonic()
    ctx.done("restore", image, new_target(ctx, byte_count, False), *EXACT)
    duration = time.monotonic() - started
    wanted, tried, resumed = ctx.of(1, 10), 0, 0
    for number in range(10 * wanted):
        if tried == wanted:
            break
        target = new_target(ctx, byte_count, number % 2 == 0)
        child = ctx.start("restore", image, target, *EXACT)
        time.sleep(duration * ctx.random.uniform(0.4, 0.7))
        # The journal is advanced every five seconds: after a pause of that length, at the next chunk.
        halt(child)
        time.sleep(5.2)
        go_on(child)
        while child.poll() is None and position(target) == 0:
            time.sleep(0.0005)
        time.sleep(duration * ctx.random.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        ended = ctx.wait(child)
        # A kill between the commit and the end counts as done, too.
        if ended.status == DONE or not is_bootless(target) and same(disk, target):
            ctx.note("  it was done before the kill")
            # The measured restore was slower, on a busier machine.
            duration *= 0.7
            continue
        tried += 1
        if number % 2:
            # The disk changed after the journal was written: the resumed restore must notice.
            with target.open("r+b") as file:
                file.seek(2 * MIB)
                file.write(bytes(4 * MIB))
        ended = ctx.reforge("restore", image, target, *EXACT, "--json")
        resumed += bool(ended.status == DONE and ended.json().get("resumedFrom"))
        far = ended.json().get("resumedFrom") if ended.status == DONE else None
        is_right = ended.status == DONE and same(disk, target) and "interrupted restore of this image" in ended.err
        ctx.that(
            f"a restore resumes at {(far or 0) / MIB:.0f} of {byte_count / MIB:.0f} MiB"
            f"{', after 4 MiB of the disk were zeroed' if number % 2 else ''}", is_right, ended,
        )  # fmt: skip
    ctx.that(f"{resumed} of {tried} resumed midway", tried == wanted and resumed > 0)


def test_journal_of_another_image(ctx: Context) -> None:
    """A target with the journal of another image: reported, and restored from the start."""
    disk = ctx.make_disk("disk", 64)
    other = ctx.change_disk(disk, "other", 20)
    first, second = ctx.folder / "first.img.zst", ctx.folder / "second.img.zst"
    for source, image in ((disk, first), (other, second)):
        ctx.done("capture", source, image, "--all-sectors", "--chunk-size", "64K")
    target = new_target(ctx, disk.stat().st_size, False)
    kill = ctx.kill(["restore", first, target, *EXACT], lambda _: b"RFJOURNL" in journal_area(target))
    ctx.that("it was killed at work", kill.was_killed, kill.ended)
    plan = ctx.reforge("restore", second, target, "--dry-run", "--layout", "keep")
    ctx.that("the plan names the restore of another image", "another image" in plan.said, plan)
    before = journal_area(target)
    asked = ctx.reforge("restore", second, target, "--layout", "keep", "--no-boot-repair")
    ctx.that(
        "it is not overwritten without a terminal (77)", asked.status == 77 and journal_area(target) == before, asked
    )
    ended = ctx.reforge("restore", second, target, *EXACT)
    ctx.that("with --yes it is, with a warning", ended.status == DONE and "another image" in ended.err, ended)
    ctx.that("and has the right bytes", same(other, target))
    ended = ctx.reforge("restore", first, target, *EXACT)
    ctx.that(
        "a finished restore leaves no journal",
        ended.status == DONE and "interrupted" not in ended.err and same(disk, target), ended,
    )  # fmt: skip
