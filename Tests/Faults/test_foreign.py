# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a restored system: they run only where that was asked for, and confined."""

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

# What the tree's update-grub does: it writes down that it ran, and what it could do outside.
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
    """A disk that starts by GRUB, with a system whose grub.cfg needs to be written anew."""
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
    """What the tree's update-grub wrote down."""
    done = subprocess.run(
        ["debugfs", "-R", "cat /ran", f"{target}?offset={ROOT_OFFSET}"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_programs_of_a_restored_system(ctx: Context) -> None:
    """A restore on a workstation runs none of them; where that is asked for they run, and reach nothing outside."""
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
        ctx.that("it says so", "boot repair was left out" in plain.said, plain)
        ctx.that("nothing of it ran", what_ran(target) == "")
        asked = ctx.reforge("restore", image, device, "--yes", "--boot-repair")
        tool("sync", "--file-system", target)
        ran = what_ran(target)
        ctx.that("it runs where that is asked for", ran.startswith("ran\n"), asked)
        ctx.that("and can do nothing outside", ran == "ran\n", ran)
        ctx.that("and what it left running is gone", not sleepers(), sleepers())
        ctx.that("a process of this machine still runs", victim.poll() is None)
        left_out = ctx.reforge("restore", image, device, "--yes", "--no-boot-repair")
        ctx.that("without any word where it is not wanted", "boot repair" not in left_out.said, left_out)
    finally:
        victim.kill()
        victim.wait()
        tool("losetup", "--detach", device)


def sleepers() -> list[str]:
    """The processes that update-grub leaves behind."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == b"busybox\0sleep\x0061\0":
                found.append(path.parent.name)
    return found
