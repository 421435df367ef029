"""Folders that Debian's own Clonezilla saved: imported, restored onto disks of other sizes, and booted.

The first run of a layout makes its folder in a machine, in some 20 minutes (make-clonezilla); it is kept in the cache.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from clonezilla_guest import GIB, SavedDisk, make
from lab import MIB, Context, Skip, expect, expect_whole, full_only, note, run, time_limit
from machine import Disk
from test_restore import RESTORE_FAILED, RESTORE_TIMEOUT, TARGET_SERIAL, medium

# A folder of each kind of table, the second one cut into pieces of 100 MB.
LAYOUTS = {"plain": (4 * GIB, 0), "mbr": (3 * GIB, 100)}
LIMIT = 5400


def saved(ctx: Context, layout: str) -> SavedDisk:
    """The folder of a layout."""

    def made() -> SavedDisk:
        if os.geteuid() != 0:
            raise Skip("making a Clonezilla folder needs root")
        return make(layout, *LAYOUTS[layout])

    return ctx.shared.once(f"Clonezilla's folder of {layout}", made)


def snapshot(ctx: Context, layout: str) -> str:
    """A snapshot of the folder: the import into a repository finds out how small its filesystems can be."""

    def made() -> str:
        repository = ctx.workdir / f"clonezilla-{layout}"
        ctx.reforge("init-repo", repository)
        ctx.reforge("import", saved(ctx, layout).folder, f"{repository}@", timeout=1800)
        return f"{repository}@latest"

    return ctx.shared.once(f"snapshot of Clonezilla's {layout}", made)


def swaps(disk: Path) -> list[tuple[int, int]]:
    """The places of the swap areas: Clonezilla does not save them, and they are made."""
    table = json.loads(run("sfdisk", "-J", disk))["partitiontable"]
    kinds = {"82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"}
    return [
        (entry["start"] * 512, (entry["start"] + entry["size"]) * 512)
        for entry in table["partitions"]
        if entry["type"].upper() in kinds
    ]


def differences(one: Path, other: Path, but: list[tuple[int, int]]) -> list[int]:
    """The MiB in which two files differ, outside of some places."""
    found = []
    with open(one, "rb") as first, open(other, "rb") as second:
        position = 0
        while True:
            a, b = first.read(MIB), second.read(MIB)
            if not a and not b:
                return found
            if a != b and not any(start < position + MIB and position < end for start, end in but):
                found.append(position // MIB)
            position += MIB


@full_only
@time_limit(LIMIT)
def test_clonezilla_gpt_has_all_bytes(ctx: Context) -> None:
    """Imported, and restored onto a disk of the same size: every MiB as on the source, but for the swap area."""
    made = saved(ctx, "plain")
    said = ctx.reforge("inspect", made.folder)
    expect("ext4" in said and "vfat" in said, f"inspect does not show the filesystems:\n{said}")
    image = ctx.folder / "imported.img.zst"
    ctx.reforge("import", made.folder, image, timeout=1800)
    target = ctx.blank_disk("same.raw", made.disk.stat().st_size)
    ctx.reforge("restore", image, target, "--yes", "--layout", "keep", "--no-boot-repair", timeout=1800)
    places = swaps(made.disk)
    expect(swaps(target) == places, "the swap area is elsewhere")
    found = differences(made.disk, target, places)
    expect(not found, f"other bytes in the MiB {found[:40]}")
    uuid = run("blkid", "-p", "-O", str(places[0][0]), "-o", "value", "-s", "UUID", target).strip()
    expect(uuid == "5eed0004-0000-4000-8000-000000000004", f"the swap area has the UUID {uuid!r}")
    expect("No problems found" in run("sgdisk", "-v", target), "sgdisk finds problems")


def shrink(ctx: Context, layout: str, target: Path) -> None:
    """Restores the import by the medium, which has a device-mapper."""
    image = ctx.folder / "import.img.zst"
    ctx.reforge("copy", snapshot(ctx, layout), image, timeout=1800)
    images = ctx.images_disk(**{"import": image})
    wanted = {"restore": "LABEL=IMAGES:/import.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff"}
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    with medium(ctx, f"shrink-{layout}", wanted, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
    images.unlink()
    image.unlink()


def boots(ctx: Context, layout: str, firmware: str, byte_count: int, *, esp: bool) -> int:
    """Restores the snapshot onto a disk of that length and boots it; gives the length of its root in bytes."""
    target = ctx.blank_disk(f"{layout}-{byte_count // MIB}.raw", byte_count)
    if byte_count < LAYOUTS[layout][0]:
        shrink(ctx, layout, target)
    else:
        ctx.reforge("restore", snapshot(ctx, layout), target, "--yes", timeout=1800)
        # For UEFI: the captured system has no fallback loader, and this machine's variables are blank.
        ctx.reforge("boot-repair", target, codes=(0, 70))
    proof = ctx.boot_and_prove(f"boot-{layout}-{byte_count // MIB}", target, "nvme", firmware)
    expect_whole(proof, firmware=firmware, bus="nvme", esp=esp)
    note(f"{layout} on {byte_count // MIB} MiB: a root of {proof.number('root-size') // MIB} MiB")
    target.unlink()
    return proof.number("root-size")


@full_only
@time_limit(LIMIT)
def test_clonezilla_gpt_boots_on_larger_and_smaller(ctx: Context) -> None:
    """The root grows onto a larger disk and shrinks onto a smaller one; both boot, by BIOS and by UEFI."""
    larger = boots(ctx, "plain", "bios", 6 * GIB, esp=True)
    smaller = boots(ctx, "plain", "uefi", 3 * GIB, esp=True)
    expect(smaller < 3 * GIB < larger, f"roots of {smaller} and {larger} bytes")


@full_only
@time_limit(LIMIT)
def test_clonezilla_mbr_boots_on_larger_and_smaller(ctx: Context) -> None:
    """Logical partitions, images in pieces, and GRUB behind the MBR."""
    made = saved(ctx, "mbr")
    expect(len(list(made.folder.glob("*.a[a-z]"))) > 2, "the images were not cut")
    larger = boots(ctx, "mbr", "bios", 4 * GIB, esp=False)
    smaller = boots(ctx, "mbr", "bios", 2600 * MIB, esp=False)
    expect(smaller < larger, f"roots of {smaller} and {larger} bytes")
