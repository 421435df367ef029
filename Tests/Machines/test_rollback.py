# SPDX-License-Identifier: GPL-3.0-or-later
"""A power cut after a rollback, for filesystems that the host's kernel does not mount: no log entry from before the
restore is replayed."""

from __future__ import annotations

import re
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, expect, full_only, partition, run, time_limit
from lvm_guest import LVMGuest
from machine import Disk

# Name: length in MiB, mkfs command, mount type. The small log of the XFS wraps several times.
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
# Metadata in many places, and then files synchronised one by one after the last checkpoint.
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
    """Runs a script in a guest, to its end or to its power cut; gives the console's text."""
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
    """Capture, later files, power cut, restore onto the same disk, new files, power cut: later files stay gone."""
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


# An XFS inside LUKS, and one on a logical volume. `xfs_io shutdown` stops them like a power cut.
CONTAINERS = r"""
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
quietly() { "$@" >/tmp/said.log 2>&1 || { status=$?; cat /tmp/said.log; fail "$1 $2 ended with $status"; }; }
start() {
    cryptsetup open --key-file /tmp/key /dev/vda1 inner || fail "open: $?"
    vgchange -q -ay vg0 >/dev/null; settle /dev/mapper/vg0-data
    mount -t xfs /dev/mapper/inner /mnt/luks || fail "luks does not mount $1"
    mount -t xfs /dev/mapper/vg0-data /mnt/lvm || fail "lvm does not mount $1"
}
stop() { umount /mnt/luks /mnt/lvm; vgchange -q -an vg0 >/dev/null; cryptsetup close inner; }
files() { i=0; while [ $i -lt "$3" ]; do echo "$2 $i" >"/mnt/$1/$2 a rather long name, so that folders take blocks $i"; i=$((i + 1)); done; }
mkdir -p /mnt/luks /mnt/lvm /mnt/images /run/cryptsetup; printf key >/tmp/key
/usr/sbin/mke2fs -q -t ext4 /dev/vdb; mount /dev/vdb /mnt/images
printf 'label: gpt\n,200M\n,212M\n' | sfdisk -q /dev/vda; settle /dev/vda2
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --cipher aes-xts-plain64 --type luks2 --luks2-metadata-size 16k \
    --luks2-keyslots-size 1m --key-file /tmp/key /dev/vda1
cryptsetup open --key-file /tmp/key /dev/vda1 inner
pvcreate -q /dev/vda2; vgcreate -q vg0 /dev/vda2; lvcreate -q -y -Wn -Zn -L 196M -n data vg0; settle /dev/mapper/vg0-data
for node in inner vg0-data; do mkfs.xfs -q -f -K --unsupported -l size=6m /dev/mapper/$node; done
vgchange -q -an vg0; cryptsetup close inner
start first; for kind in luks lvm; do files $kind old 30; done; stop
quietly reforge capture /dev/vda /mnt/images/disk.img.zst --luks-key-file /tmp/key
[ "$(stat -c %s /mnt/images/disk.img.zst)" -lt 150000000 ] || fail "all of it was captured"
start later
for kind in luks lvm; do
    for life in 1 2 3; do files $kind "life$life" 700; sync; rm /mnt/$kind/life$life*; sync; done
done
stop
quietly reforge restore /mnt/images/disk.img.zst /dev/vda --yes --no-boot-repair --layout keep --luks-key-file /tmp/key
cat /tmp/said.log; blockdev --rereadpt /dev/vda 2>/dev/null || true; settle /dev/vda2
start "behind the restore"
for kind in luks lvm; do files $kind mine 400; sync; xfs_io -x -c "shutdown -f" /mnt/$kind; done
stop
start "behind the power cut"
for kind in luks lvm; do
    [ "$(ls /mnt/$kind | wc -l)" = 430 ] || fail "$kind has $(ls /mnt/$kind | wc -l) files"
    i=0; while [ $i -lt 400 ]; do
        [ "$(cat "/mnt/$kind/mine a rather long name, so that folders take blocks $i")" = "mine $i" ] || fail "$kind lost $i"; i=$((i + 1))
    done
done
umount /mnt/luks /mnt/lvm
for node in inner vg0-data; do xfs_repair -n /dev/mapper/$node >/dev/null 2>&1 || fail "xfs_repair finds damage in $node"; done
"""
CRYPT_MODULES = ["dm-crypt", "ecb", "xts", "aes_generic", "aesni-intel", "sha256_generic", "af_alg", "algif_skcipher", "algif_hash"]


@full_only
@time_limit(2400)
def test_an_older_life_inside_of_containers(ctx: Context) -> None:
    """A rollback inside LUKS, where the log cannot be replaced from outside, and on a logical volume."""
    lab = LVMGuest(
        scratch_directory(), ctx.binary, programs=["cryptsetup", "blkid", "xfs_io", "xfs_db"], modules=[*MODULES, *CRYPT_MODULES]
    )
    disks = [Disk(ctx.blank_disk(f"{name}.raw", size * MIB), "virtio", name) for name, size in (("disk", 420), ("images", 512))]
    with ctx.machine(
        "containers", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, CONTAINERS), append=CONSOLE, disks=disks, memory=768,
        time_limit=2000,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 2000, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
