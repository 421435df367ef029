"""The layouts of make-debian-disk that start without GRUB: systemd-boot, a unified kernel image, extlinux.

Their roots are named as a machine with SATA names them (`/dev/sda2`), or they have no fallback loader: restored onto
another controller with blank NVRAM, they start only after boot repair.
"""

from __future__ import annotations

import os
from pathlib import Path

import debian_tree
from debian_disk import (
    DISK_GUID,
    MIB,
    PARTITION_GUID,
    SECTOR,
    SWAP_BYTES,
    TYPE_ESP,
    TYPE_LINUX,
    TYPE_SWAP,
    sfdisk,
    write_ext4,
    write_swap,
    write_table,
)
from debian_tree import ESP_SERIAL, MACHINE_ID, ROOT_UUID, SWAP_UUID, log, run

# A separate tree: its kernel hooks differ. binutils' objcopy joins the image, as Debian 12 has no ukify.
PACKAGES = [*debian_tree.PACKAGES, "systemd-boot", "extlinux", "syslinux-common"]

# Kernel and initramfs, and room for a copy of an image that holds both.
LOADER_ESP_BYTES = 192 * MIB
CONSOLE = "console=tty0 console=ttyS0,115200n8"
EFI_FILES = "usr/lib/systemd/boot/efi"


def kernel(tree: Path) -> tuple[str, Path, Path]:
    """The version, the kernel and the initramfs of a tree."""
    (image,) = (tree / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    return version, image, tree / f"boot/initrd.img-{version}"


def write_fat(disk: Path, start: int, length: int, files: dict[str, Path]) -> None:
    """FAT32 with these files, by their paths in it."""
    run(
        "mkfs.fat", "-F", "32", "-s", "1", "-S", str(SECTOR), "-i", ESP_SERIAL, "--offset", str(start // SECTOR),
        disk, str(length // 1024),
    )  # fmt: skip
    volume, environment = f"{disk}@@{start}", dict(os.environ, MTOOLS_SKIP_CHECK="1")
    folders = sorted({str(parent) for path in files for parent in Path(path).parents if str(parent) != "."})
    run("mmd", "-i", volume, *(f"::/{folder}" for folder in folders), env=environment)
    for path, source in files.items():
        run("mcopy", "-i", volume, source, f"::/{path}", env=environment)


def write_uefi_disk(disk: Path, length: int, tree: Path, work: Path, files: dict[str, Path]) -> None:
    """GPT: ESP with these files, ext4 root, swap."""
    root_start = MIB + LOADER_ESP_BYTES
    swap_start = length - MIB - SWAP_BYTES
    write_table(disk, [
        (TYPE_ESP, MIB, LOADER_ESP_BYTES, "esp"), (TYPE_LINUX, root_start, swap_start - root_start, "root"),
        (TYPE_SWAP, swap_start, SWAP_BYTES, "swap"),
    ])  # fmt: skip
    log("ESP")
    write_fat(disk, MIB, LOADER_ESP_BYTES, files)
    write_ext4(disk, tree, root_start, swap_start - root_start)
    write_swap(disk, work, swap_start)


def remove_grub(tree: Path) -> None:
    """Leaves no trace of GRUB in /boot; its packages stay."""
    run("rm", "-r", tree / "boot/grub")


def systemd_boot(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: ESP with systemd-boot, kernel and initramfs, ext4 root, swap. Boots by UEFI, from a SATA disk only."""
    version, image, initramfs = kernel(tree)
    entry, configuration, seed = work / "entry.conf", work / "loader.conf", work / "random-seed"
    folder = f"{MACHINE_ID}/{version}"
    entry.write_text(
        f"title      Debian\nversion    {version}\nmachine-id {MACHINE_ID}\nlinux      /{folder}/linux\n"
        f"initrd     /{folder}/initrd.img-{version}\noptions    root=/dev/sda2 ro resume=/dev/sda3 {CONSOLE}\n"
    )
    configuration.write_text("timeout 0\n")
    seed.write_bytes(bytes(range(32)))
    remove_grub(tree)
    write_uefi_disk(disk, length, tree, work, {
        "EFI/systemd/systemd-bootx64.efi": tree / EFI_FILES / "systemd-bootx64.efi",
        "loader/loader.conf": configuration, "loader/random-seed": seed,
        f"loader/entries/{MACHINE_ID}-{version}.conf": entry,
        f"{folder}/linux": image, f"{folder}/initrd.img-{version}": initramfs,
    })  # fmt: skip


def unified_kernel(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: ESP with a unified kernel image, ext4 root, swap. Boots by UEFI, by an entry of the firmware only."""
    version, image, initramfs = kernel(tree)
    command_line, name, joined = work / "cmdline", work / "uname", work / "joined.efi"
    command_line.write_text(f"root=UUID={ROOT_UUID} ro {CONSOLE}")
    name.write_text(version)
    sections = {
        ".osrel": (tree / "usr/lib/os-release", 0x20000), ".cmdline": (command_line, 0x30000), ".uname": (name, 0x38000),
        ".linux": (image, 0x2000000), ".initrd": (initramfs, 0x6000000),
    }  # fmt: skip
    words = []
    for section, (path, address) in sections.items():
        words += ["--add-section", f"{section}={path}", "--change-section-vma", f"{section}={address:#x}"]
    run("objcopy", *words, tree / EFI_FILES / "linuxx64.efi.stub", joined)
    remove_grub(tree)
    write_uefi_disk(disk, length, tree, work, {f"EFI/Linux/debian-{version}.efi": joined})


def extlinux(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: ext4 root with extlinux, swap. Boots by BIOS, from a SATA disk only."""
    swap_start = length - MIB - SWAP_BYTES
    rows = [(TYPE_LINUX, MIB, swap_start - MIB, "root", ", attrs=LegacyBIOSBootable"), (TYPE_SWAP, swap_start, SWAP_BYTES, "swap", "")]
    sfdisk(disk, ["label: gpt", f"label-id: {DISK_GUID}", "unit: sectors", "sector-size: 512"] + [
        f"start={start // SECTOR}, size={size // SECTOR}, type={kind}, uuid={PARTITION_GUID.format(number, number)}, "
        f'name="{name}"{attributes}'
        for number, (kind, start, size, name, attributes) in enumerate(rows, 1)
    ])  # fmt: skip
    version, _, _ = kernel(tree)
    fstab = tree / "etc/fstab"
    fstab.unlink()
    fstab.write_text(f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\nUUID={SWAP_UUID} none swap sw 0 0\n")
    remove_grub(tree)
    (tree / "boot/extlinux").mkdir()
    (tree / "boot/extlinux/extlinux.conf").write_text(
        f"serial 0 115200\nprompt 0\ntimeout 1\ndefault debian\nlabel debian\n  linux /boot/vmlinuz-{version}\n"
        f"  append initrd=/boot/initrd.img-{version} root=/dev/sda1 ro {CONSOLE}\n"
    )
    program, code = tree / "usr/bin/extlinux", (tree / "usr/lib/EXTLINUX/gptmbr.bin").read_bytes()
    write_ext4(disk, tree, MIB, swap_start - MIB)
    log("extlinux")
    # Its own mount namespace: mount and loop device disappear with it, however it ends.
    run("unshare", "--mount", "--propagation", "private", "sh", "-euc", """
        mkdir "$2"; loop=$(losetup --find --show --offset "$4" --sizelimit "$5" "$1")
        trap 'losetup --detach "$loop"' EXIT
        mount "$loop" "$2"; "$3" --install "$2/boot/extlinux"; umount "$2"
    """, "sh", disk, work / "mounted", program, str(MIB), str(swap_start - MIB), timeout=300)  # fmt: skip
    write_swap(disk, work, swap_start)
    with open(disk, "r+b") as out:
        out.write(code[:440])


LAYOUTS = {
    "systemd-boot": (PACKAGES, systemd_boot),
    "uki": (PACKAGES, unified_kernel),
    "extlinux": (PACKAGES, extlinux),
}
