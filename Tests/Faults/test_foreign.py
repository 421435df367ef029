# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a restored system run only on request, and confined."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from faults import DONE, MIB, Context, Skip, tool

ROOT_UUID = "5eed0003-0000-4000-8000-000000000003"
ROOT_OFFSET = 2 * MIB
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
BOOT_CODE = Path("/usr/lib/grub/i386-pc/boot.img")
BUSYBOX = Path("/bin/busybox")

# The tree's update-grub: records in /ran that it ran, and which actions outside the tree succeeded.
UPDATE_GRUB = """#!/bin/sh
echo ran >/ran
busybox mknod /made b 7 0 && echo mknod >>/ran
busybox mount -t tmpfs tmpfs /mnt && echo mount >>/ran
busybox kill -9 VICTIM 2>/dev/null && echo kill >>/ran
busybox cat /proc/sys/kernel/core_pattern >/pattern
busybox cat /pattern >/proc/sys/kernel/core_pattern && echo pattern >>/ran
busybox sleep 61 &
exit 0
"""


def foreign_disk(ctx: Context, victim: int) -> Path:
    """A disk that boots by GRUB, with a system whose grub.cfg is outdated."""
    tree = ctx.folder / "tree"
    for folder in ("bin", "boot/grub", "etc", "mnt", "usr/sbin"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "etc/os-release").write_text("ID=debian\nPRETTY_NAME=Foreign\n")
    (tree / "etc/fstab").write_text(f"UUID={ROOT_UUID} / ext4 defaults 0 1\n")
    (tree / "boot/grub/grub.cfg").write_text("menuentry 'Foreign' {\nlinux /vmlinuz root=/dev/sda2\n}\n")
    program = tree / "usr/sbin/update-grub"
    program.write_text(UPDATE_GRUB.replace("VICTIM", str(victim)))
    program.chmod(0o755)
    disk = ctx.folder / "foreign"
    with disk.open("wb") as made:
        made.truncate(64 * MIB)
    layout = f"label: gpt\nstart=2048, size=2048, type={BIOS_BOOT}\nstart=4096, type=L\n"
    tool("sfdisk", "-q", disk, input=layout)
    where = ["-U", ROOT_UUID, "-E", f"offset={ROOT_OFFSET}"]
    tool("mke2fs", "-q", "-F", "-t", "ext4", *where, "-d", tree, disk, "56M")
    with disk.open("r+b") as made:
        made.write(BOOT_CODE.read_bytes()[:440])
    return disk


def what_ran(target: Path) -> str:
    """The record of the tree's update-grub."""
    done = subprocess.run(
        ["debugfs", "-R", "cat /ran", f"{target}?offset={ROOT_OFFSET}"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_programs_of_a_restored_system(ctx: Context) -> None:
    """A restore on a workstation runs none of them; on request they run, and cannot act outside the tree."""
    if not BOOT_CODE.exists() or not BUSYBOX.exists():
        raise Skip("no GRUB for BIOS, or no busybox-static")
    victim = subprocess.Popen(["sleep", "300"])
    target = ctx.folder / "target"
    with target.open("wb") as made:
        made.truncate(64 * MIB)
    device = tool("losetup", "--find", "--show", target).strip()
    try:
        disk = foreign_disk(ctx, victim.pid)
        image = ctx.folder / "foreign.img.zst"
        ctx.done("capture", disk, image)
        plain = ctx.reforge("restore", image, device, "--yes")
        ctx.that("a restore without boot repair is done", plain.status == DONE, plain)
        ctx.that("the output says that boot repair was left out", "boot repair was left out" in plain.said, plain)
        ctx.that("no program of the system ran", what_ran(target) == "")
        asked = ctx.reforge("restore", image, device, "--yes", "--boot-repair")
        tool("sync", "--file-system", target)
        ran = what_ran(target)
        ctx.that("update-grub runs on request", ran.startswith("ran\n"), asked)
        ctx.that("and cannot act outside the tree", ran == "ran\n", ran)
        ctx.that("and its background process has ended", not sleepers(), sleepers())
        ctx.that("a process of this machine still runs", victim.poll() is None)
        left_out = ctx.reforge("restore", image, device, "--yes", "--no-boot-repair")
        ctx.that("no message with --no-boot-repair", "boot repair" not in left_out.said, left_out)
    finally:
        victim.kill()
        victim.wait()
        tool("losetup", "--detach", device)


def sleepers() -> list[str]:
    """The background processes of update-grub."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == b"busybox\0sleep\x0061\0":
                found.append(path.parent.name)
    return found
