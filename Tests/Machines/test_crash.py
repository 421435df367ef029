"""Filesystems after a power cut: capture, restore and their own recovery keep all synchronised data."""

from __future__ import annotations

import json
import re
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, expect, note, partition, run, time_limit
from lvm_guest import LVMGuest
from machine import Disk
from test_recovery import restored_on_the_host

# Name: length in MiB, mkfs command, mount options.
KINDS: dict[str, tuple[int, list[str], str]] = {
    "ext4": (128, ["mke2fs", "-q", "-t", "ext4"], "-t ext4"),
    "ext3": (64, ["mke2fs", "-q", "-t", "ext3"], "-t ext3"),
    "ext2": (64, ["mke2fs", "-q", "-t", "ext2"], "-t ext2"),
    "xfs": (320, ["mkfs.xfs", "-q"], "-t xfs"),
    "btrfs": (160, ["mkfs.btrfs", "-q"], "-t btrfs"),
    "f2fs": (128, ["mkfs.f2fs", "-q"], "-t f2fs"),
    "fat": (64, ["mkfs.fat", "-F", "32"], "-t vfat"),
    "exfat": (64, ["mkfs.exfat"], "-t exfat"),
}  # fmt: skip
MODULES = ["ext4", "xfs", "btrfs", "f2fs", "crc32_generic", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "exfat"]
CONSOLE = "console=ttyS0,115200n8 loglevel=1 panic=-1"

# Some files are older than the sync, some were removed after it, and the last ones were synchronised by fsync only.
WRITE = """
number=1
for kind in KINDS; do
  mkdir -p /mnt/$kind
  eval "mount \\$mount_$kind /dev/vda$number /mnt/$kind"
  number=$((number + 1))
done
for kind in KINDS; do
  (
    cd /mnt/$kind
    i=0; while [ $i -lt 60 ]; do dd if=/dev/urandom of=old$i bs=$((1000 + 977 * i)) count=1 2>/dev/null; i=$((i + 1)); done
  )
done
# All filesystems: the later files are synchronised one by one.
sync
for kind in KINDS; do
  (
    cd /mnt/$kind
    rm old*7
    i=0; while [ $i -lt 12 ]; do dd if=/dev/urandom of=new$i bs=$((3000 + 40000 * i)) count=1 conv=fsync 2>/dev/null; i=$((i + 1)); done
    dd if=/dev/urandom of=old5 bs=5000 count=1 conv=notrunc,fsync 2>/dev/null
    for file in old[0-6] new*; do echo "HASH $kind $(sha256sum $file)"; done
    dd if=/dev/urandom of=late bs=300000 count=1 2>/dev/null
  )
done
echo PLUG-NOW
sleep 600
"""

READ = """
number=1
for kind in KINDS; do
  mkdir -p /mnt/$kind
  eval "mount \\$mount_$kind /dev/vda$number /mnt/$kind"
  number=$((number + 1))
  (cd /mnt/$kind; for file in old[0-6] new*; do echo "HASH $kind $(sha256sum $file)"; done)
  umount /mnt/$kind
done
"""


def script(body: str) -> str:
    """The script with the mount options of each kind."""
    mounts = "".join(f'mount_{kind}="{how}"\n' for kind, (_, _, how) in KINDS.items())
    return mounts + body.replace("KINDS", " ".join(KINDS))


def crash_disk(ctx: Context) -> Path:
    """A GPT disk with an empty filesystem of each kind."""
    disk = ctx.folder / "crash.raw"
    total = sum(length for length, _, _ in KINDS.values()) + 2
    with open(disk, "wb") as handle:
        handle.truncate(total * MIB)
    table = "label: gpt\n" + "".join(f"size={length}MiB\n" for length, _, _ in KINDS.values())
    partition(disk, table)
    start = 1
    for length, command, _ in KINDS.values():
        part = ctx.folder / "part"
        with open(part, "wb") as handle:
            handle.truncate(length * MIB)
        run(*command, part)
        run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
        part.unlink()
        start += length
    return disk


def hashes(said: str) -> dict[tuple[str, str], str]:
    """Hashes of files by kind and name."""
    return {(kind, name): value for kind, value, name in re.findall(r"^HASH (\w+) ([0-9a-f]{64})  (\w+)", said, re.MULTILINE)}


@time_limit(900)
def test_crashed_after_fsync(ctx: Context) -> None:
    """The power is cut after the last fsync; the disk is captured in that state and restored over junk."""
    source = crash_disk(ctx)
    lab = LVMGuest(scratch_directory(), ctx.binary, modules=MODULES)
    with ctx.machine(
        "crash", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, script(WRITE)), disks=[Disk(source, "virtio", "SOURCE")],
        memory=768, time_limit=400, append=CONSOLE,
    ) as machine:  # fmt: skip
        machine.wait_for(r"^PLUG-NOW", 300, unless=r"GUEST-END|Kernel panic")
        wanted = hashes(machine.text())
        machine.kill()
    expect(len(wanted) == 19 * len(KINDS), f"{len(wanted)} files were written")

    image = ctx.folder / "crashed.img.zst"
    report = json.loads(ctx.reforge("capture", source, image, "--json"))
    note(", ".join(f"{kind} {part['mapSource']}" for kind, part in zip(KINDS, report["partitions"], strict=True)))
    target = ctx.folder / "restored.raw"
    junk = bytes(range(7, 256)) * 4096
    with open(target, "wb") as handle:
        while (left := source.stat().st_size - handle.tell()) > 0:
            handle.write(junk[: min(left, len(junk))])
    restored_on_the_host(ctx, image, target)
    with ctx.machine(
        "recovered", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, script(READ)), disks=[Disk(target, "virtio", "TARGET")],
        memory=768, time_limit=400, append=CONSOLE,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 300, unless=r"Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail()}")
        found = hashes(machine.text())
    different = sorted(key for key in wanted if found.get(key) != wanted[key])
    expect(not different, f"other contents than were synchronised: {different}")
    note(f"{len(wanted)} files of {len(KINDS)} kinds")
