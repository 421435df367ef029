"""Disks with sectors of another size: from 512 bytes to 4096 and back.

The table and the EFI system partition are rewritten for the new size. Other tools check the result, and the firmware
boots it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from debian_layouts import LVM_CONFIG, write_volume_group
from lab import GIB, MIB, Context, Skip, expect, expect_whole, first_nonzero, full_only, note, partition, run, time_limit
from machine import Disk
from proof import wait_for_proof
from test_restore import (
    GROWN_ROOT,
    IMAGE,
    RESTORE_FAILED,
    RESTORE_TIMEOUT,
    TARGET_BYTES,
    TARGET_SERIAL,
    medium,
    restore_settings,
)

Table = list[dict[str, Any]]


@contextmanager
def loop(disk: Path, sector_size: int, start: int = 0, length: int = 0) -> Iterator[str]:
    """A loop device with sectors of that size on a disk file, or on a part of it."""
    done = subprocess.run(
        ["losetup", "--find", "--show", "--sector-size", str(sector_size), "--offset", str(start), "--sizelimit", str(length),
         str(disk)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise Skip(f"no loop devices here: {done.stderr.strip()}")
    node = done.stdout.strip()
    try:
        yield node
    finally:
        run("losetup", "--detach", node)


def partitions(disk: Path, sector_size: int) -> Table:
    """The table as sfdisk reads it, with starts and sizes in bytes, verified by sgdisk."""
    with loop(disk, sector_size) as node:
        expect("No problems found" in run("sgdisk", "--verify", node), "sgdisk found problems")
        table = json.loads(run("sfdisk", "--json", node))["partitiontable"]
    expect(table.get("sectorsize", sector_size) == sector_size, f"sectors of {table.get('sectorsize')}")
    for entry in table["partitions"]:
        del entry["node"]
        for key in ("start", "size"):
            entry[key] *= sector_size
    return table["partitions"]


def sha256_of(command: list[str]) -> str:
    """The SHA-256 of a command's output."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    expect(done.returncode == 0, f"{command}: {done.stderr!r}")
    return hashlib.sha256(done.stdout).hexdigest()


def expect_data(disk: Path, sector_size: int, wanted: Table | None) -> tuple[Table, list[str]]:
    """Checks the data disk with sectors of that size; gives its table and the hashes of its files."""
    table = partitions(disk, sector_size)
    if wanted is not None:
        for key in ("uuid", "type", "name", "attrs"):
            expect([part.get(key) for part in table] == [part.get(key) for part in wanted], f"another {key}: {table}")
    root, fat = table[0]["start"], table[1]["start"]
    run("e2fsck", "-f", "-n", f"{disk}?offset={root}")
    hashes = [sha256_of(["debugfs", "-R", f"cat file{number}", f"{disk}?offset={root}"]) for number in range(0, 48, 5)]
    hashes.append(sha256_of(["mcopy", "-i", f"{disk}@@{fat}", "::/file3", "-"]))
    bytes_per_sector = int.from_bytes(read_at(disk, fat + 11, 2), "little")
    expect(bytes_per_sector == sector_size, f"the FAT has sectors of {bytes_per_sector} bytes")
    hidden = int.from_bytes(read_at(disk, fat + 28, 4), "little")
    if wanted is not None:
        expect(hidden == fat // sector_size, f"the FAT has {hidden} hidden sectors")
    return table, hashes


def read_at(disk: Path, offset: int, count: int) -> bytes:
    """Reads bytes of a disk."""
    with open(disk, "rb") as handle:
        handle.seek(offset)
        return handle.read(count)


@time_limit(300)
def test_there_and_back_on_the_host(ctx: Context) -> None:
    """512 → 4096 → 512: partitions and files are unchanged, according to other tools."""
    source = ctx.data_disk()
    table, hashes = expect_data(source, 512, None)
    image = ctx.folder / "data.img.zst"
    ctx.reforge("capture", source, image)
    large = ctx.blank_disk("large.raw", 900 * MIB)
    onto = ["restore", image, large, "--yes", "--sector-size", "4096", "--layout", "keep", "--verify"]
    # The third partition has the type of swap but no swap area: its content is unknown.
    ctx.reforge(*onto, codes=(77,))
    expect(first_nonzero(large) is None, "a refused restore wrote something")
    ctx.reforge(*onto, "--trust-unknown")
    expect(expect_data(large, 4096, table)[1] == hashes, "other files on sectors of 4096 bytes")
    again = ctx.folder / "again.img.zst"
    ctx.reforge("capture", large, again, "--sector-size", "4096")
    back = ctx.blank_disk("back.raw", 900 * MIB)
    ctx.reforge("restore", again, back, "--yes", "--layout", "keep", "--verify", "--trust-unknown")
    final, found = expect_data(back, 512, table)
    expect(found == hashes, "other files on sectors of 512 bytes")
    expect([part["size"] for part in final] == [part["size"] for part in table], f"other sizes: {final}")


MOUNTED = 'mkdir -p "$2"; mount "$1" "$2"; cd "$2"; shift 2; "$@"; cd /; sync'
KINDS_MIB = {"xfs": 320, "btrfs": 320, "lvm": 64}
LVM_CHECK = ["--driverloaded", "n", "--config", LVM_CONFIG]


def mounted(ctx: Context, node: str, *command: str) -> str:
    """The output of a command in a node's filesystem, in a separate mount namespace, so that nothing stays mounted."""
    place = str(ctx.folder / "mounted")
    return run("unshare", "--mount", "--propagation", "private", "sh", "-euc", MOUNTED, "sh", node, place, *command, timeout=120)


@time_limit(300)
def test_other_kinds_on_the_host(ctx: Context) -> None:
    """XFS, Btrfs and LVM move unchanged onto sectors of 4096 bytes, according to their own checks and the kernel."""
    tree, disk, part = ctx.folder / "tree", ctx.blank_disk("kinds.raw", 720 * MIB), ctx.folder / "part"
    tree.mkdir()
    for number in range(24):
        (tree / f"file{number}").write_bytes(ctx.random.randbytes((number % 5 + 1) * MIB // 3 + number * 777))
    partition(disk, "label: gpt\n" + "".join(f"size={length}MiB\n" for length in KINDS_MIB.values()))
    start = MIB
    sums = "sha256sum file* | sort"
    wanted = run("sh", "-c", f"cd {tree} && {sums}")
    extent = 0
    for kind, length in KINDS_MIB.items():
        part.unlink(missing_ok=True)
        with open(part, "wb") as handle:
            handle.truncate(length * MIB)
        if kind == "lvm":
            extent = write_volume_group(part, [("data", 48 * MIB)])["data"]
            run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", f"offset={extent}", "-d", tree, part, "48M")
        else:
            run(*{"xfs": ["mkfs.xfs", "-q", "-s", "size=4096"], "btrfs": ["mkfs.btrfs", "-q"]}[kind], part)
            with loop(part, 512) as node:
                mounted(ctx, node, "cp", "-r", f"{tree}/.", ".")
        run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start // MIB}", "conv=notrunc,sparse", "status=none")
        start += length * MIB
    image, target = ctx.folder / "kinds.img.zst", ctx.blank_disk("target.raw", 800 * MIB)
    ctx.reforge("capture", disk, image)
    ctx.reforge("restore", image, target, "--yes", "--sector-size", "4096", "--layout", "keep", "--verify")
    for kind, entry in zip(KINDS_MIB, partitions(target, 4096), strict=True):
        with loop(target, 4096, entry["start"], entry["size"]) as node:
            if kind == "xfs":
                run("xfs_repair", "-n", node)
            elif kind == "btrfs":
                run("btrfs", "check", "--readonly", node)
            else:
                for command in (["pvck", node], ["vgck", "vg0"]):
                    run("lvm", command[0], "--devices", node, *LVM_CHECK, command[1])
        inside = extent if kind == "lvm" else 0
        with loop(target, 4096, entry["start"] + inside, entry["size"] - inside) as node:
            if kind == "lvm":
                run("e2fsck", "-f", "-n", node)
            expect(mounted(ctx, node, "sh", "-c", sums) == wanted, f"{kind}: other files on sectors of 4096 bytes")


@full_only
@time_limit(1100)
def test_a_debian_starts_from_4096(ctx: Context) -> None:
    """A Debian from 512-byte sectors boots by UEFI from 4096-byte sectors, with its NVRAM entry and without."""
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    images = ctx.images_disk(debian=ctx.debian_image())
    nvram = ctx.folder / "nvram.fd"
    disks = [Disk(target, "nvme", TARGET_SERIAL, sector_size=4096), Disk(images, "virtio", "IMAGES")]
    with medium(ctx, "restore", restore_settings(IMAGE), disks, firmware="uefi", nvram=nvram) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
    table = partitions(target, 4096)
    expect([part["uuid"][:8] for part in table] == [f"5EED000{number}" for number in range(1, 5)], f"{table}")
    expect(table[1]["size"] > 250 * MIB, f"an ESP with room for FAT32: {table[1]}")
    run("e2fsck", "-f", "-n", f"{target}?offset={table[2]['start']}")
    for name, kept in (("with-entry", nvram), ("blank-nvram", None)):
        booted = [Disk(target, "nvme", "BOOTED", snapshot=True, sector_size=4096)]
        with ctx.machine(name, firmware="uefi", disks=booted, nvram=kept) as machine:
            proof = wait_for_proof(machine)
        expect_whole(proof, firmware="uefi", bus="nvme", root_over=GROWN_ROOT)
        note(f"booted ({name}) in {proof.seconds:.0f} s: root of {proof.number('root-size') / GIB:.2f} GiB")


@time_limit(600)
def test_a_smaller_disk_of_4096(ctx: Context) -> None:
    """A partition of an odd number of sectors shrinks onto sectors of 4096 bytes: its scratch has whole sectors."""
    tree = ctx.folder / "tree"
    tree.mkdir()
    hashes = {}
    for number in range(20):
        content = ctx.random.randbytes((number % 6 + 1) * MIB // 2 + number * 777)
        (tree / f"file{number}").write_bytes(content)
        hashes[f"file{number}"] = hashlib.sha256(content).hexdigest()
    source = ctx.blank_disk("source.raw", 600 * MIB)
    # The length of a disk's last partition is seldom a multiple of 8 sectors.
    sectors = 598 * 2048 - 1
    partition(source, f"label: gpt\nstart=2048, size={sectors}\n")
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", f"offset={MIB}", "-d", tree, source, str(sectors // 8))
    image = ctx.folder / "odd.img.zst"
    ctx.reforge("capture", source, image)
    target = ctx.blank_disk("target.raw", 300 * MIB)
    images = ctx.images_disk(odd=image)
    disks = [Disk(target, "nvme", TARGET_SERIAL, sector_size=4096), Disk(images, "virtio", "IMAGES")]
    settings = {"restore": "LABEL=IMAGES:/odd.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff"}
    with medium(ctx, "restore", settings, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
    table = partitions(target, 4096)
    expect(table[0]["size"] < 300 * MIB, f"{table}")
    root = table[0]["start"]
    run("e2fsck", "-f", "-n", f"{target}?offset={root}")
    for name, wanted in hashes.items():
        found = sha256_of(["debugfs", "-R", f"cat {name}", f"{target}?offset={root}"])
        expect(found == wanted, f"{name} has changed")
