# SPDX-License-Identifier: GPL-3.0-or-later
"""A power cut after a rollback, for filesystems that the host's kernel does not mount: no older life comes back."""

from __future__ import annotations

import re
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, expect, full_only, partition, run, time_limit
from lvm_guest import LVMGuest
from machine import Disk

# Name: length in MiB, what makes it on a file, its type for mount. The small log of the XFS is written over and over.
KINDS: dict[str, tuple[int, list[str], str]] = {
    "f2fs": (128, ["mkfs.f2fs", "-q"], "f2fs"),
    "xfs4": (200, ["mkfs.xfs", "-q", "--unsupported", "-m", "crc=0", "-l", "size=6m"], "xfs"),
}  # fmt: skip
MODULES = ["xfs", "f2fs", "crc32_generic"]
CONSOLE = "console=ttyS0,115200n8 loglevel=1 panic=-1 no_timer_check"

MOUNT = "\n".join(
    f"mkdir -p /mnt/{kind}; mount -t {mount} /dev/vda{number} /mnt/{kind}"
    for number, (kind, (_, _, mount)) in enumerate(KINDS.items(), 1)
)
UNMOUNT = "\n".join(f"umount /mnt/{kind}" for kind in KINDS)
EACH = f"for kind in {' '.join(KINDS)}; do"
CUT = "echo PLUG-NOW; sleep 600"

FIRST = f"""
{MOUNT}
{EACH} i=0; while [ $i -lt 30 ]; do dd if=/dev/urandom of=/mnt/$kind/old$i bs=20000 count=1 2>/dev/null; i=$((i + 1)); done; done
{UNMOUNT}
"""
# Metadata everywhere, and at last files that are synchronised one by one behind the last checkpoint.
LATER = f"""
{MOUNT}
i=0; while [ $i -lt 1200 ]; do echo $i >"/mnt/xfs4/a rather long name, so that folders take blocks $i"; i=$((i + 1)); done
sync; rm /mnt/xfs4/a*; sync
{EACH} i=0; while [ $i -lt 40 ]; do dd if=/dev/urandom of=/mnt/$kind/future$i bs=3000 count=1 conv=fsync 2>/dev/null; i=$((i + 1)); done; done
{CUT}
"""
AFTER = f"""
{MOUNT}
{EACH} i=0; while [ $i -lt 3 ]; do dd if=/dev/urandom of=/mnt/$kind/mine$i bs=3000 count=1 conv=fsync 2>/dev/null; i=$((i + 1)); done; done
{CUT}
"""
LAST = f"""
{MOUNT}
{EACH} for file in /mnt/$kind/*; do echo "FILE $kind $(basename $file) $(wc -c <$file)"; done; done
{UNMOUNT}
"""


def booted(ctx: Context, lab: LVMGuest, disk: Path, name: str, script: str) -> str:
    """Runs a script in a guest, to its end or to the moment where its plug is pulled; gives what it said."""
    with ctx.machine(
        name, kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, script), disks=[Disk(disk, "virtio", "ROLLBACK")],
        memory=512, time_limit=700, append=CONSOLE,
    ) as machine:  # fmt: skip
        if script.endswith(f"{CUT}\n"):
            machine.wait_for(r"^PLUG-NOW", 600, unless=r"GUEST-END|Kernel panic")
            machine.kill()
        else:
            end = machine.wait_for(r"^GUEST-END (\d+)", 600, unless=r"Kernel panic")
            expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail()}")
        return machine.text()


@full_only
@time_limit(2400)
def test_power_cut_after_a_rollback(ctx: Context) -> None:
    """Capture, a later life that loses its power, restore onto the same disk, files, a power cut: those files, and no others."""
    disk = ctx.folder / "disk.raw"
    with open(disk, "wb") as handle:
        handle.truncate((sum(length for length, _, _ in KINDS.values()) + 2) * MIB)
    partition(disk, "label: gpt\n" + "".join(f"size={length}MiB\n" for length, _, _ in KINDS.values()))
    start = 1
    for length, command, _ in KINDS.values():
        part = ctx.folder / "part"
        with open(part, "wb") as handle:
            handle.truncate(length * MIB)
        run(*command, part)
        run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
        part.unlink()
        start += length
    lab = LVMGuest(scratch_directory(), ctx.binary, modules=MODULES)
    booted(ctx, lab, disk, "first", FIRST)
    image = ctx.folder / "image.img.zst"
    ctx.reforge("capture", disk, image)
    booted(ctx, lab, disk, "later", LATER)
    ctx.reforge("restore", image, disk, "--yes", "--layout", "keep", "--no-boot-repair")
    booted(ctx, lab, disk, "after", AFTER)
    said = booted(ctx, lab, disk, "last", LAST)
    for kind in KINDS:
        found = dict(re.findall(rf"^FILE {kind} (\w+) (\d+)", said, re.MULTILINE))
        wanted = {f"old{number}": "20000" for number in range(30)} | {f"mine{number}": "3000" for number in range(3)}
        expect(found == wanted, f"{kind}: {sorted(set(found.items()) ^ set(wanted.items()))}")
