"""A guest that runs Debian's `clonezilla`: it saves a disk into a folder as Clonezilla's users have them.

    with clonezilla_folder("plain", 4 * GIB) as made:
        made.folder   # the folder that Clonezilla wrote
        made.disk     # the raw disk that it was made from

Making one takes some 20 minutes by emulation. It is kept in the cache outside the checkout (REFORGE_SCRATCH), in a
folder named after the hash of its inputs, which gets its name only when complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from debian_layouts import LAYOUTS, own_tree
from debian_tree import base_key, build_base, locked, log, run, scratch_directory
from machine import Disk, Machine

GIB = 1 << 30
NAME = "saved"

# Beyond what clonezilla depends on: the programs that it calls where they exist.
PACKAGES = [
    "linux-image-amd64",
    "udev",
    "initramfs-tools",
    "zstd",
    "clonezilla",
    "partclone",
    "parted",
    "gdisk",
    "lvm2",
    "cryptsetup-bin",
    "ntfs-3g",
    "dosfstools",
    "btrfs-progs",
    "xfsprogs",
    "e2fsprogs",
    "fdisk",
    "procps",
    "psmisc",
]

# The guest's first process. Clonezilla itself is a set of shell scripts, which want udev's database and a terminal.
INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LC_ALL=C LANG=C
mount -o remount,rw /
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
echo clonezilla >/proc/sys/kernel/hostname
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add
udevadm settle
mkdir -p /home/partimag
mount LABEL=IMAGES /home/partimag || echo "CLONEZILLA-FAILED mount"
lsblk -f
vgchange -ay 2>/dev/null
echo CLONEZILLA-BEGIN
ocs-sr -q2 -batch -nogui -j2 -z9p -i @SPLIT@ -sfsck -senc -p true savedisk @NAME@ sda </dev/null
echo "CLONEZILLA-STATUS $?"
ls -l /home/partimag/@NAME@
umount /home/partimag && echo CLONEZILLA-END
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


@dataclass(frozen=True)
class SavedDisk:
    """A folder of Clonezilla, and the disk that it holds."""

    folder: Path
    disk: Path


def _tree() -> Path:
    """The guest's root directory, built if missing."""
    tree = scratch_directory() / f"clonezilla-tree-{base_key(PACKAGES)}"
    with locked(tree.with_suffix(".lock"), shared=False):
        if not tree.is_dir():
            build_base(tree, PACKAGES)
    return tree


def _key(layout: str, length: int, split: int) -> str:
    digest = hashlib.sha256(f"{base_key(PACKAGES)} {layout} {length} {split} {INIT}".encode())
    for name in ("debian_disk.py", "debian_layouts.py", "debian_tree.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:12]


def _source(layout: str, length: int, disk: Path, work: Path) -> None:
    """Makes the disk to save, as make-debian-disk does."""
    packages, write = LAYOUTS[layout]
    with own_tree(packages, work) as tree:
        with open(disk, "wb") as handle:
            handle.truncate(length)
        write(disk, length, tree, work)


def _save(source: Path, work: Path, logs: Path, split: int) -> Path:
    """Runs Clonezilla on the disk; gives its folder."""
    tree = _tree()
    root, images = work / "root.ext4", work / "images.ext4"
    init = work / "clonezilla-init"
    init.write_text(INIT.replace("@SPLIT@", str(split)).replace("@NAME@", NAME))
    init.chmod(0o755)
    run("mke2fs", "-q", "-t", "ext4", "-L", "CLONEZILLA", "-d", tree, root, "3G", timeout=600)
    run("debugfs", "-w", "-R", f"write {init} clonezilla-init", root)
    run("debugfs", "-w", "-R", "set_inode_field clonezilla-init mode 0100755", root)
    run("mke2fs", "-q", "-t", "ext4", "-L", "IMAGES", images, "3G")
    kernel = sorted((tree / "boot").glob("vmlinuz-*"))[-1]
    initrd = sorted((tree / "boot").glob("initrd.img-*"))[-1]
    # Two virtio disks and one on AHCI: only the disk to save is an `sda`. Its writes are dropped.
    disks = [Disk(root), Disk(images), Disk(source, "sata", "CLONEZILLA-SOURCE", snapshot=True)]
    command = "root=LABEL=CLONEZILLA rw init=/clonezilla-init console=ttyS0 panic=-1 net.ifnames=0"
    with Machine(
        "clonezilla", logs, disks=disks, kernel=kernel, initrd=initrd, append=command, memory=1536, time_limit=3600
    ) as machine:
        machine.wait_for(r"^CLONEZILLA-BEGIN", 300, unless="Kernel panic|CLONEZILLA-FAILED")
        status = machine.wait_for(r"^CLONEZILLA-STATUS (\d+)", 3000, unless="Kernel panic")
        machine.wait_for(r"^CLONEZILLA-END", 120, unless="Kernel panic")
        machine.wait_for_exit(120)
        if status[1] != "0":
            raise RuntimeError(f"Clonezilla ended with {status[1]}:\n{machine.tail()}")
    folder = work / "images"
    folder.mkdir()
    run("debugfs", "-R", f"rdump /{NAME} {folder}", images, timeout=300)
    saved = folder / NAME
    # partclone's failures do not reach Clonezilla's status.
    if not (saved / "parts").is_file() or not list(saved.glob("*-ptcl-img*")):
        raise RuntimeError(f"Clonezilla saved no partitions into {sorted(path.name for path in saved.iterdir())}")
    return saved


def make(layout: str, length: int, split: int = 0) -> SavedDisk:
    """The folder and its disk, from the cache or made."""
    if os.geteuid() != 0:
        raise RuntimeError("making a Clonezilla folder needs root (debootstrap, chroot)")
    place = scratch_directory() / f"clonezilla-{layout}-{_key(layout, length, split)}"
    made = SavedDisk(place / NAME, place / "source.raw")
    with locked(place.with_suffix(".lock"), shared=False):
        if made.folder.is_dir():
            return made
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="clonezilla-work.", dir=scratch_directory()) as name:
            work = Path(name)
            logs = scratch_directory() / "clonezilla-logs"
            log("the disk to save")
            _source(layout, length, work / "source.raw", work)
            log("Clonezilla in a machine (some 20 minutes)")
            saved = _save(work / "source.raw", work, logs, split)
            partial = place.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            shutil.move(saved, partial / NAME)
            shutil.move(work / "source.raw", partial / "source.raw")
            partial.rename(place)
        log(f"{place}: {time.monotonic() - started:.0f} s")
    return made


@contextlib.contextmanager
def clonezilla_folder(layout: str, length: int = 4 * GIB, split: int = 0) -> Iterator[SavedDisk]:
    """`make`, with a shared lock while the block runs."""
    made = make(layout, length, split)
    with locked(made.folder.parent.with_suffix(".lock"), shared=True):
        yield made
