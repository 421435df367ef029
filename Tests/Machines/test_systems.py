"""Whole systems in common layouts, each restored by the medium onto a larger and a smaller disk on another controller.
The Debians are booted there; a disk in the layout of Windows is checked byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian_layouts import LUKS_KEY_BYTES
from lab import HERE, MIB, PROJECT, Context, copy_sparse, expect, expect_whole, full_only, note, partition, run, sha256, time_limit
from machine import Disk
from test_restore import PANIC, RESTORE_TIMEOUT, TARGET_SERIAL, medium, restore_settings
from test_sizes import hash_of, partition_file

# These layouts wait for more services and devices than the plain one.
BOOT_TIMEOUT = 600


@dataclass(frozen=True)
class System:
    """One Debian: its layout, its firmware, and the sizes of its disks."""

    layout: str
    firmware: str
    mebibytes: int
    smaller: int | None
    larger: int
    esp: bool = True
    settings: dict[str, str] = field(default_factory=dict)

    def disk(self, ctx: Context) -> Path:
        """The disk, never booted."""

        def make() -> Path:
            path = ctx.workdir / f"{self.layout}.raw"
            run(HERE / "make-debian-disk", path, "--layout", self.layout, "--size", f"{self.mebibytes}M", timeout=900)
            return path

        return ctx.shared.once(f"disk {self.layout}", make)

    def image(self, ctx: Context) -> Path:
        """The image of the disk."""

        def make() -> Path:
            ctx.binary  # skips before the source is made
            image = ctx.workdir / f"{self.layout}.img.zst"
            ctx.reforge("capture", self.disk(ctx), image, "--overwrite")
            return image

        return ctx.shared.once(f"image {self.layout}", make)


MBR = System("mbr", "bios", 3072, smaller=2400, larger=5120, esp=False, settings={"layout": "proportional"})
BTRFS = System("btrfs", "uefi", 3072, smaller=2300, larger=5120)
LVM = System("lvm", "bios", 3072, smaller=2100, larger=4096)
# Without its key a LUKS container does not shrink, and the group inside keeps its size.
LUKS = System("luks", "uefi", 2700, smaller=2100, larger=3500)
LUKS_KEY = {"luks-key": "LABEL=IMAGES:/key"}


def restored(ctx: Context, images: Path, mebibytes: int, *, firmware: str, settings: dict[str, str]) -> tuple[Path, str, Path]:
    """Restores by the medium, unattended, from a disk with system.img.zst, which is deleted afterwards.

    Gives the target, the console's text, and the firmware's variables.
    """
    target = ctx.blank_disk(f"target-{mebibytes}.raw", mebibytes * MIB)
    nvram = ctx.folder / f"nvram-{mebibytes}.fd"
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    wanted = restore_settings("LABEL=IMAGES:/system.img.zst", **settings)
    with medium(ctx, f"restore-{mebibytes}", wanted, disks, firmware=firmware, nvram=nvram) as machine:
        seconds = machine.wait_for_exit(RESTORE_TIMEOUT, unless=PANIC)
        said = machine.text()
    images.unlink()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-3000:]}")
    note(f"restored onto {mebibytes} MiB in {seconds:.0f} s from power-on")
    return target, said, nvram


def expect_boots(ctx: Context, system: System, mebibytes: int, images: Path | None = None, **settings: str) -> Any:
    """Restores a system onto a disk of that length and boots it there; gives its proof."""
    target, _, nvram = restored(
        ctx, images or ctx.images_disk(system=system.image(ctx)), mebibytes, firmware=system.firmware,
        settings=system.settings | settings,
    )  # fmt: skip
    used = nvram if system.firmware == "uefi" else None
    proof = ctx.boot_and_prove(f"boot-{mebibytes}", target, "nvme", system.firmware, nvram=used, timeout=BOOT_TIMEOUT)
    expect_whole(proof, firmware=system.firmware, bus="nvme", esp=system.esp)
    note(
        f"booted by {system.firmware} in {proof.seconds:.0f} s: root {proof['root-device']}{proof['root-path']} of "
        f"{proof.number('root-size') // MIB} MiB, /home {proof['home']} of {proof.number('home-size') // MIB} MiB"
    )
    target.unlink()
    return proof


def expect_another_size(ctx: Context, system: System, mebibytes: int) -> Any:
    """Restores and boots as `expect_boots`, and checks that the root grew or shrank with its disk."""
    before = root_bytes(system.disk(ctx), system)
    proof = expect_boots(ctx, system, mebibytes)
    after = proof.number("root-size")
    larger = mebibytes > system.mebibytes
    expect((after > before) == larger and after != before, f"a root of {before} bytes became one of {after}")
    return proof


def root_bytes(disk: Path, system: System) -> int:
    """The length in bytes of the root's partition."""
    number = {"mbr": 0, "btrfs": 1}[system.layout]
    return int(json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"][number]["size"]) * 512


# MARK: Debian


def expect_logical(proof: Any) -> None:
    """Fails unless /home is on a logical partition."""
    expect(proof["home"].endswith("p5"), f"/home is on {proof['home']}")


@time_limit(1500)
def test_mbr_with_logical_partitions_smaller(ctx: Context) -> None:
    """ext4 on a primary partition shrinks, /home and swap on logical ones move; it boots by BIOS."""
    expect_logical(expect_another_size(ctx, MBR, MBR.smaller or 0))


@full_only
@time_limit(1500)
def test_mbr_with_logical_partitions_larger(ctx: Context) -> None:
    """Both filesystems grow, each by its share."""
    proof = expect_another_size(ctx, MBR, MBR.larger)
    expect_logical(proof)
    expect(proof.number("home-size") > 320 * MIB, f"/home has {proof.number('home-size')} bytes")


def expect_subvolumes(proof: Any) -> None:
    """Fails unless root and /home are subvolumes of one filesystem."""
    expect(proof["root-path"] == "/@", f"the root is {proof['root-path']}")
    expect("subvol=/@" in proof["root-options"], f"the root has the options {proof['root-options']}")
    expect(proof["home"] == proof["root-device"], f"/home is on {proof['home']}")


@full_only
@time_limit(1500)
def test_btrfs_subvolumes_smaller(ctx: Context) -> None:
    """The filesystem shrinks, and the subvolume @ boots by UEFI."""
    expect_subvolumes(expect_another_size(ctx, BTRFS, BTRFS.smaller or 0))


@full_only
@time_limit(1500)
def test_btrfs_subvolumes_larger(ctx: Context) -> None:
    """The filesystem grows."""
    expect_subvolumes(expect_another_size(ctx, BTRFS, BTRFS.larger))


VOLUME_MIB = 1600


def expect_volumes(proof: Any) -> int:
    """Fails unless root and /home are logical volumes; gives the length of the root in MiB."""
    expect(proof["root-device"] == "/dev/mapper/vg0-root", f"the root is {proof['root-device']}")
    expect(proof["home"] == "/dev/mapper/vg0-home", f"/home is on {proof['home']}")
    return proof.number("root-size") // MIB


@full_only
@time_limit(1800)
def test_lvm_larger(ctx: Context) -> None:
    """Root, /home and swap are logical volumes; the root grows with the group; it boots by BIOS."""
    expect(expect_volumes(expect_boots(ctx, LVM, LVM.larger)) > VOLUME_MIB, "the root has not grown")


@full_only
@time_limit(1800)
def test_lvm_smaller(ctx: Context) -> None:
    """The group has no room for all volumes: the root shrinks."""
    expect(expect_volumes(expect_boots(ctx, LVM, LVM.smaller or 0)) < VOLUME_MIB, "the root has not shrunk")


@full_only
@time_limit(1800)
def test_luks_with_lvm_larger(ctx: Context) -> None:
    """A group inside LUKS, restored without the key: the root keeps its size. /boot is outside; it boots by UEFI."""
    proof = expect_boots(ctx, LUKS, LUKS.larger)
    expect(expect_volumes(proof) == VOLUME_MIB, "the root inside of LUKS has another size")
    expect(proof["boot"].endswith("p3 ext4"), f"/boot is on {proof['boot']}")


def luks_images(ctx: Context) -> Path:
    """A disk labelled IMAGES with the key, and with the medium's capture by that key: used sectors, as ciphertext."""

    def make() -> Path:
        folder = ctx.workdir / "luks-key"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "key").write_bytes(LUKS_KEY_BYTES)
        images = ctx.workdir / "luks-images.raw"
        run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "IMAGES", "-d", folder, images, f"{LUKS.mebibytes}M")
        shutil.rmtree(folder)
        # A copy: while this machine holds its disk, another test may capture the shared one.
        source = copy_sparse(LUKS.disk(ctx), ctx.workdir / "luks-source.raw")
        disks = [Disk(source, "virtio", "SOURCE"), Disk(images, "virtio", "IMAGES")]
        wanted = {"capture": "serial=SOURCE", "to": "LABEL=IMAGES:/system.img.zst", "finish": "poweroff", **LUKS_KEY}
        before = sha256(source)
        with medium(ctx, "capture-luks", wanted, disks) as machine:
            seconds = machine.wait_for_exit(RESTORE_TIMEOUT, unless=PANIC)
            said = machine.text()
        expect("REFORGE-RESULT exit=0" in said, f"the capture ended otherwise\n{said[-3000:]}")
        expect(sha256(source) == before, "the source was written")
        source.unlink()
        length = int(run("debugfs", "-R", "stat /system.img.zst", images).split("Size: ")[1].split()[0])
        note(f"captured with the key in {seconds:.0f} s from power-on: {length // MIB} MiB of {LUKS.mebibytes}")
        # Some 2 GiB of ciphertext, which does not compress.
        expect(length < 1400 * MIB, "more was captured than is in use")
        return images

    return copy_sparse(ctx.shared.once("luks images", make), ctx.folder / "images.raw")


@full_only
@time_limit(2400)
def test_luks_with_lvm_and_its_key_smaller(ctx: Context) -> None:
    """Captured and restored with the key: the root in the group inside LUKS shrinks; it boots by UEFI."""
    root = expect_volumes(expect_boots(ctx, LUKS, LUKS.smaller or 0, luks_images(ctx), **LUKS_KEY))
    expect(root < VOLUME_MIB, "the root has not shrunk")


@full_only
@time_limit(2400)
def test_luks_with_lvm_and_its_key_larger(ctx: Context) -> None:
    """Captured and restored with the key onto a larger disk: the root grows."""
    root = expect_volumes(expect_boots(ctx, LUKS, LUKS.larger, luks_images(ctx), **LUKS_KEY))
    expect(root > VOLUME_MIB, "the root has not grown")


# MARK: Windows

ESP_FILES = ["EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Microsoft/Boot/BCD", "EFI/Boot/bootx64.efi"]
HIVES = PROJECT / "Tests/WindowsFilesTests/hives.py"
RECOVERY_FILES = ["winre.wim", "ReAgent.xml"]
WINDOWS_MIB = 1500
# Type, start and length in MiB, name, attributes as sfdisk has them: required, no drive letter.
WINDOWS = [
    ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 1, 100, "EFI system partition", "GUID:63"),
    ("E3C9E316-0B5C-4DB8-817D-F92DF00215AE", 101, 16, "Microsoft reserved partition", "GUID:63"),
    ("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", 117, 1000, "Basic data partition", ""),
    ("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", 1117, 300, "", "RequiredPartition GUID:63"),
]


def windows_disk(ctx: Context) -> tuple[Path, dict[str, str]]:
    """A disk in the layout of Windows' setup, and the hashes of its files by `number/name`."""

    def make() -> tuple[Path, dict[str, str]]:
        folder = ctx.workdir / "windows"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        disk, part, content = folder / "windows.raw", folder / "part", folder / "content"
        with open(disk, "wb") as handle:
            handle.truncate(WINDOWS_MIB * MIB)
        disk_id, *ids = [str(uuid.UUID(int=ctx.random.getrandbits(128))) for _ in range(5)]
        lines = ["label: gpt", f"label-id: {disk_id}"]
        for own_id, (kind, start, length, name, attributes) in zip(ids, WINDOWS):
            line = f"start={start * 2048}, size={length * 2048}, type={kind}, uuid={own_id}"
            line += f', name="{name}"' if name else ""
            lines.append(line + (f', attrs="{attributes}"' if attributes else ""))
        partition(disk, "\n".join(lines) + "\n")
        hashes: dict[str, str] = {}

        def write_content(number: int, name: str, length: int) -> None:
            data = ctx.random.randbytes(length)
            if name.endswith(".efi"):
                # On a real disk, both files are the boot manager.
                data = hashlib.sha256(b"boot manager").digest() * 4096 + "bootmgfw.efi".encode("utf-16-le")
            content.write_bytes(data)
            if name.endswith("/BCD"):
                # hivex is the distribution's Python's.
                run("/usr/bin/python3", HIVES, "boot", content, disk_id, ids[0], ids[2])
                data = content.read_bytes()
            hashes[f"{number}/{name}"] = hashlib.sha256(data).hexdigest()

        for number, (_, start, length, _, _) in enumerate(WINDOWS, 1):
            if number == 2:
                continue
            part.unlink(missing_ok=True)
            with open(part, "wb") as handle:
                handle.truncate(length * MIB)
            if number == 1:
                run("mkfs.fat", "-F", "32", "-h", str(start * 2048), part)
                run("mmd", "-i", part, "::/EFI", "::/EFI/Microsoft", "::/EFI/Microsoft/Boot", "::/EFI/Boot")
                for name in ESP_FILES:
                    write_content(number, name, 28672)
                    run("mcopy", "-i", part, content, f"::/{name}")
            else:
                run("mkntfs", "-q", "-F", "-Q", "-p", str(start * 2048), "-H", "255", "-S", "63", part)
                names = [f"file{index}" for index in range(30)] if number == 3 else RECOVERY_FILES
                for index, name in enumerate(names):
                    write_content(number, name, (index % 8 + 1) * MIB + index * 777)
                    run("ntfscp", "-q", part, content, name)
            run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
        part.unlink()
        return disk, hashes

    return ctx.shared.once("windows disk", make)


def windows_image(ctx: Context) -> Path:
    """The image of `windows_disk`."""

    def make() -> Path:
        image = ctx.workdir / "windows.img.zst"
        ctx.reforge("capture", windows_disk(ctx)[0], image, "--overwrite")
        return image

    return ctx.shared.once("windows image", make)


def identities(disk: Path) -> tuple[str, list[tuple[str, ...]]]:
    """The identifiers that Windows' boot configuration and drive letters use.

    Gives the disk's GUID, and number, type, GUID, name and attributes of each partition.
    """
    table = json.loads(run("sfdisk", "-J", disk))["partitiontable"]
    fields = ("type", "uuid", "name", "attrs")
    rows = [
        (part["node"].rsplit("raw", 1)[1], *(part.get(name, "") for name in fields)) for part in table["partitions"]
    ]
    return table["id"], rows


def expect_windows(ctx: Context, target: Path) -> None:
    """Checks that ids, attributes, files and boot sectors are unchanged."""
    source, hashes = windows_disk(ctx)
    run("sgdisk", "--verify", target)
    expect(identities(target) == identities(source), f"{identities(target)} is not {identities(source)}")
    table = json.loads(run("sfdisk", "-J", target))["partitiontable"]["partitions"]
    lengths = [part["size"] // 2048 for part in table]
    expect(lengths[:2] == [100, 16] and lengths[3] == 300, f"another partition was resized: {lengths}")
    for number in (1, 3, 4):
        part, original = partition_file(ctx, target, number), partition_file(ctx, source, number)
        start = table[number - 1]["start"]
        names = [name.partition("/")[2] for name in hashes if name.startswith(f"{number}/")]
        first = part.read_bytes()[:512]
        serial = slice(0x48, 0x50) if number > 1 else slice(0x43, 0x47)
        expect(first[serial] == original.read_bytes()[:512][serial], f"partition {number} has another serial number")
        hidden = int.from_bytes(first[0x1C:0x20], "little")
        expect(hidden == start, f"partition {number} at sector {start} has {hidden} hidden sectors")
        if number > 1:
            # Windows expects it in the partition's last sector, after those that the volume counts.
            with open(part, "rb") as handle:
                handle.seek(-512, 2)
                expect(handle.read(512) == first, f"the backup boot sector of partition {number} differs")
            # --force: a resized NTFS is marked for a check by Windows, which is no damage.
            run("ntfsresize", "--info", "--force", "--no-progress-bar", part)
            run("ntfsfix", "--no-action", part)
        else:
            run("fsck.fat", "-n", part)
        for name in names:
            command = ["ntfscat", "-f", part, name] if number > 1 else ["mtype", "-i", part, f"::/{name}"]
            expect(hash_of(command) == hashes[f"{number}/{name}"], f"{number}: {name} has changed")
        part.unlink()
        original.unlink()
    note(f"partitions in MiB: {lengths}, {len(hashes)} files")


@time_limit(900)
def test_windows_smaller(ctx: Context) -> None:
    """The system's NTFS shrinks, and the recovery partition after it moves."""
    target, said, _ = restored(ctx, ctx.images_disk(system=windows_image(ctx)), 1100, firmware="uefi", settings={})
    expect_windows(ctx, target)
    expect("\\EFI\\BOOT\\BOOTX64.EFI" in said, f"boot repair does not mention the fallback loader\n{said[-2000:]}")


@full_only
@time_limit(900)
def test_windows_larger(ctx: Context) -> None:
    """The system's NTFS grows, and the recovery partition after it moves."""
    target, _, _ = restored(ctx, ctx.images_disk(system=windows_image(ctx)), 2600, firmware="uefi", settings={"partition": "3=rest"})
    expect_windows(ctx, target)
