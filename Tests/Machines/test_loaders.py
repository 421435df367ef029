"""Debians that start without GRUB, restored by the medium onto another controller with blank NVRAM, and booted: the
references to the old disk's name are rewritten, and what is missing is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from debian_tree import ROOT_UUID
from lab import MIB, Context, copy_sparse, expect, expect_whole, full_only, note, run, time_limit
from test_systems import BOOT_TIMEOUT, System, restored

SYSTEMD_BOOT = System("systemd-boot", "uefi", 3072, smaller=None, larger=4096)
UKI = System("uki", "uefi", 3072, smaller=None, larger=4096)
EXTLINUX = System("extlinux", "bios", 3072, smaller=2300, larger=4096, esp=False)


def prove(ctx: Context, name: str, system: System, target: Path, nvram: Path | None) -> Any:
    """Boots a restored disk and checks that it is whole."""
    proof = ctx.boot_and_prove(name, target, "nvme", system.firmware, nvram=nvram, timeout=BOOT_TIMEOUT)
    expect_whole(proof, firmware=system.firmware, bus="nvme", esp=system.esp)
    note(f"{name}: booted by {system.firmware} in {proof.seconds:.0f} s")
    return proof


@full_only
@time_limit(1800)
def test_systemd_boot(ctx: Context) -> None:
    """The entry's `root=/dev/sda2` becomes a UUID; without the firmware's entries, the fallback loader starts it."""
    target, said, nvram = restored(
        ctx, ctx.images_disk(system=SYSTEMD_BOOT.image(ctx)), SYSTEMD_BOOT.larger, firmware="uefi", settings={}
    )
    expect(f"root=/dev/sda2 → root=UUID={ROOT_UUID}" in said, f"the entry was not rewritten\n{said[-3000:]}")
    listing = run("mdir", "-/", "-b", "-i", f"{target}@@{MIB}", "::/")
    expect("random-seed" not in listing, "the seed of the captured machine is still there")
    expect("EFI/BOOT/BOOTX64.EFI" in listing, f"there is no fallback loader\n{listing}")
    prove(ctx, "by-entry", SYSTEMD_BOOT, target, nvram)
    prove(ctx, "by-fallback", SYSTEMD_BOOT, target, None)
    target.unlink()


@full_only
@time_limit(1800)
def test_unified_kernel(ctx: Context) -> None:
    """The image becomes the fallback loader and an entry of the firmware."""
    target, said, nvram = restored(
        ctx, ctx.images_disk(system=UKI.image(ctx)), UKI.larger, firmware="uefi", settings={}
    )
    expect("EFI\\Linux" in said, f"boot repair does not name the image\n{said[-3000:]}")
    prove(ctx, "by-entry", UKI, target, nvram)
    prove(ctx, "by-fallback", UKI, target, None)
    target.unlink()


@full_only
@time_limit(1800)
def test_extlinux_larger(ctx: Context) -> None:
    """The blocks stay in place: only the root's name is rewritten."""
    target, said, _ = restored(
        ctx, ctx.images_disk(system=EXTLINUX.image(ctx)), EXTLINUX.larger, firmware="bios", settings={}
    )
    expect(f"root=/dev/sda1 → root=UUID={ROOT_UUID}" in said, f"the entry was not rewritten\n{said[-3000:]}")
    prove(ctx, "boot", EXTLINUX, target, None)
    target.unlink()


@full_only
@time_limit(1800)
def test_extlinux_smaller(ctx: Context) -> None:
    """The filesystem shrinks: where blocks of ldlinux.sys moved, the system's extlinux is installed again."""
    target, said, _ = restored(
        ctx, ctx.images_disk(system=EXTLINUX.image(ctx)), EXTLINUX.smaller or 0, firmware="bios", settings={}
    )
    note("extlinux was installed again" if "ran extlinux --install" in said else "the blocks had not moved")
    prove(ctx, "boot", EXTLINUX, target, None)
    target.unlink()


@full_only
@time_limit(1800)
def test_extlinux_broken(ctx: Context) -> None:
    """No boot record in the partition, and no mark on it: the system's extlinux runs confined, and the mark is set."""
    disk = copy_sparse(EXTLINUX.disk(ctx), ctx.folder / "broken.raw")
    with open(disk, "r+b") as handle:
        handle.seek(MIB)
        handle.write(bytes(512))
    run("sfdisk", "--no-reread", "--no-tell-kernel", "--part-attrs", disk, "1", "")
    image = ctx.folder / "broken.img.zst"
    ctx.reforge("capture", disk, image)
    disk.unlink()
    target, said, _ = restored(ctx, ctx.images_disk(system=image), EXTLINUX.larger, firmware="bios", settings={})
    expect("ran extlinux --install /boot/extlinux" in said, f"extlinux was not installed again\n{said[-3000:]}")
    expect("legacy BIOS bootable" in said, "the mark was not set")
    run("sgdisk", "--verify", target)
    prove(ctx, "boot", EXTLINUX, target, None)
    target.unlink()
