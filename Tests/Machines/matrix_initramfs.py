# SPDX-License-Identifier: GPL-3.0-or-later
"""The initramfs of the boot matrix: by dracut for one machine, by a program that works like mkinitcpio, with a key."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import debian_loaders
from debian_layouts import replace
from debian_tree import in_chroot, run, scratch_directory

LUKS_PASSPHRASE = "proof"

# The machine that these systems were installed on has virtio disks only, which no cell's target has.
OLD_DRIVERS = "virtio_pci virtio_blk ext4"
NEW_DRIVERS = "nvme ahci libahci sd_mod virtio_scsi uas usb_storage sdhci_pci mmc_block ata_piix"


def forget(tree: Path, *paths: str) -> None:
    """Removes programs from the tree, and from the manifest of its files."""
    for path in paths:
        (tree / path).unlink()
    kept = [line for line in (tree / "root/proof.sha256").read_text().splitlines(True) if line[66:-1] not in paths]
    replace(tree, "root/proof.sha256", "".join(kept))


def dracut_packages() -> list[Path]:
    """Debian's dracut, downloaded once."""
    folder = scratch_directory() / "dracut"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "dracut", "dracut-core"]
            run(*command, cwd=folder, timeout=300)
            (folder / "complete").touch()
    return sorted(folder.glob("*.deb"))


def use_dracut(tree: Path) -> None:
    """dracut in the place of initramfs-tools, and an initramfs of it for one machine."""
    forget(tree, "usr/sbin/update-initramfs", "usr/sbin/mkinitramfs")
    shutil.rmtree(tree / "etc/initramfs-tools")
    for package in dracut_packages():
        # Not `dpkg -x`, which replaces the links of a merged /usr by folders.
        unpack = 'dpkg --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"'
        run("sh", "-euc", unpack, "sh", package, tree)
    version, _, initramfs = debian_loaders.kernel(tree)
    initramfs.unlink()
    in_chroot(tree, f"""
        dracut --force --hostonly --no-hostonly-cmdline --no-hostonly-default-device --add-drivers '{OLD_DRIVERS}' \
            --omit-drivers '{NEW_DRIVERS}' --kver {version} /boot/{initramfs.name}
    """)  # fmt: skip


MKINITCPIO = """#!/bin/sh
# Works like mkinitcpio without a preset `fallback`: the hook `autodetect` leaves out all drivers but those of the
# machine that it was installed on. The parts are those of initramfs-tools, under other names.
set -eu
skipped= version= out=
while [ $# -gt 0 ]; do
    case $1 in
    -S) skipped=$2; shift 2 ;;
    -k) version=$2; shift 2 ;;
    -g) out=$2; shift 2 ;;
    -P) version=$(ls /lib/modules); out=/boot/initrd.img-$version; shift ;;
    *) echo "mkinitcpio: unknown option $1" >&2; exit 1 ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a /usr/lib/mkinitcpio/etc "$work/etc"
modules=list
[ "$skipped" != autodetect ] || modules=most
sed -i "s/^MODULES=.*/MODULES=$modules/" "$work/etc/initramfs.conf"
/usr/lib/mkinitcpio/make -d "$work/etc" -c zstd -o "$work/packed" "$version"
mkdir "$work/root"
cd "$work/root"
zstd -q -d -c "$work/packed" | cpio -i --quiet
mv conf/initramfs.conf conf/made.conf
[ ! -e conf/arch.conf ] || mv conf/arch.conf conf/made-arch.conf
sed -i 's,/conf/initramfs.conf,/conf/made.conf,; s,/conf/arch.conf,/conf/made-arch.conf,' init
mkdir hooks
echo "HOOKS=(base udev autodetect modconf block filesystems)" >buildconfig
find . | cpio -o -H newc --quiet | zstd -q -1 >"$work/new"
cp "$work/new" "$out"
echo "==> Image generation successful"
"""


def use_mkinitcpio(tree: Path) -> None:
    """A program that is called and recognised as mkinitcpio in the place of initramfs-tools, and its initramfs."""
    place = tree / "usr/lib/mkinitcpio"
    place.mkdir()
    shutil.copy2(tree / "usr/sbin/mkinitramfs", place / "make")
    shutil.copytree(tree / "etc/initramfs-tools", place / "etc")
    replace(place, "etc/modules", OLD_DRIVERS.replace(" ", "\n") + "\n")
    forget(tree, "usr/sbin/update-initramfs", "usr/sbin/mkinitramfs")
    shutil.rmtree(tree / "etc/initramfs-tools")
    replace(tree, "usr/bin/mkinitcpio", MKINITCPIO)
    (tree / "usr/bin/mkinitcpio").chmod(0o755)
    (tree / "etc/mkinitcpio.d").mkdir()
    replace(tree, "etc/mkinitcpio.d/linux.preset", "PRESETS=('default')\n")
    debian_loaders.kernel(tree)[2].unlink()
    in_chroot(tree, "mkinitcpio -P")


def pack_again(tree: Path, files: dict[str, str]) -> None:
    """Adds files to the initramfs: the generator's hooks cannot see volumes of a disk that does not exist yet."""
    initramfs = debian_loaders.kernel(tree)[2]
    root = tree / "tmp/initramfs"
    root.mkdir()
    run("sh", "-euc", 'zstd -q -d -c "$1" | cpio -i --quiet -D "$2"', "sh", initramfs, root)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        replace(root, name, content)
        (root / name).chmod(0o600)
    initramfs.unlink()
    pack = 'cd "$2"; find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | zstd -q -3 -o "$1"'
    run("sh", "-euc", pack, "sh", initramfs, root)
    shutil.rmtree(root)


def add_key(tree: Path, uuid: str) -> None:
    """The key of the root's LUKS, as cryptsetup-initramfs adds it."""
    name = "cryptroot/keyfiles/root_crypt.key"
    pack_again(tree, {"cryptroot/crypttab": f"root_crypt UUID={uuid} /{name} luks,discard\n", name: LUKS_PASSPHRASE})


def add_array(tree: Path, uuid: str) -> None:
    """mdadm.conf with the root's array, in the system and in the initramfs."""
    digits = uuid.replace("-", "")
    name = ":".join(digits[index : index + 8] for index in range(0, 32, 8))
    # Without a program or an address, mdmonitor.service fails.
    text = f"HOMEHOST <system>\nPROGRAM /bin/true\nARRAY /dev/md/0 metadata=1.2 UUID={name} name=proof:0\n"
    replace(tree, "etc/mdadm/mdadm.conf", text)
    pack_again(tree, {"etc/mdadm/mdadm.conf": text})
