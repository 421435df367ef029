# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems of the boot matrix: one Debian for each loader and firmware, on a disk of 4 GiB that was never booted."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import debian_layouts as layouts
import debian_loaders
import debian_tree
import matrix_initramfs
from debian_disk import (
    ESP_BYTES, MIB, SWAP_BYTES, TYPE_BIOS_BOOT, TYPE_ESP, TYPE_LINUX, TYPE_LUKS, TYPE_LVM, TYPE_SWAP, make_grub_image,
    write_bios_loader, write_ext4, write_swap, write_table,
)  # fmt: skip
from debian_layouts import HOME_UUID, put, replace, replace_fstab, replace_grub_configuration
from debian_tree import ESP_UUID, ROOT_UUID, SWAP_UUID, run, scratch_directory
from matrix import Cell
from matrix_volumes import LUKS1_UUID, MD_UUID, write_luks1, write_md

SOURCE_BYTES = 4 << 30

# All GRUB layouts with more than a plain ext4, and those that start with Secure Boot on.
MORE_PACKAGES = [*debian_tree.MORE_PACKAGES, "mdadm", "shim-signed", "grub-efi-amd64-signed"]
TYPE_RAID = "A19D880F-05FC-4D3B-A006-743F0F84911E"
# Root in LUKS or on an array keeps its size; /home takes what the target's size changes.
INSIDE_BYTES = 1800 * MIB

# What GRUB's own image needs to read the menu, and the lines of grub.cfg that load it later.
GRUB_MODULES = {
    "grub-ext4": "ext2", "grub-lvm": "lvm ext2", "grub-btrfs": "btrfs", "grub-md": "mdraid1x ext2",
    "grub-luks1": "cryptodisk luks gcry_rijndael gcry_sha256 gcry_sha1 ext2",
}  # fmt: skip
UNLOCK = f"cryptomount -u {LUKS1_UUID.replace('-', '')}\n"


def results_file() -> Path:
    """The file that the runs append their results to, one JSON object a line."""
    return Path(os.environ.get("REFORGE_MATRIX_RESULTS") or scratch_directory() / "matrix-results.jsonl")


def packages(loader: str, firmware: str) -> list[str]:
    """The packages of the system's tree."""
    if loader in ("systemd-boot", "uki", "extlinux"):
        return debian_loaders.PACKAGES
    if firmware == "secure" or loader in ("grub-lvm", "grub-btrfs", "grub-luks1", "grub-md"):
        return MORE_PACKAGES
    return debian_tree.PACKAGES


def kind_of(loader: str) -> str:
    """Below dracut and mkinitcpio is GRUB with an ext4 root."""
    return "grub-ext4" if loader in ("dracut", "mkinitcpio") else loader


@contextlib.contextmanager
def source_disk(cell: Cell) -> Iterator[Path]:
    """The disk of a cell's system, from the cache or made now; it is only read.

    systemd-boot and unified kernel images are the same whether Secure Boot is on or not.
    """
    firmware = "uefi" if cell.loader in ("systemd-boot", "uki") else cell.source
    digest = hashlib.sha256(debian_tree.configuration_key().encode())
    digest.update(debian_tree.base_key(packages(cell.loader, firmware)).encode())
    for name in ("matrix_disks", "matrix_volumes", "matrix_initramfs", "debian_disk", "debian_layouts", "debian_loaders"):
        digest.update((debian_tree.HERE / f"{name}.py").read_bytes())
    folder = scratch_directory() / "matrix"
    folder.mkdir(exist_ok=True)
    name = f"{cell.loader}-{firmware}"
    disk = folder / f"{name}-{digest.hexdigest()[:12]}.raw"
    with open(folder / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists():
            for old in folder.glob(f"{name}-????????????.raw*"):
                old.unlink()
            make_disk(disk, cell.loader, firmware)
        yield disk


def make_disk(out: Path, loader: str, firmware: str) -> None:
    """Writes the disk under a temporary name and renames it when complete."""
    partial = out.with_name(out.name + ".partial")
    with open(partial, "wb") as disk:
        disk.truncate(SOURCE_BYTES)
    with tempfile.TemporaryDirectory(prefix="matrix-disk.") as work:
        with layouts.own_tree(packages(loader, firmware), Path(work)) as tree:
            if loader in debian_loaders.LAYOUTS:
                debian_loaders.LAYOUTS[loader][1](partial, SOURCE_BYTES, tree, Path(work))
            else:
                if loader == "dracut":
                    matrix_initramfs.use_dracut(tree)
                elif loader == "mkinitcpio":
                    matrix_initramfs.use_mkinitcpio(tree)
                write_grub_disk(partial, tree, Path(work), kind_of(loader), firmware, mbr=loader == "grub-ext4")
    partial.rename(out)


# MARK: GRUB


def write_grub_disk(disk: Path, tree: Path, work: Path, kind: str, firmware: str, *, mbr: bool) -> None:
    """A disk that starts by one firmware only: place of its GRUB, system, in some /home, swap."""
    if firmware == "bios" and mbr:
        layouts.mbr(disk, SOURCE_BYTES, tree, work)
        return
    start = MIB + (MIB if firmware == "bios" else ESP_BYTES)
    swap_start = SOURCE_BYTES - MIB - SWAP_BYTES
    end = swap_start
    first = (TYPE_BIOS_BOOT, MIB, MIB, "bios") if firmware == "bios" else (TYPE_ESP, MIB, ESP_BYTES, "esp")
    if kind in ("grub-luks1", "grub-md"):
        end = start + INSIDE_BYTES
        system = (TYPE_LUKS if kind == "grub-luks1" else TYPE_RAID, start, INSIDE_BYTES, "system")
        rows = [first, system, (TYPE_LINUX, end, swap_start - end, "home"), (TYPE_SWAP, swap_start, SWAP_BYTES, "swap")]
    elif kind == "grub-lvm":
        end = SOURCE_BYTES - MIB
        rows = [first, (TYPE_LVM, start, end - start, "lvm")]
    else:
        rows = [first, (TYPE_LINUX, start, end - start, "root"), (TYPE_SWAP, swap_start, SWAP_BYTES, "swap")]
    write_table(disk, rows)
    configure(tree, kind, firmware)
    write_loader(disk, tree, work, kind, firmware)
    write_system(disk, tree, work, kind, (start, end), swap_start)


def configure(tree: Path, kind: str, firmware: str) -> None:
    """Adapts fstab, crypttab, mdadm.conf and GRUB's configuration."""
    root = {
        "grub-ext4": f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1", "grub-md": f"UUID={ROOT_UUID} / ext4 defaults 0 1",
        "grub-lvm": "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1",
        "grub-luks1": "/dev/mapper/root_crypt / ext4 errors=remount-ro 0 1",
        "grub-btrfs": f"UUID={ROOT_UUID} / btrfs defaults,subvol=@ 0 0",
    }[kind]  # fmt: skip
    home = {
        "grub-btrfs": [f"UUID={ROOT_UUID} /home btrfs defaults,subvol=@home 0 0"],
        "grub-lvm": ["/dev/mapper/vg0-home /home ext4 defaults 0 2"], "grub-ext4": [],
    }.get(kind, [f"UUID={HOME_UUID} /home ext4 defaults 0 2"])  # fmt: skip
    esp = [] if firmware == "bios" else [f"UUID={ESP_UUID} /boot/efi vfat umask=0077 0 1"]
    swap = "/dev/mapper/vg0-swap" if kind == "grub-lvm" else f"UUID={SWAP_UUID}"
    replace_fstab(tree, root, *home, *esp, f"{swap} none swap sw 0 0")
    insmods = "".join(f"insmod {name}\n\t" for name in GRUB_MODULES[kind].split()).rstrip()
    changes = [("insmod ext2", insmods)]
    if kind == "grub-lvm":
        changes.append((rf"root=UUID={ROOT_UUID}", "root=/dev/mapper/vg0-root"))
    elif kind == "grub-btrfs":
        changes += [("\t/boot/", "\t/@/boot/"), (r"(root=UUID=\S+ ro)", r"\1 rootflags=subvol=@")]
    elif kind == "grub-luks1":
        changes.append((rf"root=UUID={ROOT_UUID}", "root=/dev/mapper/root_crypt"))
        replace(tree, "etc/crypttab", f"root_crypt UUID={LUKS1_UUID} /etc/keys/root.key luks,discard\n")
        (tree / "etc/keys").mkdir(mode=0o700)
        replace(tree, "etc/keys/root.key", matrix_initramfs.LUKS_PASSPHRASE)
        (tree / "etc/keys/root.key").chmod(0o600)
        replace(tree, "etc/cryptsetup-initramfs/conf-hook", 'KEYFILE_PATTERN="/etc/keys/*.key"\nUMASK=0077\n')
        defaults = (tree / "etc/default/grub").read_text()
        replace(tree, "etc/default/grub", defaults + "GRUB_ENABLE_CRYPTODISK=y\n")
        matrix_initramfs.add_key(tree, LUKS1_UUID)
    elif kind == "grub-md":
        matrix_initramfs.add_array(tree, MD_UUID)
    replace_grub_configuration(tree, changes)


def write_loader(disk: Path, tree: Path, work: Path, kind: str, firmware: str) -> None:
    """GRUB for one firmware: in the gap, or on the ESP, with a shim where Secure Boot is on; no fallback loader."""
    modules, folder = GRUB_MODULES[kind], "/@/boot/grub" if kind == "grub-btrfs" else "/boot/grub"
    unlock = UNLOCK if kind == "grub-luks1" else ""
    if firmware == "bios":
        device = {
            "grub-lvm": "lvm/vg0-root", "grub-md": f"mduuid/{MD_UUID.replace('-', '')}",
            "grub-luks1": f"cryptouuid/{LUKS1_UUID.replace('-', '')}",
        }.get(kind, ",gpt2")  # fmt: skip
        write_bios_loader(
            disk, tree, work, MIB, MIB, prefix=f"({device}){folder}", modules=f"part_gpt {modules}",
            early=unlock + f"set root='{device}'\nset prefix=({device}){folder}\n" if unlock else None,
        )  # fmt: skip
        return
    early = f"{unlock}search.fs_uuid {ROOT_UUID} root\nset prefix=($root)'{folder}'\n"
    configuration = work / "grub.cfg"
    configuration.write_text(early + "configfile $prefix/grub.cfg\n")
    files = {"EFI/debian/grub.cfg": configuration}
    if firmware == "secure":
        files["EFI/debian/shimx64.efi"] = tree / "usr/lib/shim/shimx64.efi.signed"
        files["EFI/debian/mmx64.efi"] = tree / "usr/lib/shim/mmx64.efi.signed"
        files["EFI/debian/grubx64.efi"] = tree / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    else:
        loader = work / "grubx64.efi"
        make_grub_image(
            tree, "x86_64-efi", loader, "/EFI/debian", f"part_gpt {modules} search_fs_uuid normal configfile fat", early
        )
        files["EFI/debian/grubx64.efi"] = loader
    debian_loaders.write_fat(disk, MIB, ESP_BYTES, files)


def write_system(disk: Path, tree: Path, work: Path, kind: str, place: tuple[int, int], swap_start: int) -> None:
    """The filesystems of the system, /home and swap."""
    start, end = place
    if kind == "grub-lvm":
        group = work / "group"
        with open(group, "wb") as handle:
            handle.truncate(end - start)
        layouts.write_volumes(group, tree, work)
        put(group, disk, start)
        return
    if kind == "grub-btrfs":
        put(layouts.make_btrfs(end - start, tree, work), disk, start)
    elif kind == "grub-ext4":
        write_ext4(disk, tree, start, end - start)
    else:
        home = layouts.take_out(tree, "home", work / "home")
        content = work / "content"
        write = write_luks1 if kind == "grub-luks1" else write_md
        put(write(content, tree, work, end - start), disk, start)
        write_ext4(disk, home, end, swap_start - end, HOME_UUID)
        shutil.rmtree(home)
    write_swap(disk, work, swap_start)
