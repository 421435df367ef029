# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders as Clonezilla and FOG write them, made from small disks by the programs that those call."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults import MIB, Skip, tool

SECTOR = 512
SWAP_UUID = "5eed0004-0000-4000-8000-000000000004"

GPT = """label: gpt
label-id: 5EED0001-0000-4000-8000-000000000001
start=2048, size=81920, type=U, name="EFI \\x22system\\x22"
start=83968, size=163840, type=L, name=root, attrs="GUID:60"
start=247808, size=16384, type=S
start=264192, size=4096, type=L
"""
MBR = """label: dos
label-id: 0x5eed0001
start=2048, size=81920, type=c, bootable
start=83968, size=163840, type=83
start=247808, size=40960, type=5
start=249856, size=16384, type=82
start=268288, size=4096, type=83
"""


@dataclass(frozen=True)
class Part:
    """A partition: the number, the places in sectors, and what is in it."""

    number: int
    start: int
    size: int
    kind: str  # vfat, ext4, swap, raw


PARTS = {
    GPT: [Part(1, 2048, 81920, "vfat"), Part(2, 83968, 163840, "ext4"), Part(3, 247808, 16384, "swap"), Part(4, 264192, 4096, "raw")],
    MBR: [Part(1, 2048, 81920, "vfat"), Part(2, 83968, 163840, "ext4"), Part(5, 249856, 16384, "swap"), Part(6, 268288, 4096, "raw")],
}  # fmt: skip
DISK_BYTES = 144 * MIB


def require() -> None:
    """Skips without the programs that make the folders."""
    for name in ("partclone.ext4", "partclone.vfat", "partclone.dd", "partclone.imager", "sfdisk", "mcopy"):
        if shutil.which(name) is None:
            raise Skip(f"there is no {name}")


def volume(folder: Path, part: Part, random: Callable[[int], bytes], byte_count: int | None = None) -> Path:
    """The content of a partition, or a shorter one, in a file of its own."""
    path = folder / f"part{part.number}"
    with path.open("wb") as made:
        made.truncate(byte_count or part.size * SECTOR)
    tree = folder / "tree"
    if not tree.exists():
        (tree / "inner").mkdir(parents=True)
        for number in range(12):
            (tree / "inner" / f"file{number}").write_bytes(random(200_000 + number * 999))
        (tree / "zeros").write_bytes(bytes(MIB))
    if part.kind == "ext4":
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", tree, path)
    elif part.kind == "vfat":
        tool("mkfs.fat", "-F", "32", "-n", "ESP", path)
        tool("mcopy", "-s", "-i", path, tree / "inner", "::/inner")
    elif part.kind == "swap":
        path.chmod(0o600)
        tool("mkswap", "-q", "-U", SWAP_UUID, "-L", "a swap", path)
    else:
        path.write_bytes(random(part.size * SECTOR))
    return path


def make_disk(folder: Path, name: str, table: str, random: Callable[[int], bytes]) -> tuple[Path, dict[int, Path]]:
    """A disk with a table and its volumes, and each volume in its own file."""
    disk = folder / name
    with disk.open("wb") as made:
        made.truncate(DISK_BYTES)
    tool("sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk, input=table)
    volumes = {}
    with disk.open("r+b") as made:
        if table is MBR:
            made.write(random(440))
            made.seek(SECTOR)
            made.write(random(2047 * SECTOR))
        for part in PARTS[table]:
            volumes[part.number] = volume(folder, part, random)
            made.seek(part.start * SECTOR)
            made.write(volumes[part.number].read_bytes())
    return disk, volumes


def dump(disk: Path, device: str) -> str:
    """`sfdisk -d`, as of a device."""
    # Behind a name that ends in a digit, sfdisk writes a "p" before the number.
    separator = "p" if disk.name[-1].isdigit() else ""
    return tool("sfdisk", "-d", disk).replace(f"{disk}{separator}", device).replace(str(disk), device)


def partclone(program: str, source: Path, target: Path, *options: str) -> None:
    """Saves a volume as Clonezilla calls partclone."""
    tool(f"partclone.{program}", *options, "-z", "10485760", "-N", "-L", os.devnull, "-s", source, "-O", target)


def packed(path: Path, command: list[str], suffix: str, split: int = 0) -> None:
    """Compresses a file by a command that writes to its standard output; cuts the result into pieces of `split` bytes."""
    done = subprocess.run([*command, str(path)], capture_output=True, check=True)
    path.unlink()
    target = path.with_name(path.name + suffix)
    if not split:
        target.write_bytes(done.stdout)
        return
    for number in range(0, len(done.stdout), split):
        piece = f".{chr(97 + number // split // 26)}{chr(97 + number // split % 26)}"
        target.with_name(target.name + piece).write_bytes(done.stdout[number : number + split])


# How each kind is saved in a variant: program of compression, suffix, pieces.
VARIANTS: dict[str, tuple[list[str], str, int]] = {
    "zst": (["zstd", "-q", "-3", "-c"], ".zst", 0),
    "gz": (["gzip", "-1", "-c"], ".gz", 300_000),
    "xz": (["xz", "-0", "-c"], ".xz", 0),
    "uncomp": (["cat"], ".uncomp", 0),
    "old": (["gzip", "-1", "-c"], ".gz", 1 << 40),  # one piece, .aa
}


def clonezilla(
    folder: Path, disk: Path, table: str, volumes: dict[int, Path], variant: str, name: str = "sda", lists_disk: bool = True
) -> Path:
    """Writes a disk into a Clonezilla folder, which may hold others already."""
    folder.mkdir(exist_ok=True)
    command, suffix, split = VARIANTS[variant]
    separator = "p" if name[-1].isdigit() else ""
    device = f"/dev/{name}{separator}"
    (folder / f"{name}-pt.sf").write_text(dump(disk, device))
    (folder / f"{name}-pt.parted").write_text(
        f"Model: ATA Fault disk (scsi)\nDisk /dev/{name}: {DISK_BYTES // SECTOR}s\n"
        "Sector size (logical/physical): 512B/512B\nPartition Table: x\n"
    )
    data = disk.read_bytes()
    (folder / f"{name}-mbr").write_bytes(data[:SECTOR])
    if table is MBR:
        (folder / f"{name}-hidden-data-after-mbr").write_bytes(data[SECTOR : 2048 * SECTOR])
    else:
        (folder / f"{name}-gpt-1st").write_bytes(data[: 34 * SECTOR])
    with (folder / "parts").open("a") as parts:
        parts.write(" ".join(f"{name}{separator}{part.number}" for part in PARTS[table] if part.kind != "swap") + "\n")
    if lists_disk:
        with (folder / "disk").open("a") as disks:
            disks.write(f"{name}\n")
    (folder / "clonezilla-img").write_text("made by a test\n")
    for part in PARTS[table]:
        partition = f"{name}{separator}{part.number}"
        if part.kind == "swap":
            (folder / f"swappt-{partition}.info").write_text(f'UUID="{SWAP_UUID}"\nLABEL="a swap"\n')
        elif part.kind == "raw" and table is MBR:
            # As Clonezilla saves contents that it does not know: bytes without a header.
            image = folder / f"{partition}.dd-ptcl-img"
            partclone("dd", volumes[part.number], image)
            packed(image, command, suffix, split)
        elif part.kind == "raw":
            shutil.copy(volumes[part.number], folder / f"{partition}.dd-img")
        else:
            image = folder / f"{partition}.{part.kind}-ptcl-img"
            partclone(part.kind, volumes[part.number], image, "-c")
            packed(image, command, suffix, split)
    return folder


def fog(folder: Path, disk: Path, table: str, volumes: dict[int, Path], compress: list[str], split: int = 0) -> Path:
    """Writes a FOG folder."""
    folder.mkdir()
    (folder / "d1.partitions").write_text(dump(disk, "/dev/sda"))
    (folder / "d1.mbr").write_bytes(disk.read_bytes()[:MIB])
    swaps = [part for part in PARTS[table] if part.kind == "swap"]
    (folder / "d1.original.swapuuids").write_text("".join(f"{part.number} {SWAP_UUID}\n" for part in swaps))
    for part in PARTS[table]:
        if part.kind == "swap":
            continue
        image = folder / f"d1p{part.number}.img"
        if part.kind == "raw":
            partclone("imager", volumes[part.number], image, "-c")
        else:
            partclone(part.kind, volumes[part.number], image, "-c", "-a0")
        packed(image, compress, "")
        if split:
            data = image.read_bytes()
            image.unlink()
            for number in range(0, len(data), split):
                image.with_name(f"{image.name}.{number // split:03}").write_bytes(data[number : number + split])
    return folder


@contextmanager
def blank(path: Path, byte_count: int) -> Iterator[Path]:
    """A file of zeros, removed at the end."""
    with path.open("wb") as made:
        made.truncate(byte_count)
    try:
        yield path
    finally:
        path.unlink()


# The MiB of the MBR's extended boot records: they are made, each in the sector before its partition.
RECORDS = (121, 130)


def differences(one: Path, other: Path, but: list[Part]) -> list[int]:
    """The MiB in which two disks differ, outside of the swap areas of `but` and of extended boot records."""
    swaps = [(part.start * SECTOR, (part.start + part.size) * SECTOR) for part in but if part.kind == "swap"]
    found = []
    with one.open("rb") as first, other.open("rb") as second:
        position = 0
        while True:
            a, b = first.read(MIB), second.read(MIB)
            if not a and not b:
                return found
            made = but == PARTS[MBR] and position // MIB in RECORDS
            if a != b and not made and not any(start <= position < end for start, end in swaps):
                found.append(position // MIB)
            position += max(len(a), len(b))
