# SPDX-License-Identifier: GPL-3.0-or-later
"""A rolled-back disk has remains of later filesystem states in unused blocks: no log replay may use them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from faults import DONE, MIB, Context, Skip, tool


@dataclass(frozen=True)
class Format:
    """How a filesystem is made, mounted, and stopped like by a power cut."""

    make: tuple[str, ...]
    mount: tuple[str, ...]
    mebibytes: int
    # Whether FS_IOC_SHUTDOWN can stop it like a power cut; otherwise the disk file is copied.
    shuts_down: bool = True
    # The command that finds damage after the replay, without its last argument, the device.
    check: tuple[str, ...] = ()


FORMATS = {
    # The smallest log: it wraps several times in seconds.
    "xfs": Format(("mkfs.xfs", "-q", "-f", "--unsupported", "-l", "size=6m"), ("-t", "xfs"), 250, True, ("xfs_repair", "-n")),
    "xfs4": Format(
        ("mkfs.xfs", "-q", "-f", "--unsupported", "-m", "crc=0", "-l", "size=6m"), ("-t", "xfs"), 250, True,
        ("xfs_repair", "-n"),
    ),
    "ext4": Format(("mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=4", "-E", "nodiscard"), ("-t", "ext4"), 250, True, ("e2fsck", "-f", "-n")),
    "btrfs": Format(("mkfs.btrfs", "-q", "-f", "-K"), ("-t", "btrfs"), 250, False, ("btrfs", "check", "--readonly")),
    "ntfs": Format(("mkntfs", "-q", "-F", "-Q"), ("-t", "ntfs-3g"), 250, False, ("ntfsfix", "-n")),
}  # fmt: skip


class Disk:
    """A disk file with one partition, whose filesystem is mounted repeatedly."""

    def __init__(self, ctx: Context, mebibytes: int) -> None:
        self.ctx = ctx
        self.path = ctx.folder / "disk"
        self.place = ctx.folder / "mounted"
        self.length = mebibytes * MIB
        with self.path.open("wb") as file:
            file.truncate(self.length + 2 * MIB)
        tool("sfdisk", "-q", self.path, input=f"label: gpt\nstart=1M, size={mebibytes}M, type=L\n")

    def attached(self, *command: str) -> str:
        """Runs a command on the partition."""
        loop = tool(
            "losetup", "--find", "--show", "--offset", str(MIB), "--sizelimit", str(self.length), self.path
        ).strip()  # fmt: skip
        try:
            return tool(*command, loop)
        finally:
            tool("losetup", "--detach", loop)

    def mount(self, format: Format) -> None:
        """Mounts the partition."""
        self.ctx.mount(
            *format.mount, "-o", f"loop,offset={MIB},sizelimit={self.length}", self.path, self.place
        )  # fmt: skip

    def unmount(self) -> None:
        """Unmounts the partition."""
        self.ctx.unmount(self.place)

    def live(self, format: Format, rounds: int, files: int = 2000) -> None:
        """Writes and removes folders full of small files, so that metadata is all over the filesystem."""
        self.mount(format)
        for number in range(rounds):
            write_files(self.place / f"life{number}", files)
            if number > 0:
                tool("rm", "-r", self.place / f"life{number - 1}")
            os.sync()
        self.unmount()

    def power_cut(self, format: Format, count: int) -> str:
        """Writes and synchronises files, cuts the power, mounts again; gives the loss, or an empty text."""
        self.mount(format)
        write_files(self.place / "new", count)
        tool("sync", "-f", self.place)
        if format.shuts_down:
            tool("xfs_io", "-x", "-c", "shutdown -f", self.place)
            self.unmount()
        else:
            # The copy has the loop device's writes; the rest of the kernel's caches is lost with the power.
            copy = self.path.with_name("cut")
            tool("cp", "--sparse=always", self.path, copy)
            self.unmount()
            copy.replace(self.path)
        try:
            self.mount(format)
        except AssertionError as error:
            return f"it does not mount: {error}{kernel_words()}"
        lost = [number for number in range(count) if file_bytes(self.place / "new", number) != content(number)]
        self.unmount()
        if lost:
            return f"{len(lost)} of {count} files are lost"
        try:
            self.attached(*format.check)
        except AssertionError as error:
            return str(error)
        return ""


def content(number: int) -> bytes:
    """The expected content of a file."""
    return f"file {number}\n".encode() * (1 + number % 40)


def write_files(folder: Path, count: int) -> None:
    """Writes small files, a hundred per folder."""
    for number in range(count):
        parent = folder / f"{number // 100}"
        if number % 100 == 0:
            parent.mkdir(parents=True)
        (parent / f"a rather long name, so that folders take blocks {number}").write_bytes(content(number))


def file_bytes(folder: Path, number: int) -> bytes:
    """The current content of a file."""
    try:
        name = f"a rather long name, so that folders take blocks {number}"
        return (folder / f"{number // 100}" / name).read_bytes()
    except OSError:
        return b""


def kernel_words() -> str:
    """The last lines of the kernel's log."""
    ended = subprocess.run(["dmesg"], capture_output=True, text=True, check=False)
    return "\n".join(ended.stdout.splitlines()[-6:])


def rollback(
    ctx: Context, kind: str, lives: int, *more: str, between: str | None = None, rounds: int = 9, files: int = 4000
) -> None:
    """Capture, later changes, restore onto the same disk, power cut: no file is lost."""
    format = FORMATS[kind]
    missing = [name for name in (format.make[0], format.check[0], "xfs_io") if not shutil.which(name)]
    if missing:
        raise Skip(f"{', '.join(missing)} is missing")
    disk = Disk(ctx, format.mebibytes)
    disk.attached(*format.make)
    try:
        disk.mount(format)
    except AssertionError as error:
        raise Skip(f"this kernel does not mount {kind}: {error}") from None
    write_files(disk.place / "old", 300)
    disk.unmount()
    image = ctx.folder / f"{kind}.img.zst"
    ctx.done("capture", disk.path, image)
    for life in range(lives):
        disk.live(format, rounds)
        if between:
            disk.attached(*FORMATS[between].make)
            disk.live(FORMATS[between], 1, 100)
        ended = ctx.restore_again(image, disk.path, *more)
        if not ctx.that(f"{kind}: restore {life + 1} over later changes", ended.status == DONE, ended):
            return
        disk.attached(*format.check)
    why = disk.power_cut(format, files)
    how = " ".join([f"over {between}" if between else "", *more]).strip()
    ctx.that(f"{kind}: nothing is lost in a power cut after a rollback {how}".strip(), not why, why)


def test_xfs(ctx: Context) -> None:
    """XFS: its log recovery trusts the sequence numbers in formerly free blocks."""
    rollback(ctx, "xfs", 1)


def test_xfs_by_delta(ctx: Context) -> None:
    """A rollback that writes only what differs."""
    rollback(ctx, "xfs", 1, "--delta", "--verify")


def test_xfs_under_another(ctx: Context) -> None:
    """XFS remains under an ext4, twice: the partition's content at the time of the restore does not show them."""
    rollback(ctx, "xfs", 2, between="ext4")


def test_others(ctx: Context) -> None:
    """Formats whose recovery is safe without changes: XFS without sequence numbers, ext4, Btrfs, NTFS."""
    for kind in ("xfs4", "ext4", "btrfs", "ntfs"):
        try:
            rollback(ctx, kind, 1, rounds=3, files=1500)
        except Skip as reason:
            ctx.skipped(str(reason))
