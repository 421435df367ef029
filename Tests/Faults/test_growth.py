# SPDX-License-Identifier: GPL-3.0-or-later
"""A filesystem that a restore changed and whose check fails is never committed as complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from faults import DONE, IO_ERROR, MIB, Context, Ended, Skip, tool

INCOMPLETE = 70

# Replaces resize2fs: killed midway, with the group descriptors written and their bitmaps not.
KILLED = """#!/bin/sh
for last; do :; done
dd if=/dev/zero of="$last" bs=1024 seek=2 count=8 conv=notrunc,fsync 2>/dev/null
kill -9 $$
"""
# The same damage, with a successful exit status.
LYING = KILLED.replace("kill -9 $$", "exit 0")
# Fails without a change.
REFUSING = """#!/bin/sh
echo "resize2fs: not today" >&2
exit 1
"""


def make(ctx: Context, bare: bool) -> Path:
    """A disk with an ext4, in a partition or on the whole disk."""
    tree = ctx.folder / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"file{number}").write_bytes(ctx.random.randbytes(20_000))
    disk = ctx.folder / "disk"
    with disk.open("wb") as file:
        file.truncate(34 * MIB)
    if not bare:
        tool("sfdisk", "-q", disk, input="label: gpt\nstart=1M, size=32M, type=L\n")
    offset = [] if bare else ["-E", f"offset={MIB}"]
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", tree, *offset, disk, "34M" if bare else "32M")
    shutil.rmtree(tree)
    return disk


def restore(ctx: Context, image: Path, target: Path, resizer: str | None = None) -> Ended:
    """Restores onto a larger disk, with another resize2fs, mounted in a private namespace."""
    if not target.exists():
        with target.open("wb") as file:
            file.truncate(100 * MIB)
    words = ["restore", str(image), str(target), "--yes", "--no-boot-repair"]
    if resizer is None:
        return ctx.reforge(*words)
    fake = ctx.folder / "resize2fs"
    fake.write_text(resizer)
    fake.chmod(0o755)
    real = shutil.which("resize2fs", path="/usr/sbin:/sbin")
    if not real:
        raise Skip("resize2fs is missing")
    inside = f'mount --bind "{fake}" "{Path(real).resolve()}" && exec "$@"'
    ended = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "_", str(ctx.binary), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return Ended(["reforge", *words], ended.returncode, ended.stdout, ended.stderr)


def is_blank(target: Path) -> bool:
    """Whether the start of the disk is blank, without a table or a superblock."""
    with target.open("rb") as file:
        return not any(file.read(4096))


def check(target: Path, bare: bool) -> None:
    """Runs e2fsck on the filesystem, which must be clean."""
    if bare:
        tool("e2fsck", "-f", "-n", target)
        return
    loop = tool("losetup", "--find", "--show", "--offset", str(MIB), "--sizelimit", str(98 * MIB), target).strip()
    try:
        tool("e2fsck", "-f", "-n", loop)
    finally:
        tool("losetup", "--detach", loop)


def in_doubt(ctx: Context, bare: bool) -> None:
    """Growth by a killed, a lying and a failing resize2fs, each followed by the same command."""
    disk = make(ctx, bare)
    image, target = ctx.folder / "image.img.zst", ctx.folder / "target"
    ctx.done("capture", disk, image)
    for name, script in (("was killed", KILLED), ("lies", LYING)):
        target.unlink(missing_ok=True)
        ended = restore(ctx, image, target, script)
        ctx.that(f"a resize2fs that {name} is an error", ended.status == IO_ERROR, ended)
        ctx.that("with advice in the message", "the same command" in ended.said and "keep" in ended.said, ended)
        ctx.that("the disk does not look whole", is_blank(target) and "complete" not in ended.said, ended)
        again = restore(ctx, image, target)
        ctx.that("the same command repairs it", again.status == DONE and not is_blank(target), again)
        check(target, bare)
    target.unlink()
    ended = restore(ctx, image, target, REFUSING)
    ctx.that("an unchanged filesystem is complete", ended.status == INCOMPLETE and not is_blank(target), ended)
    check(target, bare)


def test_in_a_partition(ctx: Context) -> None:
    """The filesystem grows before the commit."""
    in_doubt(ctx, bare=False)


def test_on_a_bare_disk(ctx: Context) -> None:
    """The filesystem grows after the commit, which is reverted."""
    in_doubt(ctx, bare=True)


def test_damaged_when_captured(ctx: Context) -> None:
    """A damaged filesystem is restored unchanged, not grown, and the damage is reported."""
    disk = make(ctx, bare=False)
    with disk.open("r+b") as file:
        # A wrong link count: damage outside of the allocation map.
        loop = tool("losetup", "--find", "--show", "--offset", str(MIB), "--sizelimit", str(32 * MIB), disk).strip()
        try:
            tool("debugfs", "-w", "-R", "set_inode_field file1 links_count 7", loop)
        finally:
            tool("losetup", "--detach", loop)
        file.flush()
    image, target = ctx.folder / "image.img.zst", ctx.folder / "target"
    ctx.done("capture", disk, image)
    ended = restore(ctx, image, target)
    ctx.that("it is complete and not grown", ended.status == INCOMPLETE and "found damage" in ended.said, ended)
    with disk.open("rb") as one, target.open("rb") as other:
        one.seek(MIB)
        other.seek(MIB)
        ctx.that("its superblock and groups are unchanged", one.read(1 << 18) == other.read(1 << 18))
