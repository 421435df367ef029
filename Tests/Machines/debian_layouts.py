"""The disk layouts of make-debian-disk: the place of each part, and the configuration of the system that names it.

Each layout is a function (disk file, its length in bytes, tree, folder for temporary files). The tree is a copy by hard
links: its files are replaced, never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import debian_loaders
import debian_tree
from debian_disk import (
    ESP_BYTES,
    MIB,
    SECTOR,
    SWAP_BYTES,
    DISK_SIGNATURE,
    TYPE_BIOS_BOOT,
    TYPE_ESP,
    TYPE_LINUX,
    TYPE_LUKS,
    TYPE_LVM,
    TYPE_SWAP,
    sfdisk,
    write_bios_loader,
    write_esp,
    write_ext4,
    write_swap,
    write_table,
)
from debian_tree import ESP_UUID, ROOT_UUID, SWAP_UUID, log, run

HOME_UUID = "5eed0006-0000-4000-8000-000000000006"
BOOT_UUID = "5eed0007-0000-4000-8000-000000000007"
HOME_BYTES = 320 * MIB

Layout = Callable[[Path, int, Path, Path], None]


def replace(tree: Path, path: str, text: str) -> None:
    """Replaces a file that may be a hard link into the cached tree."""
    (tree / path).unlink(missing_ok=True)
    (tree / path).write_text(text)


def replace_fstab(tree: Path, *entries: str) -> None:
    """Replaces the system's /etc/fstab."""
    replace(tree, "etc/fstab", "".join(f"{entry}\n" for entry in entries))


def replace_grub_configuration(tree: Path, substitutions: list[tuple[str, str]]) -> None:
    """Adapts grub.cfg to the layout by substitutions in what update-grub wrote for the plain one."""
    path = "boot/grub/grub.cfg"
    text = (tree / path).read_text()
    for pattern, by in substitutions:
        text, count = re.subn(pattern, by, text)
        if not count:
            raise RuntimeError(f"grub.cfg has no {pattern!r}")
    replace(tree, path, text)


def take_out(tree: Path, path: str, to: Path) -> Path:
    """Moves a folder out of the tree and leaves an empty mount point."""
    shutil.move(tree / path, to)
    (tree / path).mkdir()
    return to


def put(place: Path, disk: Path, start: int) -> None:
    """Moves a partition from its own file into the disk."""
    run("dd", f"if={place}", f"of={disk}", "bs=1M", f"seek={start // MIB}", "conv=notrunc,sparse", "status=none")
    place.unlink()


# MARK: the layouts


def plain(disk: Path, length: int, tree: Path, work: Path, *, fallback_loader: bool = False) -> None:
    """GPT: BIOS boot partition, ESP, ext4 root, swap at the end. Boots by BIOS and UEFI."""
    root_start = 2 * MIB + ESP_BYTES
    # The last partition ends on a MiB boundary, like those of partitioning tools: the backup table needs 33 sectors.
    swap_start = length - MIB - SWAP_BYTES
    write_table(disk, [
        (TYPE_BIOS_BOOT, MIB, MIB, "bios"),
        (TYPE_ESP, 2 * MIB, ESP_BYTES, "esp"),
        (TYPE_LINUX, root_start, swap_start - root_start, "root"),
        (TYPE_SWAP, swap_start, SWAP_BYTES, "swap"),
    ])  # fmt: skip
    write_esp(disk, tree, work, 2 * MIB, fallback_loader=fallback_loader)
    write_ext4(disk, tree, root_start, swap_start - root_start)
    write_swap(disk, work, swap_start)
    write_bios_loader(disk, tree, work, MIB, MIB)


def ahci_only(disk: Path, length: int, tree: Path, work: Path) -> None:
    """As plain, with an initramfs for AHCI alone, as MODULES=dep makes it on such a machine: it does not start from
    another controller.
    """
    version, _, initramfs = debian_loaders.kernel(tree)
    # A hard link into the cached tree.
    initramfs.unlink()
    modules = "ahci\\nsd_mod\\next4\\n"
    debian_tree.in_chroot(tree, f"""
        cp -a /etc/initramfs-tools /tmp/only
        sed -i 's/^MODULES=.*/MODULES=list/' /tmp/only/initramfs.conf
        printf '{modules}' >/tmp/only/modules
        mkinitramfs -d /tmp/only -o /boot/initrd.img-{version} {version}
        rm -r /tmp/only
    """)
    configuration = (tree / "etc/initramfs-tools/initramfs.conf").read_text()
    replace(
        tree, "etc/initramfs-tools/initramfs.conf",
        re.sub("^MODULES=.*", "MODULES=dep", configuration, flags=re.MULTILINE),
    )  # fmt: skip
    plain(disk, length, tree, work)


def mbr(disk: Path, length: int, tree: Path, work: Path) -> None:
    """MBR: ext4 root, and ext4 /home and swap as logical partitions. Boots by BIOS, with core.img after the MBR."""
    swap_start = length - SWAP_BYTES
    home_start = swap_start - MIB - HOME_BYTES
    extended_start = home_start - MIB
    root_length = extended_start - MIB
    rows = [(MIB, root_length, "83, bootable"), (extended_start, length - extended_start, "5")]
    rows += [(home_start, HOME_BYTES, "83"), (swap_start, SWAP_BYTES, "82")]
    sfdisk(disk, ["label: dos", f"label-id: {DISK_SIGNATURE}"] + [
        f"start={start // SECTOR}, size={size // SECTOR}, type={kind}" for start, size, kind in rows
    ])  # fmt: skip
    replace_fstab(
        tree, f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1", f"UUID={HOME_UUID} /home ext4 defaults 0 2",
        f"UUID={SWAP_UUID} none swap sw 0 0",
    )  # fmt: skip
    home = take_out(tree, "home", work / "home")
    write_ext4(disk, tree, MIB, root_length)
    write_ext4(disk, home, home_start, HOME_BYTES, HOME_UUID)
    write_swap(disk, work, swap_start)
    write_bios_loader(
        disk, tree, work, SECTOR, MIB - SECTOR, prefix="(,msdos1)/boot/grub", modules="part_msdos ext2"
    )


def without_grub_for(tree: Path, target: str) -> None:
    """Takes GRUB for one firmware out of the system, as where only the package of the other was installed."""
    for folder in (f"usr/lib/grub/{target}", f"boot/grub/{target}"):
        shutil.rmtree(tree / folder)


def mbr_only(disk: Path, length: int, tree: Path, work: Path) -> None:
    """As `mbr`, and the system has no GRUB for UEFI. Boots by BIOS."""
    without_grub_for(tree, "x86_64-efi")
    mbr(disk, length, tree, work)


def uefi_only(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: ESP, ext4 root, swap; the system has no GRUB for BIOS. Boots by UEFI."""
    root_start = MIB + ESP_BYTES
    swap_start = length - MIB - SWAP_BYTES
    write_table(disk, [
        (TYPE_ESP, MIB, ESP_BYTES, "esp"),
        (TYPE_LINUX, root_start, swap_start - root_start, "root"),
        (TYPE_SWAP, swap_start, SWAP_BYTES, "swap"),
    ])  # fmt: skip
    write_esp(disk, tree, work, MIB)
    without_grub_for(tree, "i386-pc")
    write_ext4(disk, tree, root_start, swap_start - root_start)
    write_swap(disk, work, swap_start)


def make_btrfs(length: int, tree: Path, work: Path) -> Path:
    """A file with Btrfs, and the system in its subvolumes @ and @home."""
    log("Btrfs")
    filesystem = work / "btrfs"
    with open(filesystem, "wb") as handle:
        handle.truncate(length)
    run("mkfs.btrfs", "-q", "-U", ROOT_UUID, filesystem)
    # Its own mount namespace: mount and loop device disappear with it, however it ends.
    run("unshare", "--mount", "--propagation", "private", "sh", "-euc", """
        mkdir "$2"; mount -o loop "$1" "$2"
        btrfs -q subvolume create "$2/@"; btrfs -q subvolume create "$2/@home"
        cp -a --sparse=always "$3/." "$2/@"; mv "$2/@/home/proof" "$2/@home"
        umount "$2"
    """, "sh", filesystem, work / "mounted", tree, timeout=300)  # fmt: skip
    return filesystem


def btrfs(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: ESP, Btrfs with the subvolumes @ and @home, swap. Boots by UEFI."""
    root_start = MIB + ESP_BYTES
    swap_start = length - MIB - SWAP_BYTES
    write_table(disk, [
        (TYPE_ESP, MIB, ESP_BYTES, "esp"),
        (TYPE_LINUX, root_start, swap_start - root_start, "root"),
        (TYPE_SWAP, swap_start, SWAP_BYTES, "swap"),
    ])  # fmt: skip
    replace_fstab(
        tree, f"UUID={ROOT_UUID} / btrfs defaults,subvol=@ 0 0", f"UUID={ROOT_UUID} /home btrfs defaults,subvol=@home 0 0",
        f"UUID={ESP_UUID} /boot/efi vfat umask=0077 0 1", f"UUID={SWAP_UUID} none swap sw 0 0",
    )  # fmt: skip
    replace_grub_configuration(tree, [
        ("insmod ext2", "insmod btrfs"), ("\t/boot/", "\t/@/boot/"), (r"(root=UUID=\S+ ro)", r"\1 rootflags=subvol=@"),
    ])  # fmt: skip
    write_esp(disk, tree, work, MIB, modules="btrfs", folder="/@/boot/grub")
    put(make_btrfs(swap_start - root_start, tree, work), disk, root_start)
    write_swap(disk, work, swap_start)


# LVM without device-mapper: commands write metadata only.
LVM_CONFIG = "devices{use_devicesfile=0} activation{activation=0} backup{backup=0 archive=0}"
# Offset of the physical volume's first extent, and length of each extent.
EXTENTS_START = MIB
EXTENT_BYTES = 4 * MIB


def write_volume_group(place: Path, volumes: list[tuple[str, int]]) -> dict[str, int]:
    """Makes a file a physical volume of the group `vg0` with these volumes in a row; gives the start of each."""
    loop = run("losetup", "--find", "--show", place).stdout.strip()
    try:

        def lvm(command: str, *words: str) -> None:
            run("lvm", command, "--driverloaded", "n", "--devices", loop, "--config", LVM_CONFIG, *words)

        lvm("pvcreate", "-q", "-ff", "-y", "--dataalignment", "1m", loop)
        lvm("vgcreate", "-q", "vg0", loop)
        starts, extent = {}, 0
        for name, length in volumes:
            count = length // EXTENT_BYTES
            # -Zn, -Wn: there is no device node to clear.
            extents = f"{loop}:{extent}-{extent + count - 1}"
            lvm("lvcreate", "-q", "-y", "-Zn", "-Wn", "-l", str(count), "-n", name, "vg0", extents)
            starts[name] = EXTENTS_START + extent * EXTENT_BYTES
            extent += count
    finally:
        run("losetup", "--detach", loop)
    return starts


LVM_FSTAB = ("/dev/mapper/vg0-home /home ext4 defaults 0 2", f"UUID={ESP_UUID} /boot/efi vfat umask=0077 0 1")
LVM_ROOT_BYTES = 1600 * MIB


def write_volumes(place: Path, tree: Path, work: Path) -> None:
    """Writes a group with root, /home and swap."""
    home = take_out(tree, "home", work / "home")
    starts = write_volume_group(place, [("root", LVM_ROOT_BYTES), ("home", HOME_BYTES), ("swap", SWAP_BYTES)])
    write_ext4(place, tree, starts["root"], LVM_ROOT_BYTES)
    write_ext4(place, home, starts["home"], HOME_BYTES, HOME_UUID)
    write_swap(place, work, starts["swap"])


def lvm(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: BIOS boot partition, ESP, physical volume with root (and /boot), /home, swap. Boots by BIOS and UEFI."""
    group_start = 2 * MIB + ESP_BYTES
    group_length = length - MIB - group_start
    write_table(disk, [
        (TYPE_BIOS_BOOT, MIB, MIB, "bios"), (TYPE_ESP, 2 * MIB, ESP_BYTES, "esp"),
        (TYPE_LVM, group_start, group_length, "lvm"),
    ])  # fmt: skip
    replace_fstab(
        tree, "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1", *LVM_FSTAB, "/dev/mapper/vg0-swap none swap sw 0 0"
    )
    replace_grub_configuration(tree, [
        ("insmod ext2", "insmod lvm\n\tinsmod ext2"), (rf"root=UUID={ROOT_UUID}", "root=/dev/mapper/vg0-root"),
    ])  # fmt: skip
    write_esp(disk, tree, work, 2 * MIB, modules="lvm ext2")
    write_bios_loader(disk, tree, work, MIB, MIB, prefix="(lvm/vg0-root)/boot/grub", modules="part_gpt lvm ext2")
    place = work / "group"
    with open(place, "wb") as handle:
        handle.truncate(group_length)
    write_volumes(place, tree, work)
    put(place, disk, group_start)


BOOT_BYTES = 160 * MIB
LUKS_UUID = "5eed0008-0000-4000-8000-000000000008"
LUKS_DATA_START = 16 * MIB
LUKS_SECTOR = 4096
LUKS_KEY_BYTES = hashlib.sha256(b"the key of a test").digest()


def write_luks(place: Path, content: Path, work: Path) -> None:
    """Encrypts a file into LUKS2."""
    volume_key, key_file, key = work / "volume-key", work / "key", hashlib.sha512(b"the volume key of a test").digest()
    volume_key.write_bytes(key)
    key_file.write_bytes(LUKS_KEY_BYTES)
    run(
        "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--uuid", LUKS_UUID, "--cipher", "aes-xts-plain64",
        "--key-size", "512", "--sector-size", str(LUKS_SECTOR), "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
        "--volume-key-file", volume_key, "--key-file", key_file, place,
    )  # fmt: skip
    with open(content, "rb") as plain_text, open(place, "r+b") as out:
        out.seek(LUKS_DATA_START)
        sector = 0
        while piece := plain_text.read(LUKS_SECTOR):
            # plain64: the sector number, in units of 512 bytes.
            tweak = sector.to_bytes(16, "little")
            out.write(Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor().update(piece))
            sector += LUKS_SECTOR // 512


def add_to_initramfs(folder: Path, files: dict[str, bytes], work: Path) -> None:
    """Appends an archive to the initramfs in a folder: the kernel unpacks both in order."""
    root = work / "initramfs"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        (root / name).chmod(0o600)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, input="\n".join(names).encode(),
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    (path,) = folder.glob("initrd.img-*")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole + bytes(-len(whole) % 4) + packed)


def luks(disk: Path, length: int, tree: Path, work: Path) -> None:
    """GPT: BIOS boot partition, ESP, /boot, LUKS with a group of root, /home and swap. Boots by BIOS and UEFI.

    The initramfs holds the key.
    """
    boot_start = 2 * MIB + ESP_BYTES
    luks_start = boot_start + BOOT_BYTES
    luks_length = length - MIB - luks_start
    write_table(disk, [
        (TYPE_BIOS_BOOT, MIB, MIB, "bios"), (TYPE_ESP, 2 * MIB, ESP_BYTES, "esp"),
        (TYPE_LINUX, boot_start, BOOT_BYTES, "boot"), (TYPE_LUKS, luks_start, luks_length, "luks"),
    ])  # fmt: skip
    replace_fstab(
        tree, "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1", f"UUID={BOOT_UUID} /boot ext4 defaults 0 2", *LVM_FSTAB,
        "/dev/mapper/vg0-swap none swap sw 0 0",
    )  # fmt: skip
    replace(tree, "etc/crypttab", f"vg0_crypt UUID={LUKS_UUID} none luks,initramfs\n")
    replace_grub_configuration(tree, [
        (ROOT_UUID, BOOT_UUID), (rf"root=UUID={BOOT_UUID}", "root=/dev/mapper/vg0-root"), ("\t/boot/", "\t/"),
    ])  # fmt: skip
    write_esp(disk, tree, work, 2 * MIB, uuid=BOOT_UUID, folder="/grub")
    write_bios_loader(disk, tree, work, MIB, MIB, prefix="(,gpt3)/grub")
    group, place = work / "group", work / "luks"
    for path, size in ((group, luks_length - LUKS_DATA_START), (place, luks_length)):
        with open(path, "wb") as handle:
            handle.truncate(size)
    boot = take_out(tree, "boot", work / "boot")
    write_volumes(group, tree, work)
    write_luks(place, group, work)
    put(place, disk, luks_start)
    group.unlink()
    # Written here because cryptsetup-initramfs' hook cannot inspect the devices of a disk that does not exist yet.
    crypttab = f"vg0_crypt UUID={LUKS_UUID} /cryptroot/keyfiles/vg0_crypt.key luks,initramfs\n"
    keys = {"cryptroot/crypttab": crypttab.encode(), "cryptroot/keyfiles/vg0_crypt.key": LUKS_KEY_BYTES}
    add_to_initramfs(boot, keys, work)
    write_ext4(disk, boot, boot_start, BOOT_BYTES, BOOT_UUID)


LAYOUTS: dict[str, tuple[list[str], Layout]] = {
    "plain": (debian_tree.PACKAGES, plain),
    "ahci-only": (debian_tree.PACKAGES, ahci_only),
    "mbr": (debian_tree.PACKAGES, mbr),
    "mbr-only": (debian_tree.PACKAGES, mbr_only),
    "uefi-only": (debian_tree.PACKAGES, uefi_only),
    "btrfs": (debian_tree.MORE_PACKAGES, btrfs),
    "lvm": (debian_tree.MORE_PACKAGES, lvm),
    "luks": (debian_tree.MORE_PACKAGES, luks),
    **debian_loaders.LAYOUTS,
}


@contextlib.contextmanager
def own_tree(packages: list[str], work: Path) -> Iterator[Path]:
    """A hard-linked copy of the tree for one disk, beside the cached one: hard links cannot cross filesystems."""
    with debian_tree.debian_tree(packages) as cached:
        copy = cached.with_name(f"{work.name}.tree")
        try:
            run("cp", "-al", cached, copy)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)
