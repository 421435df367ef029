# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of an image: what is refused before a machine is started."""

from __future__ import annotations

from faults import MIB, NOT_FOUND, USAGE, Context, tool


def disk_with_files(ctx: Context) -> str:
    """A small disk."""
    disk = ctx.folder / "disk"
    tool("mke2fs", "-q", "-F", "-t", "ext4", disk, "8M")
    return str(disk)


def test_paths_that_are_none(ctx: Context) -> None:
    """Bad paths and options end before anything is started."""
    disk = disk_with_files(ctx)
    for path in ("etc", "3", "3:etc", "vg:/x", "../x:/y"):
        ended = ctx.reforge("files", "ls", disk, path)
        ctx.that(f"ls {path} is a usage error", ended.status == USAGE and "3:/path" in ended.err, ended)
    ended = ctx.reforge("files", "get", disk, "0:/x")
    ctx.that("get without a destination is a usage error", ended.status == USAGE, ended)
    ended = ctx.reforge("files", "find", disk, "0:/", "--type", "x")
    ctx.that("an unknown type is a usage error", ended.status == USAGE, ended)
    ended = ctx.reforge("files", "find", disk, "0:/", "--newer", "yesterday")
    ctx.that("a time that is none is a usage error", ended.status == USAGE, ended)


def test_without_a_medium(ctx: Context) -> None:
    """Without a medium, the message says how to build one."""
    disk = disk_with_files(ctx)
    empty = ctx.folder / "empty"
    empty.mkdir()
    ended = ctx.reforge("files", "ls", disk, "0:/", "--media", empty)
    ctx.that("a folder without a medium is named", ended.status == NOT_FOUND and "build-media" in ended.err, ended)
    (empty / "vmlinuz").write_bytes(b"no kernel" * 100)
    (empty / "initramfs.img").write_bytes(bytes(MIB))
    ended = ctx.reforge("files", "ls", disk, "0:/", "--media", empty, "--no-kvm")
    ctx.that("a kernel that is none ends with a message", ended.status not in (0, None) and ended.err, ended)
    ctx.that("it does not crash", not ended.has_crashed, ended)
    ended = ctx.reforge("files", "ls", ctx.folder / "none", "0:/", "--media", empty)
    ctx.that("a missing image is named", ended.status == NOT_FOUND, ended)
