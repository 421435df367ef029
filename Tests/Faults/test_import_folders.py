# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of Clonezilla and FOG: imported, restored, and compared with the disks that they were made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import foreign_folders as folders
from faults import DONE, MIB, Context, tool


def compare(ctx: Context, name: str, image: str | Path, disk: Path, parts: list[folders.Part], *keys: str) -> None:
    """Restores an image and compares; a swap area is made, with its UUID and label."""
    target = ctx.folder / "restored"
    ended = ctx.restore(image, target, disk.stat().st_size, *keys)
    if not ctx.that(f"{name} is restored", ended.status == DONE, ended):
        return
    found = folders.differences(disk, target, parts)
    ctx.that(f"{name} has the bytes of the disk", not found, f"other bytes in the MiB {found[:20]}")
    for part in parts:
        if part.kind == "swap":
            said = tool("blkid", "-p", "-O", str(part.start * folders.SECTOR), "-S", str(part.size * folders.SECTOR), target)
            ctx.that(f"{name} has its swap", folders.SWAP_UUID in said and 'TYPE="swap"' in said, said)
    target.unlink()


def test_clonezilla(ctx: Context) -> None:
    """Every way to compress and cut, a GPT and an MBR with logical partitions; into an image and a repository."""
    folders.require()
    repository = ctx.folder / "repository"
    ctx.done("init-repo", repository)
    for table, label in ((folders.GPT, "GPT"), (folders.MBR, "MBR")):
        disk, volumes = folders.make_disk(ctx.folder, f"disk-{label}", table, ctx.random.randbytes)
        parts = folders.PARTS[table]
        for variant in folders.VARIANTS if label == "GPT" else ["zst"]:
            folder = folders.clonezilla(ctx.folder / f"saved-{label}-{variant}", disk, table, volumes, variant)
            image = ctx.folder / "imported.img.zst"
            ended = ctx.reforge("import", folder, image)
            if ctx.that(f"{label}, {variant} is imported", ended.status == DONE, ended):
                compare(ctx, f"{label}, {variant}", image, disk, parts)
                image.unlink()
            if variant == "zst":
                compare(ctx, f"{label}, straight from the folder", folder, disk, parts)
                imported = ctx.done("import", folder, f"{repository}@", "--tag", label, "--json").json()
                snapshot = f"{repository}@{imported['disks'][0]['id']}"
                compare(ctx, f"{label}, through a repository", snapshot, disk, parts)
                made = ctx.folder / "made"
                with folders.blank(made, disk.stat().st_size):
                    ctx.restore_again(folder, made)
                    same = folders.dump(made, "x") == folders.dump(disk, "x")
                    ctx.that(f"{label}: sfdisk sees the same table", same, folders.dump(made, "x"))
            shutil.rmtree(folder)


def test_several_disks(ctx: Context) -> None:
    """Without the file `disk`, all disks are found, and one has to be named; an earlier version took the first only."""
    folders.require()
    folder = ctx.folder / "saved"
    disks = {}
    for name, table in (("sda", folders.GPT), ("nvme0n1", folders.MBR)):
        disks[name] = (folders.make_disk(ctx.folder, name, table, ctx.random.randbytes), table)
        (disk, volumes), _ = disks[name]
        folders.clonezilla(folder, disk, table, volumes, "zst", name, lists_disk=False)
    image = ctx.folder / "imported.img.zst"
    refused = ctx.reforge("import", folder, image)
    listed = "sda" in refused.said and "nvme0n1" in refused.said
    ctx.that("an import without a name is refused, with the list", refused.status != DONE and listed, refused)
    ctx.that("and leaves nothing behind", not image.exists())
    for name, ((disk, _), table) in disks.items():
        ctx.done("import", folder, image, "--disk", name)
        compare(ctx, name, image, disk, folders.PARTS[table])
        image.unlink()


def test_what_is_missing(ctx: Context) -> None:
    """A part without an image is a loss, never zeros; a missing piece and a damaged image are refused."""
    folders.require()
    disk, volumes = folders.make_disk(ctx.folder, "disk", folders.GPT, ctx.random.randbytes)
    folder = folders.clonezilla(ctx.folder / "saved", disk, folders.GPT, volumes, "gz")
    image = ctx.folder / "imported.img.zst"
    pieces = sorted(folder.glob("sda2.ext4-ptcl-img.gz.*"))
    ctx.that("there are several pieces", len(pieces) > 2)

    hidden = ctx.folder / "hidden"
    pieces[1].rename(hidden)
    ended = ctx.reforge("import", folder, image)
    ctx.that("a missing piece is refused by name", ended.status != DONE and "sda2.ext4-ptcl-img.gz" in ended.said, ended)
    hidden.rename(pieces[1])
    pieces[-1].rename(hidden)
    ended = ctx.reforge("import", folder, image)
    ctx.that("a stream without its last piece is damage", ended.status != DONE and not image.exists(), ended)
    hidden.rename(pieces[-1])

    (folder / "sda4.dd-img").rename(hidden)
    ended = ctx.reforge("import", folder, image)
    ctx.that("a partition without an image is said", ended.status != DONE and "sda4" in ended.said, ended)
    image.unlink(missing_ok=True)
    hidden.rename(folder / "sda4.dd-img")

    (folder / "sda4.dd-img").rename(hidden)
    (folder / "sda4.dd-img").symlink_to(hidden)
    ended = ctx.reforge("import", folder, image)
    ctx.that("a link out of the folder is refused", ended.status != DONE and "link" in ended.said, ended)
    (folder / "sda4.dd-img").unlink()
    hidden.rename(folder / "sda4.dd-img")

    dump = folder / "sda-pt.sf"
    sound = dump.read_text()
    dump.write_text(sound.replace("start=       83968", "start=       80000"))
    ended = ctx.reforge("import", folder, image)
    ctx.that("partitions that overlap are refused", ended.status != DONE and not image.exists(), ended)
    cut = sound.rstrip().rsplit("\n", 1)[0] + "\n"
    dump.write_text(cut)
    ended = ctx.reforge("import", folder, image)
    ctx.that("a list that was cut off loses no partition", ended.status != DONE and "sda4" in ended.said, ended)
    dump.write_text(sound)
    ctx.that("and the sound folder is taken", ctx.reforge("import", folder, image).status == DONE)


def test_fog(ctx: Context) -> None:
    """Compressed by each program, cut, and a filesystem that FOG has made smaller, which fills its partition again."""
    folders.require()
    disk, volumes = folders.make_disk(ctx.folder, "disk", folders.GPT, ctx.random.randbytes)
    image = ctx.folder / "imported.img.zst"
    for name, command, split in (("gzip", ["gzip", "-1", "-c"], 0), ("zstd", ["zstd", "-q", "-c"], 200_000), ("none", ["cat"], 0)):
        folder = folders.fog(ctx.folder / f"fog-{name}", disk, folders.GPT, volumes, command, split)
        ended = ctx.done("import", folder, image)
        ctx.that(f"{name}: that nothing proves the contents is said", "without checksums" in ended.said, ended)
        # FOG does not save the disk's length: the backup table is where the partitions need it.
        target = ctx.folder / "restored"
        ctx.restore(image, target, disk.stat().st_size)
        found = [place for place in folders.differences(disk, target, folders.PARTS[folders.GPT]) if 0 < place < 131]
        ctx.that(f"{name}: the partitions have their bytes", not found, found)
        same = folders.dump(target, "x").splitlines()[6:] == folders.dump(disk, "x").splitlines()[6:]
        ctx.that(f"{name}: the same partitions", same, folders.dump(target, "x"))
        image.unlink()
        shutil.rmtree(folder)

    root = folders.PARTS[folders.GPT][1]
    volumes[2] = folders.volume(ctx.folder, root, ctx.random.randbytes, 40 * MIB)
    folder = folders.fog(ctx.folder / "shrunk", disk, folders.GPT, volumes, ["gzip", "-1", "-c"])
    minimum = folders.dump(disk, "/dev/sda").replace("163840", "81920")
    (folder / "d1.minimum.partitions").write_text(minimum)
    ctx.done("import", folder, image)
    # Straight from the folder, through a scratch file, and from an import.
    for name, source, more in (("import", image, []), ("folder", folder, []), ("scratch", folder, ["--scratch", str(ctx.folder)])):
        part = grown(ctx, name, source, disk, root, *more)
        tool("e2fsck", "-fn", part)
        said = tool("dumpe2fs", "-h", part)
        blocks = [line for line in said.splitlines() if line.startswith(("Block count", "Block size"))]
        count = 1
        for line in blocks:
            count *= int(line.split(":")[1])
        ctx.that(f"{name}: its filesystem fills the partition again", count == root.size * folders.SECTOR, f"{count}: {blocks}")

    windows = ctx.folder / "windows"
    with windows.open("wb") as made:
        made.truncate(40 * MIB)
    tool("mkntfs", "-q", "-F", "-L", "win", windows)
    folders.partclone("ntfs", windows, folder / "d1p2.img", "-c", "-a0")
    # The log of this NTFS is behind the first bytes, which alone are known of a stream: its state is open, not unclean.
    ctx.done("import", folder, image, "--overwrite")
    for name, source, more in (("import", image, []), ("folder", folder, []), ("scratch", folder, ["--scratch", str(ctx.folder)])):
        part = grown(ctx, name, source, disk, root, *more)
        sectors = int.from_bytes(part.read_bytes()[40:48], "little") + 1
        ctx.that(f"{name}: an NTFS fills the partition again", root.size - 128 < sectors <= root.size, sectors)


def grown(ctx: Context, name: str, source: Path, disk: Path, root: folders.Part, *more: str) -> Path:
    """The second partition of a restored disk, whose filesystem was made smaller before it was saved."""
    target = ctx.folder / "restored"
    ended = ctx.restore(source, target, disk.stat().st_size, *more)
    ctx.that(f"{name}: a shrunk image is restored", ended.status == DONE, ended)
    part = ctx.folder / "root"
    with target.open("rb") as whole, part.open("wb") as made:
        whole.seek(root.start * folders.SECTOR)
        made.write(whole.read(root.size * folders.SECTOR))
    target.unlink()
    return part
