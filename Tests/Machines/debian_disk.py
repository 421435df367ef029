"""The parts of a Debian disk, written at their offsets into a raw file: no loop devices, no mounts of vfat."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from debian_tree import ESP_SERIAL, ROOT_UUID, SWAP_UUID, log, run

SECTOR = 512
MIB = 1 << 20
ESP_BYTES = 64 * MIB
SWAP_BYTES = 256 * MIB

DISK_GUID = "5EED0000-0000-4000-8000-000000000000"
DISK_SIGNATURE = "0x5eed0001"
PARTITION_GUID = "5EED000{}-0000-4000-8000-00000000000{}"
TYPE_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
TYPE_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
TYPE_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
TYPE_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
TYPE_LUKS = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
TYPE_LVM = "E6D6D379-F507-44C2-A23C-238F2A3DF928"


def sfdisk(disk: Path, lines: list[str]) -> None:
    """Has sfdisk write a table."""
    done = subprocess.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"sfdisk: {done.stdout}{done.stderr}")


def write_table(disk: Path, partitions: list[tuple[str, int, int, str]]) -> None:
    """Writes a GPT with fixed GUIDs; each partition is given by type, start, length and name."""
    lines = ["label: gpt", f"label-id: {DISK_GUID}", "unit: sectors", "sector-size: 512"]
    for number, (kind, start, length, name) in enumerate(partitions, 1):
        guid = PARTITION_GUID.format(number, number)
        lines.append(f'start={start // SECTOR}, size={length // SECTOR}, type={kind}, uuid={guid}, name="{name}"')
    sfdisk(disk, lines)


def make_grub_image(tree: Path, target: str, out: Path, prefix: str, modules: str, early: str | None = None) -> None:
    """Runs the tree's own grub-mkimage, so that loader and modules have one version."""
    inside = tree / "tmp"
    early_file = inside / "early.cfg"
    result = inside / "grub.img"
    command = ["chroot", str(tree), "grub-mkimage", "-O", target, "-o", "/tmp/grub.img", "-p", prefix]
    try:
        if early is not None:
            early_file.write_text(early)
            command += ["-c", "/tmp/early.cfg"]
        run(*command, *modules.split())
        out.write_bytes(result.read_bytes())
    finally:
        early_file.unlink(missing_ok=True)
        result.unlink(missing_ok=True)


def write_esp(
    disk: Path, tree: Path, work: Path, start: int, *, fallback_loader: bool = False, modules: str = "ext2",
    uuid: str = ROOT_UUID, folder: str = "/boot/grub",
) -> None:  # fmt: skip
    """FAT32 with GRUB as Debian's grub-install places it for x86_64-efi, without shim.

    GRUB's files are in `folder` of the filesystem `uuid`; reading that filesystem needs `modules`.
    """
    search = f"search.fs_uuid {uuid} root\nset prefix=($root)'{folder}'\n"
    loader = work / "grubx64.efi"
    make_grub_image(
        tree, "x86_64-efi", loader, "/EFI/debian", f"part_gpt {modules} search_fs_uuid normal configfile fat", search
    )
    configuration = work / "grub.cfg"
    configuration.write_text(search + "configfile $prefix/grub.cfg\n")
    # One sector per cluster: FAT32 needs 65,525 clusters.
    run(
        "mkfs.fat", "-F", "32", "-s", "1", "-S", str(SECTOR), "-i", ESP_SERIAL, "--offset", str(start // SECTOR),
        disk, str(ESP_BYTES // 1024),
    )  # fmt: skip
    volume = f"{disk}@@{start}"
    environment = dict(os.environ, MTOOLS_SKIP_CHECK="1")
    run("mmd", "-i", volume, "::/EFI", "::/EFI/debian", env=environment)
    run("mcopy", "-i", volume, loader, configuration, "::/EFI/debian/", env=environment)
    if fallback_loader:
        run("mmd", "-i", volume, "::/EFI/BOOT", env=environment)
        run("mcopy", "-i", volume, loader, "::/EFI/BOOT/BOOTX64.EFI", env=environment)


def write_ext4(disk: Path, files: Path, start: int, length: int, uuid: str = ROOT_UUID) -> None:
    """ext4 with Debian's default features, filled by mke2fs itself."""
    log("ext4")
    run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-U", uuid, "-d", files,
        "-E", f"offset={start},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        disk, f"{length // 1024}k", timeout=300,
    )  # fmt: skip


def write_swap(disk: Path, work: Path, start: int, length: int = SWAP_BYTES) -> None:
    """Copies the swap header from a file of the same size: mkswap has no offset option."""
    area = work / "swap"
    with open(area, "wb") as handle:
        handle.truncate(length)
    area.chmod(0o600)
    run("mkswap", "--uuid", SWAP_UUID, area)
    with open(area, "rb") as handle, open(disk, "r+b") as out:
        out.seek(start)
        out.write(handle.read(4096))


def write_bios_loader(
    disk: Path, tree: Path, work: Path, core_start: int, room: int, *, prefix: str = "(,gpt3)/boot/grub",
    modules: str = "part_gpt ext2", early: str | None = None,
) -> None:  # fmt: skip
    """Installs GRUB like grub-install for i386-pc: core.img at `core_start`, boot.img in sector 0."""
    core_file = work / "core.img"
    make_grub_image(tree, "i386-pc", core_file, prefix, f"biosdisk {modules}", early)
    core = bytearray(core_file.read_bytes())
    core += bytes(-len(core) % SECTOR)
    if len(core) > room:
        raise RuntimeError(f"core.img has {len(core)} bytes: too many for {room}")
    first = core_start // SECTOR
    # The block list at the end of core.img's first sector: sector and length of the rest, and its load segment.
    struct.pack_into("<QHH", core, SECTOR - 12, first + 1, len(core) // SECTOR - 1, 0x820)

    boot = bytearray((tree / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", boot, 0x5C, first)
    boot[0x64] = 0xFF  # boot drive: the one the firmware started from
    boot[0x66:0x68] = b"\x90\x90"  # no floppy probing, like grub-install for disks
    with open(disk, "r+b") as out:
        out.write(boot[:440])  # keeps the disk signature and the table after it
        out.seek(core_start)
        out.write(core)
