# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores from one disk onto another, on loop devices."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import DONE, IO_ERROR, MIB, REFUSED, USAGE, Context, Ended, Skip, go_on, halt, tool, until


@contextmanager
def node_over(path: Path, *options: str) -> Iterator[Path]:
    """A loop device on a file."""
    node = Path(tool("losetup", "--find", "--show", *options, path).strip())
    try:
        yield node
    finally:
        tool("losetup", "--detach", node)


def blank(context: Context, name: str, mebibytes: int) -> Path:
    """A file of zeros."""
    path = context.folder / name
    with path.open("wb") as made:
        made.truncate(mebibytes * MIB)
    return path


def make_system(context: Context, name: str, mebibytes: int) -> Path:
    """A disk with a GPT: 8 MiB of random bytes, and an ext4 with files behind it, which is last and can be resized."""
    path = blank(context, name, mebibytes)
    tool("sfdisk", "-q", path, input="label: gpt\nsize=8M, type=L, name=raw\ntype=L, name=files\n")
    tree = context.folder / f"{name}.tree"
    tree.mkdir()
    for number in range(mebibytes // 4):
        (tree / f"file{number}").write_bytes(context.random.randbytes(context.random.randint(1, MIB)))
    (_, offset, byte_count) = places(path)[1]
    options = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree, "-E", f"offset={offset}"]
    tool("mke2fs", *options, path, f"{byte_count >> 12}")
    shutil.rmtree(tree)
    with path.open("r+b") as disk:
        disk.seek(MIB)
        disk.write(context.random.randbytes(8 * MIB))
    return path


def places(path: Path, sector: int = 512) -> list[tuple[int, int, int]]:
    """Number, offset and length of each partition, in bytes."""
    with node_over(path, "--sector-size", str(sector)) as node:
        table = json.loads(tool("sfdisk", "-J", node))["partitiontable"]
    return [
        (number, part["start"] * sector, part["size"] * sector)
        for number, part in enumerate(table["partitions"], start=1)
    ]


def digest(path: Path, offset: int, byte_count: int) -> str:
    """The hash of a range."""
    with path.open("rb") as disk:
        disk.seek(offset)
        return hashlib.sha256(disk.read(byte_count)).hexdigest()


def files_of(path: Path, offset: int) -> str:
    """Names, lengths and checksums of all files of an ext4, by its own tool; fails where it is not clean."""
    tool("e2fsck", "-fn", f"{path}?offset={offset}")
    folder = Path(f"{path}.files")
    folder.mkdir()
    try:
        tool("debugfs", "-R", f"rdump / {folder}", f"{path}?offset={offset}")
        return "\n".join(
            f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}"
            for file in sorted(folder.rglob("*")) if file.is_file()
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)


def has_mapper() -> bool:
    """Whether the kernel's device-mapper answers."""
    with suppress(FileNotFoundError):
        return subprocess.run(["dmsetup", "version"], check=False, capture_output=True).returncode == 0
    return False


def clone(context: Context, source: Path, target: Path, *more: str) -> Ended:
    """Clones without boot repair."""
    return context.reforge("restore", source, target, "--yes", "--no-boot-repair", *more)


def fault(source: Path, target: Path, sector: int = 512) -> str:
    """What a clone of `make_system` lacks; an empty text for nothing. The sizes may differ."""
    (raw, files) = places(source)
    (other_raw, other_files) = places(target, sector)
    if digest(source, *raw[1:]) != digest(target, *other_raw[1:]):
        return "the raw partition differs"
    if files_of(source, files[1]) != files_of(target, other_files[1]):
        return "the files differ"
    return ""


def test_sizes(context: Context) -> None:
    """A clone has the same contents on a disk of the same size, larger, smaller, and with sectors of 4096 bytes."""
    source = make_system(context, "source", 96)
    before = digest(source, 0, source.stat().st_size)
    cases = [(96, 512, ["--layout", "keep"]), (128, 512, []), (64, 512, []), (128, 4096, ["--trust-unknown"])]
    for mebibytes, sector, more in cases:
        name = f"{mebibytes} MiB, sectors of {sector}"
        target = blank(context, f"target-{mebibytes}-{sector}", mebibytes)
        with node_over(source) as one, node_over(target, "--sector-size", str(sector)) as other:
            ended = clone(context, one, other, "--verify", *more)
        if mebibytes < 96 and ended.status == REFUSED and not has_mapper():
            context.skipped(f"{name}: no device-mapper here to shrink with")
            continue
        if context.that(f"{name}: it ends with 0", ended.status == DONE, ended):
            why = fault(source, target, sector)
            context.that(f"{name}: the contents are the same", not why, why)
            context.that(f"{name}: it says that the ids are the same", "same ids" in ended.err, ended)
        if mebibytes == 96:
            first = places(source)
            context.that("keep: the table is the same", first == places(target), f"{first} {places(target)}")
        target.unlink()
    context.that("the source was only read", digest(source, 0, source.stat().st_size) == before)


def test_same_disk(context: Context) -> None:
    """A disk is not cloned onto itself, by whatever name."""
    source = make_system(context, "source", 32)
    before = digest(source, 0, source.stat().st_size)
    link = context.folder / "link"
    with node_over(source, "--partscan") as one:
        link.symlink_to(one)
        with node_over(one) as above:
            pairs = [(one, one), (one, link), (link, one), (one, above), (above, one), (one, source)]
            part = Path(f"{one}p2")
            if until(part.exists, 2):
                pairs += [(one, part), (part, one), (above, part), (part, above)]
            else:
                context.skipped("no nodes for the partitions of loop devices")
            for source_node, target in pairs:
                ended = clone(context, source_node, target)
                name = f"{source_node.name} onto {target.name}"
                refused = ended.status == REFUSED and "Nothing was written" in ended.err
                context.that(f"{name} is refused", refused, ended)
    context.that("nothing was written", digest(source, 0, source.stat().st_size) == before)


def test_mounted_source(context: Context) -> None:
    """A source that is mounted read-write is refused with the ways out; mounted read-only, it is cloned."""
    source = make_system(context, "source", 32)
    target = blank(context, "target", 32)
    offset = places(source)[1][1]
    with node_over(source) as one, node_over(target) as other:
        for option, status in [("rw", REFUSED), ("ro,noload", DONE)]:
            folder = context.folder / option[:2]
            context.mount("-o", f"loop,offset={offset},{option}", one, folder)
            ended = clone(context, one, other)
            context.that(f"mounted {option}: {status}", ended.status == status, ended)
            if status == REFUSED:
                context.that("the ways out are named", "recovery medium" in ended.err, ended)
            context.unmount(folder)


def test_swapped(context: Context) -> None:
    """Where the command line looks swapped, --yes alone is not enough."""
    empty = blank(context, "empty", 64)
    full = make_system(context, "full", 64)
    before = digest(full, 0, full.stat().st_size)
    with node_over(empty) as one, node_over(full) as other:
        ended = clone(context, one, other)
        context.that("a blank source is refused", ended.status == REFUSED and "swapped" in ended.err, ended)
        context.that("the way on is named", f"--confirm-source {one.name}" in ended.err, ended)
        ended = clone(context, one, other, "--dry-run", "--json")
        context.that("the plan shows it", any("swapped" in line for line in ended.json()["warnings"]), ended)
        ended = clone(context, one, other, "--confirm-source", other.name)
        context.that("another source is refused", ended.status == REFUSED and "names another disk" in ended.err, ended)
        ended = clone(context, other, one, "--confirm-source", one.name)
        context.that("so it is without a suspicion", ended.status == REFUSED, ended)
        context.that("nothing was written", digest(full, 0, full.stat().st_size) == before)
        ended = clone(context, one, other, "--confirm-source", one.name)
        context.that("the right source is accepted", ended.status == DONE, ended)
    ended = context.reforge("restore", full, empty, "--yes", "--rescue")
    context.that("a file is no disk to rescue", ended.status == USAGE, ended)


def test_kills(context: Context) -> None:
    """A clone that was killed at any moment is completed by the same command with --delta."""
    source = make_system(context, "source", 192)
    target = blank(context, "target", 192)
    words: list[str | Path] = ["--yes", "--no-boot-repair", "--layout", "keep"]
    with node_over(source) as one, node_over(target) as other:
        started = time.monotonic()
        ended = clone(context, one, other, "--layout", "keep")
        context.that("it ends with 0", ended.status == DONE, ended)
        length = time.monotonic() - started
        for number in range(context.of(4, 40)):
            with target.open("r+b") as disk:
                disk.write(bytes(MIB))
                disk.seek(context.random.randrange(2 * MIB, 180 * MIB))
                disk.write(context.random.randbytes(8 * MIB))
            moment = context.random.uniform(0, length)
            kill = context.kill(["restore", one, other, *words], lambda seconds, moment=moment: seconds >= moment)
            if not kill.was_killed:
                context.note("it ended before its kill")
            ended = clone(context, one, other, "--layout", "keep", "--delta")
            name = f"kill {number + 1} after {moment:.2f} s"
            if context.that(f"{name}: the same command completes it", ended.status == DONE, ended):
                tool("blockdev", "--flushbufs", other)
                why = fault(source, target)
                context.that(f"{name}: the contents are the same", not why, why)


def test_written_meanwhile(context: Context) -> None:
    """A source that is written to during the clone is noticed, and the target does not look whole."""
    source = make_system(context, "source", 256)
    target = blank(context, "target", 256)
    with node_over(source) as one, node_over(target) as other:
        child = context.start("restore", one, other, "--yes", "--no-boot-repair", "--layout", "keep")

        def begun() -> bool:
            with other.open("rb") as disk:
                disk.seek(64 << 10)
                first = disk.read(8)
                disk.seek(128 << 10)
                return child.poll() is not None or b"RFJOURNL" in (first, disk.read(8))

        until(begun, 60)
        halt(child)
        with one.open("r+b", buffering=0) as disk:
            disk.seek(200 * MIB)
            disk.write(context.random.randbytes(4096))
            os.fsync(disk.fileno())
        go_on(child)
        ended = context.wait(child)
        if ended.status == DONE:
            raise Skip("the clone ended before the source was written to")
        context.that("it fails", ended.status == IO_ERROR and "did not hold still" in ended.err, ended)
        context.that("the target boots nothing", digest(target, 0, 512) == hashlib.sha256(bytes(512)).hexdigest())
        ended = clone(context, one, other, "--layout", "keep", "--delta")
        context.that("the same command completes it", ended.status == DONE, ended)
    (_, raw) = (places(source), places(target)[0])
    context.that("with the source as it is now", digest(source, *raw[1:]) == digest(target, *raw[1:]))


@contextmanager
def failing(node: Path, sectors: int, bad: int, count: int) -> Iterator[Path]:
    """A device over another, of which some sectors cannot be read."""
    name = f"reforge-clone-{os.getpid()}"
    table = f"0 {bad} linear {node} 0\n{bad} {count} error\n"
    table += f"{bad + count} {sectors - bad - count} linear {node} {bad + count}\n"
    made = subprocess.run(
        ["dmsetup", "create", name, "--noudevsync"], input=table, text=True, capture_output=True, check=False
    )
    if made.returncode != 0:
        raise Skip(f"no device-mapper here: {made.stderr.strip()}")
    try:
        subprocess.run(["dmsetup", "mknodes", name], check=False, capture_output=True)
        yield Path("/dev/mapper") / name
    finally:
        with suppress(AssertionError):
            tool("dmsetup", "remove", "--retry", "--noudevsync", name)


def test_bad_sectors(context: Context) -> None:
    """Unreadable sectors end a clone; with --rescue they become zeros, and are listed."""
    source = make_system(context, "source", 64)
    target = blank(context, "target", 64)
    bad, count = (4 * MIB) // 512, 8
    with node_over(source) as one, node_over(target) as other, failing(one, 64 * MIB // 512, bad, count) as failed:
        ended = clone(context, failed, other, "--layout", "keep")
        context.that("it fails, and names --rescue", ended.status == IO_ERROR and "--rescue" in ended.err, ended)
        ended = clone(context, failed, other, "--layout", "keep", "--rescue", "--json")
        if context.that("--rescue ends with 0", ended.status == DONE, ended):
            lost = ended.json()["lost"]
            byte_count = sum(end - start for start, end in (part["captured"] for part in lost))
            context.that("the losses are listed", byte_count == count * 512, ended)
            context.that("in partition 1", all(part["partition"] == 1 for part in lost), ended)
    with source.open("r+b") as disk:
        disk.seek(bad * 512)
        disk.write(bytes(count * 512))
    why = fault(source, target)
    context.that("all else is there, and the lost sectors are zeros", not why, why)
