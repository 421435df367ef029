"""The medium itself: Secure Boot from stick, disc and network, images on NTFS, BitLocker, the support bundle."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import bitlocker_volume
from lab import MIB, Context, Skip, copy_sparse, expect, first_nonzero, full_only, note, run, time_limit
from machine import SECURE_CODE, SECURE_VARS, Disk, Machine
from test_restore import PANIC, TARGET_SERIAL

SECURE = r"UEFI, Secure Boot on"
MENU = r"What is to be done\?"


# MARK: helpers


def needs_secure_firmware() -> None:
    """Skips without OVMF's build with Secure Boot."""
    for path in (SECURE_CODE, SECURE_VARS):
        if not path.exists():
            raise Skip(f"no {path}: install ovmf")


def larger_stick(ctx: Context) -> Path:
    """A copy of the stick with space for its volume to grow."""
    stick = copy_sparse(ctx.medium("reforge.img"), ctx.folder / "stick.raw")
    os.truncate(stick, stick.stat().st_size + 128 * MIB)
    return stick


def small_image(ctx: Context) -> Path:
    """The image of a disk of 64 MiB with one file."""
    tree = ctx.folder / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(ctx.random.randbytes(MIB))
    disk = ctx.folder / "small.raw"
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "64M")
    image = ctx.folder / "small.img.zst"
    ctx.reforge("capture", disk, image)
    return image


def ntfs_disk(ctx: Context, name: str, label: str, mebibytes: int, image: Path) -> Path:
    """An NTFS on a bare disk that holds an image."""
    disk = ctx.blank_disk(name, mebibytes * MIB)
    run("mkntfs", "-q", "-F", "-Q", "-L", label, disk)
    run("ntfscp", disk, image, image.name)
    return disk


def start(machine: Machine, seconds: float = 240) -> None:
    """Waits for the menu of a machine with Secure Boot on."""
    machine.wait_for(SECURE, seconds, unless=PANIC)
    machine.wait_for(r"The kernel is locked down", 30, unless=PANIC)
    machine.wait_for(MENU, seconds, unless=PANIC)
    note(f"menu after {time.monotonic() - machine.started:.0f} s")


def shell(machine: Machine, command: str, seconds: float = 60) -> str:
    """Runs a command in the rescue shell; gives what it said."""
    machine.send("shell\n")
    machine.wait_for(r"reforge # $", 60)
    before = len(machine.text())
    # The command itself is echoed, so its end is written in two parts.
    machine.send(f'{command}; echo END"ED"\n')
    machine.wait_for(r"^ENDED", seconds, unless=PANIC)
    said = machine.text()[before:]
    machine.send("exit\n")
    machine.wait_for(MENU + r"(?s:.*)Number: ", 60, unless=PANIC)
    return said


# MARK: Secure Boot


@time_limit(600)
def test_secure_boot_from_the_stick(ctx: Context) -> None:
    """The stick starts with Secure Boot on, in 512 MiB, and leaves the support bundle on its volume."""
    needs_secure_firmware()
    stick = larger_stick(ctx)
    with ctx.machine("stick", firmware="secure", disks=[Disk(stick, "usb", "STICK")]) as machine:
        start(machine)
        machine.send("poweroff\n")
        machine.wait_for_exit(120, unless=PANIC)
        expect("Secure Boot is on: kernel locked down" in machine.text(), "GRUB's menu does not note lockdown")
    expect("support.tar.zst".encode("utf-16-le") in volume_bytes(stick), "no support.tar.zst on the volume")


def volume_bytes(stick: Path) -> bytes:
    """The start of the REFORGE volume, with its root folder: exFAT keeps names in UTF-16."""
    start_sector = json.loads(run("sfdisk", "--json", stick))["partitiontable"]["partitions"][2]["start"]
    with open(stick, "rb") as file:
        file.seek(start_sector * 512)
        return file.read(64 * MIB)


@full_only
@time_limit(900)
def test_secure_boot_from_disc_and_written_disc(ctx: Context) -> None:
    """reforge.iso starts with Secure Boot on from an optical drive, and written to a stick."""
    needs_secure_firmware()
    iso = ctx.medium("reforge.iso")
    ways: dict[str, dict[str, Any]] = {
        "disc": {"cdrom": iso},
        "written": {"disks": [Disk(iso, "usb", "STICK", snapshot=True)]},
    }
    for name, options in ways.items():
        with ctx.machine(name, firmware="secure", **options) as machine:
            start(machine)


@full_only
@time_limit(900)
def test_secure_boot_from_the_network(ctx: Context) -> None:
    """Firmware, shim, GRUB and kernel arrive by TFTP; the extras, too, with the SHA-256 of the initramfs."""
    needs_secure_firmware()
    folder = ctx.media / "netboot"
    if not folder.is_dir():
        raise Skip(f"no {folder}: run Scripts/build-media {ctx.media}")
    network = ["-netdev", f"user,id=net,tftp={folder},bootfile=shimx64.efi"]
    network += ["-device", "virtio-net-pci,netdev=net,romfile=,bootindex=0"]
    with ctx.machine("network", firmware="secure", extra=network, memory=640, time_limit=500) as machine:
        start(machine, 400)
        said = shell(machine, "cat /proc/cmdline")
    expect("reforge.extras=tftp://10.0.2.2/boot/extras.sqfs" in said, f"no address of the extras: {said}")


# MARK: volumes of Windows


@full_only
@time_limit(900)
def test_restores_from_ntfs_and_bitlocker(ctx: Context) -> None:
    """Images are found on NTFS, also inside BitLocker; reading changes no byte of either."""
    image = small_image(ctx)
    ntfs = ntfs_disk(ctx, "ntfs.raw", "WINDATA", 64, image)
    plain = ntfs_disk(ctx, "plain.raw", "BITDATA", 16, image)
    key, bitlocker = bitlocker_volume.recovery_key(7), ctx.folder / "bitlocker.raw"
    bitlocker_volume.encrypt(plain, bitlocker, key)
    target = ctx.blank_disk("target.raw", 128 * MIB)
    before = ntfs.read_bytes(), bitlocker.read_bytes()
    disks = [Disk(ntfs, "virtio", "NTFS"), Disk(bitlocker, "virtio", "BIT"), Disk(target, "nvme", TARGET_SERIAL)]
    with ctx.machine(
        "menu", kernel=ctx.medium("vmlinuz"), initrd=ctx.medium("initramfs.img"), disks=disks,
        append="console=ttyS0,115200n8 loglevel=4 SWIFT_BACKTRACE=enable=no",
    ) as machine:  # fmt: skip
        machine.wait_for(r":/small\.img\.zst .*on \"WINDATA\"", 240, unless=PANIC)
        machine.wait_for(r"Encrypted by BitLocker(?s:.*)/dev/vdb", 10, unless=PANIC)
        machine.wait_for(r"9  Open a BitLocker volume(?s:.*)Number: ", 30, unless=PANIC)
        machine.send("9\n")
        machine.wait_for(r"Which volume\?(?s:.*)Number: ", 30)
        machine.send("1\n")
        for typed, answer in (
            (key[:-1] + "9", r"Group 8 of the recovery key"), (key[:-6] + "000011", r"does not open /dev/vdb"),
            (key.replace("-", ""), r"/dev/vdb is open for reading"),
        ):  # fmt: skip
            machine.wait_for(r"it shows as you type\): ", 30)
            machine.send(typed + "\n")
            machine.wait_for(answer, 60, unless=PANIC)
        machine.wait_for(r":/small\.img\.zst .*on \"BITDATA\"", 60, unless=PANIC)
        machine.wait_for(MENU + r"(?s:.*)Number: ", 30)
        machine.send("1\n")
        number = machine.wait_for(r"(\d+)  \S+:/small\.img\.zst .*on \"BITDATA\"", 30)[1]
        machine.wait_for(r"http://host/path: ", 30)
        machine.send(f"{number}\n")
        machine.wait_for(r"(\d+)  /dev/nvme(?s:.*)Number: ", 30)
        choice = [line.split()[0] for line in machine.text().splitlines() if "  /dev/nvme0n1" in line and line.split()[0].isdigit()]
        machine.send(f"{choice[-1]}\n")
        machine.wait_for(r"To restore, type TARGET(?s:.*)> ", 120, unless=PANIC)
        machine.send("TARGET\n")
        machine.wait_for(r"Press Enter for the menu", 120, unless=PANIC)
    expect(first_nonzero(target) is not None, "nothing was restored")
    run("e2fsck", "-f", "-n", target)
    expect((ntfs.read_bytes(), bitlocker.read_bytes()) == before, "a volume was written to")
