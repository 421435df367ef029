# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of an image, through the appliance: equal to what was put into each filesystem, as an ordinary user.

The plain test reads ext4 and FAT. The full ones make XFS, Btrfs and NTFS, LVM and LUKS in a guest, whose kernel has
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, expect, full_only, note, partition, run, time_limit
from lvm_guest import LVMGuest
from machine import Disk

NOBODY = 65534
FILE_COUNT = 100
# Upper bound on this host, whose load varies; the aim is 20 s on an idle one.
PATIENCE = 240


def make_tree(ctx: Context, folder: Path, count: int = FILE_COUNT) -> dict[str, str]:
    """Files of several lengths in some folders; gives their hashes."""
    sums: dict[str, str] = {}
    for number in range(count):
        path = folder / f"f{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = ctx.random.randbytes(number * 977 % 300_000)
        path.write_bytes(data)
        sums[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return sums


def sums_of(folder: Path) -> dict[str, str]:
    """The hashes of a folder's files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def as_nobody(ctx: Context, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Runs `reforge files` as an ordinary user."""
    command = [str(word) for word in (ctx.binary, "files", *arguments, "--media", ctx.media)]

    def drop() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    ended = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=900, preexec_fn=drop, cwd="/", check=False
    )
    expect(ended.returncode in codes, f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return ended


def open_to_all(ctx: Context, path: Path) -> Path:
    """Lets an ordinary user reach a path of the test."""
    path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in path.parents:
        if str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o011)
    return path


def target_for_all(ctx: Context) -> Path:
    """A folder that an ordinary user may write into."""
    folder = ctx.folder / "out"
    folder.mkdir()
    open_to_all(ctx, folder)
    folder.chmod(0o777)
    return folder


@time_limit(1200)
def test_get_from_ext4_and_fat(ctx: Context) -> None:
    """100 files of an ext4 and of a FAT, one folder, a tar, a listing and a search; a damaged path is 66."""
    ctx.medium("vmlinuz")
    tree = ctx.folder / "tree"
    tree.mkdir()
    sums = make_tree(ctx, tree)
    (tree / "link").symlink_to("../../../etc/passwd")
    os.link(tree / "f0" / "file 0", tree / "hard")
    (tree / "etc").mkdir()
    disk = ctx.folder / "disk.raw"
    with disk.open("wb") as made:
        made.truncate(256 * MIB)
    partition(disk, "label: gpt\nstart=2048, size=262144, type=L\nstart=264192, size=204800, type=U\n")
    fat = ctx.folder / "fat"
    run("mkfs.fat", "-F", "32", "-C", fat, str(100 << 10))
    run("mcopy", "-i", fat, "-s", tree / "f1", "::/")
    uuid = run("blkid", "-p", "-o", "value", "-s", "UUID", fat).strip()
    (tree / "etc/fstab").write_text(f"LABEL=ROOT / ext4 defaults 0 1\nUUID={uuid} /boot/efi vfat defaults 0 2\n")
    run("mke2fs", "-q", "-t", "ext4", "-L", "ROOT", "-E", f"offset={MIB}", "-d", tree, disk, "128M")
    run("dd", f"if={fat}", f"of={disk}", "bs=1M", "seek=129", "conv=notrunc", "status=none")
    image = ctx.folder / "disk.img.zst"
    ctx.reforge("capture", disk, image)
    open_to_all(ctx, image)
    out = target_for_all(ctx)

    start = time.monotonic()
    as_nobody(ctx, "get", image, "1:/", out / "ext")
    took = time.monotonic() - start
    note(f"{FILE_COUNT} files from an ext4: {took:.1f} s")
    expect(took < PATIENCE, f"{FILE_COUNT} files took {took:.0f} s")
    got = sums_of(out / "ext")
    expect({name: got.get(name) for name in sums} == sums, "files of the ext4 differ")
    expect((out / "ext/link").is_symlink() and os.readlink(out / "ext/link") == "../../../etc/passwd", "the link")
    expect((out / "ext/hard").stat().st_ino == (out / "ext/f0/file 0").stat().st_ino, "the hard link is a copy")

    as_nobody(ctx, "get", image, "/boot/efi/f1", out / "fat")
    wanted = {name[3:]: value for name, value in sums.items() if name.startswith("f1/")}
    expect(sums_of(out / "fat") == wanted, "files of the FAT, by the path of fstab, differ")

    archive = ctx.folder / "out/a.tar"
    as_nobody(ctx, "tar", image, "1:/f2", archive)
    run("tar", "-C", out, "-xf", archive)
    expect(sums_of(out / "f2") == {n[3:]: s for n, s in sums.items() if n.startswith("f2/")}, "the archive differs")

    listed = json.loads(as_nobody(ctx, "ls", image, "1:/f3", "--json").stdout)["entries"]
    expect({entry["path"] for entry in listed} == {path.name for path in (tree / "f3").iterdir()}, "the listing differs")
    found = as_nobody(ctx, "find", image, "1:/", "--name", "file 9?", "--type", "f").stdout.splitlines()
    expect(len(found) == 10 and all(line.startswith("1:/f") for line in found), f"find: {found}")
    as_nobody(ctx, "ls", image, "1:/none", codes=(66,))
    as_nobody(ctx, "ls", image, "7:/", codes=(66,))
    again = as_nobody(ctx, "get", image, "1:/f0", out / "ext", codes=(73,))
    expect("--overwrite" in again.stderr, "what exists is refused without advice")
    leftovers = [name for name in os.listdir("/proc") if name.isdigit() and is_left(name)]
    expect(not leftovers, f"QEMU still runs: {leftovers}")


def is_left(process: str) -> bool:
    """Whether a process is the QEMU of an appliance whose command has ended: another test may run one."""
    try:
        if b"reforge-disk-0" not in Path(f"/proc/{process}/cmdline").read_bytes():
            return False
        parent = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1]
        return Path(f"/proc/{parent}/comm").read_text().strip() != "reforge"
    except OSError:
        return False


# Partitions: 1 XFS, 2 Btrfs with a subvolume, 3 NTFS (made on the host), 4 LUKS with LVM with ext4.
SETUP = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
mkdir -p /mnt/a /mnt/tree /run/cryptsetup
mount -o ro /dev/vdb /mnt/tree || fail "tree"
for i in 1 2 3 4; do settle /dev/vda$i; done
mount -t xfs /dev/vda1 /mnt/a && cp -a /mnt/tree/. /mnt/a && umount /mnt/a || fail "xfs"
mount -t btrfs /dev/vda2 /mnt/a && btrfs subvolume create /mnt/a/@home && cp -a /mnt/tree/. /mnt/a/@home && umount /mnt/a || fail btrfs
printf key >/tmp/key
quick="-q --pbkdf-force-iterations 1000 --cipher aes-xts-plain64"
cryptsetup luksFormat $quick --type luks2 --pbkdf pbkdf2 --key-file /tmp/key /dev/vda4 || fail luks
cryptsetup open --key-file /tmp/key /dev/vda4 four || fail open
pvcreate -q /dev/mapper/four; vgcreate -q vg0 /dev/mapper/four; lvcreate -q -y -Wn -Zn -L 64M -n root vg0
/usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg0-root
mount -t ext4 /dev/mapper/vg0-root /mnt/a && cp -a /mnt/tree/. /mnt/a && umount /mnt/a || fail lvm
vgchange -q -an vg0; cryptsetup close four
"""

MODULES = [
    "loop", "xfs", "btrfs", "dm-crypt", "ecb", "xts", "aes_generic", "aesni-intel", "sha256_generic", "af_alg",
    "algif_skcipher", "algif_hash",
]  # fmt: skip


@full_only
@time_limit(2400)
def test_get_from_every_filesystem(ctx: Context) -> None:
    """XFS, a subvolume of Btrfs, NTFS, and ext4 in LVM in LUKS: equal files as an ordinary user."""
    ctx.medium("vmlinuz")
    tree = ctx.folder / "tree"
    tree.mkdir()
    sums = make_tree(ctx, tree)
    disk = ctx.folder / "disk.raw"
    with disk.open("wb") as made:
        made.truncate(1200 * MIB)
    partition(disk, "label: gpt\n" + "".join(f"size={size * 2048}\n" for size in (400, 300, 100, 128)))
    for size, start, make in ((400, 1, "mkfs.xfs -q"), (300, 401, "mkfs.btrfs -q"), (100, 701, "mkntfs -q -F")):
        part = ctx.folder / "part"
        with part.open("wb") as made:
            made.truncate(size * MIB)
        run(*make.split(), part)
        if "ntfs" in make:
            for name in sums:
                run("ntfscp", "-q", part, tree / name, name.split("/")[1])
        run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc", "status=none")
        part.unlink()
    files = ctx.folder / "tree.raw"
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, files, "64M")
    lab = LVMGuest(scratch_directory(), ctx.binary, programs=["cryptsetup", "btrfs"], modules=MODULES)
    with ctx.machine(
        "files-setup", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, SETUP),
        append="console=ttyS0,115200n8 loglevel=4 panic=-1", memory=768, time_limit=600,
        disks=[Disk(disk, "virtio", "DATA"), Disk(files, "virtio", "TREE")],
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 600, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        machine.wait_for_exit(60)
    image = ctx.folder / "disk.img.zst"
    ctx.reforge("capture", disk, image)
    key = ctx.folder / "key"
    key.write_text("key")
    for path in (image, key):
        open_to_all(ctx, path)
    out = target_for_all(ctx)
    as_nobody(ctx, "get", image, "1:/", out / "xfs")
    expect(sums_of(out / "xfs") == sums, "files of the XFS differ")
    as_nobody(ctx, "get", image, "2:/@home", out / "btrfs")
    expect(sums_of(out / "btrfs") == sums, "files of the Btrfs differ")
    as_nobody(ctx, "get", image, "3:/", out / "ntfs")
    expect(sums_of(out / "ntfs") == {n.split("/")[1]: s for n, s in sums.items()}, "files of the NTFS differ")
    refused = as_nobody(ctx, "ls", image, "4:/", codes=(77,))
    expect("--luks-key-file" in refused.stderr, "LUKS without a key is refused without advice")
    as_nobody(ctx, "get", image, "vg0/root:/", out / "lvm", "--luks-key-file", key)
    shutil.rmtree(out / "lvm/lost+found", ignore_errors=True)
    expect(sums_of(out / "lvm") == sums, "files of the ext4 in LVM in LUKS differ")


# The image is on vda; vdb gets a volume group. A root in memory and the build's id are what the medium is known by.
ON_MEDIUM = """
mkdir -p /etc/reforge /mnt/images; : >/etc/reforge/build-id
mount -t ext4 -o ro /dev/vda /mnt/images
reforge files get /mnt/images/disk.img.zst 1:/ /tmp/out
(cd /tmp/out; find . -type f ! -path './lost+found/*' -exec sha256sum {} +) | sed 's/^/SUM /'
for pid in /sys/block/nbd*/pid; do if [ -e "$pid" ]; then echo "LEFT $pid"; exit 1; fi; done
pvcreate -q /dev/vdb; vgcreate -q vg0 /dev/vdb; lvcreate -q -y -Wn -Zn -L 32M -n root vg0
/usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg0-root; vgchange -q -an vg0
reforge files ls /dev/vdb vg0/root:/
echo "ACTIVE $(dmsetup ls)"
if grep reforge-files /proc/mounts; then exit 1; fi
"""


@full_only
@time_limit(1200)
def test_files_on_the_medium(ctx: Context) -> None:
    """An image as a network block device, and a disk with LVM: equal files, and nothing stays attached or active."""
    tree = ctx.folder / "tree"
    tree.mkdir()
    sums = make_tree(ctx, tree, 20)
    disk = ctx.blank_disk("disk.raw", 64 * MIB)
    partition(disk, "label: gpt\nstart=2048, size=65536, type=L\n")
    run("mke2fs", "-q", "-t", "ext4", "-E", f"offset={MIB}", "-d", tree, disk, "32M")
    (ctx.folder / "images").mkdir()
    ctx.reforge("capture", disk, ctx.folder / "images/disk.img.zst")
    images = ctx.folder / "images.raw"
    run("mke2fs", "-q", "-t", "ext4", "-d", ctx.folder / "images", images, "64M")
    lab = LVMGuest(scratch_directory(), ctx.binary, modules=["nbd"])
    with ctx.machine(
        "files-medium", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, ON_MEDIUM),
        append="console=ttyS0,115200n8 loglevel=4 panic=-1", memory=1024, time_limit=600,
        disks=[Disk(images, "virtio", "IMAGES"), Disk(ctx.blank_disk("lvm.raw", 128 * MIB), "virtio", "LVM")],
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 600, unless=r"Kernel panic")
        said = machine.text()
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        machine.wait_for_exit(60)
    got = {name: value for value, name in re.findall(r"^SUM (\w{64})  \./([^\r\n]+)", said, re.MULTILINE)}
    expect(got == sums, f"files of the image differ: {got}")
    expect("ACTIVE No devices found" in said, "the logical volume stays active")


def damage_folder(disk: Path, folder: str) -> None:
    """Overwrites the entries of the third block of an ext4's folder, whose blocks have no checksums."""
    blocks = run("debugfs", "-R", f"blocks {folder}", disk).split()
    with disk.open("r+b") as made:
        made.seek(int(blocks[2]) * 1024)
        made.write(b"\xff" * 512)


@full_only
@time_limit(1200)
def test_damaged_folder(ctx: Context) -> None:
    """Linux skips a damaged block of a folder without an error: it is a problem, and the other files arrive."""
    tree = ctx.folder / "tree"
    (tree / "d").mkdir(parents=True)
    for number in range(200):
        (tree / "d" / f"entry with a long name, number {number}").write_text(f"{number}")
    (tree / "e").write_text("e")
    disk = ctx.folder / "disk.raw"
    run("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", "-e", "panic", "-d", tree, disk, "32M")
    damage_folder(disk, "/d")
    open_to_all(ctx, disk)
    out = target_for_all(ctx)
    found = as_nobody(ctx, "find", disk, "0:/", "--type", "f", codes=(65,))
    names = [line for line in found.stdout.splitlines() if "entry" in line]
    expect(0 < len(names) < 200, f"{len(names)} of 200 names")
    expect("damaged" in found.stderr and "0:/e" in found.stdout, found.stderr)
    as_nobody(ctx, "get", disk, "0:/", out / "got", codes=(65,))
    expect(len(list((out / "got/d").iterdir())) == len(names), "get and find differ")
    expect((out / "got/e").read_text() == "e", "the file behind the folder is missing")


@full_only
@time_limit(1200)
def test_diff_of_files(ctx: Context) -> None:
    """Two images of one disk, with a file added, removed and changed in place."""
    tree = ctx.folder / "tree"
    tree.mkdir()
    make_tree(ctx, tree, 20)
    images = []
    for name in ("old", "new"):
        if name == "new":
            shutil.rmtree(tree / "f1")
            (tree / "added").write_text("new")
            same = tree / "f2" / "file 2"
            same.write_bytes(bytes(len(same.read_bytes())))
            # mke2fs keeps whole seconds.
            os.utime(same, (same.stat().st_atime, same.stat().st_mtime + 5))
        disk = ctx.folder / f"{name}.raw"
        run("mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "32M")
        image = ctx.folder / f"{name}.img.zst"
        ctx.reforge("capture", disk, image)
        images.append(image)
    found = json.loads(
        ctx.reforge("diff", "--files", *images, "--media", ctx.media, "--json", timeout=900)
    )  # fmt: skip
    changes = {change["path"]: change for change in found["changes"]}
    expect(changes["0:/added"]["change"] == "added", f"{changes}")
    expect(changes["0:/f1"]["change"] == "removed", f"{changes}")
    expect("content" in changes["0:/f2/file 2"]["what"], f"{changes}")
    expect("0:/f3/file 3" not in changes, "an equal file counts as changed")
