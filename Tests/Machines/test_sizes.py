"""Disks of another size: filesystems grow and shrink by their own tools inside the medium, which has device-mapper.

The source has an MBR with logical partitions, and a filesystem of each kind that can be made without mounting it. The
filesystems' own checks and the hashes of the files, read without a kernel driver, judge the result.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path

from lab import MIB, Context, expect, first_nonzero, full_only, note, partition, run, time_limit
from machine import Disk
from test_restore import PANIC, RESTORE_FAILED, RESTORE_TIMEOUT, TARGET_SERIAL, expect_no_table, medium

# Number: start and length in MiB, type.
SOURCE = {1: (1, 500, "83"), 5: (503, 400, "7"), 6: (905, 700, "83"), 7: (1607, 64, "82")}
SOURCE_MIB = 1700


def partition_file(ctx: Context, disk: Path, number: int) -> Path:
    """Copies one partition of a disk into a separate file."""
    table = json.loads(run("sfdisk", "-J", disk))["partitiontable"]
    entry = next(entry for entry in table["partitions"] if entry["node"].endswith(f"raw{number}"))
    part = ctx.folder / f"{disk.stem}-{number}"
    with open(disk, "rb") as source, open(part, "wb") as target:
        source.seek(entry["start"] * 512)
        for _ in range(entry["size"] // 2048):
            piece = source.read(MIB)
            if piece.count(0) == len(piece):
                target.seek(MIB, 1)
            else:
                target.write(piece)
        target.truncate(entry["size"] * 512)
    return part


def random_files(ctx: Context, tree: Path, lengths: list[int]) -> dict[str, str]:
    """Makes a folder with files of these lengths in bytes; gives their hashes by name."""
    tree.mkdir(parents=True)
    hashes = {}
    for number, length in enumerate(lengths):
        content = ctx.random.randbytes(length)
        (tree / f"file{number}").write_bytes(content)
        hashes[f"file{number}"] = hashlib.sha256(content).hexdigest()
    return hashes


def source_disk(ctx: Context) -> tuple[Path, dict[str, str]]:
    """The disk, and the hashes of the files, which each of its filesystems has."""

    def make() -> tuple[Path, dict[str, str]]:
        folder = ctx.workdir / "sizes"
        tree = folder / "tree"
        hashes = random_files(ctx, tree, [(number % 8 + 1) * MIB // 2 + number * 777 for number in range(24)])
        disk = folder / "sizes.raw"
        with open(disk, "wb") as handle:
            handle.truncate(SOURCE_MIB * MIB)
        lines = ["label: dos", "label-id: 0x5eed0004"]
        for number, (start, length, kind) in SOURCE.items():
            if number == 5:
                lines.append(f"start={502 * 2048}, size={(SOURCE_MIB - 503) * 2048}, type=f")
            lines.append(f"start={start * 2048}, size={length * 2048}, type={kind}")
        partition(disk, "\n".join(lines) + "\n")
        for number, (start, length, _) in SOURCE.items():
            part = folder / "part"
            with open(part, "wb") as handle:
                handle.truncate(length * MIB)
            if number == 1:
                run("mke2fs", "-q", "-t", "ext4", "-L", "small", "-d", tree, part)
            elif number == 5:
                run("mkntfs", "-q", "-F", "-Q", "-L", "windows", "-p", str(start * 2048), "-H", "255", "-S", "63", part)
                for name in hashes:
                    run("ntfscp", "-q", part, tree / name, name)
            elif number == 6:
                run("mkfs.btrfs", "-q", "-L", "tree", "--rootdir", tree, part)
            else:
                run("mkswap", "-q", "-L", "swap", part)
            run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
            part.unlink()
        return disk, hashes

    return ctx.shared.once("disk of sizes", make)


def image_of_an_end(ctx: Context) -> tuple[Path, dict[str, str]]:
    """An image of a disk whose ext4 has its files at its end, and their hashes: shrinking it needs a large scratch."""

    def make() -> tuple[Path, dict[str, str]]:
        folder = ctx.workdir / "end"
        tree = folder / "tree"
        hashes = random_files(ctx, tree, [70 * MIB] * 9)
        disk, part, image = folder / "end.raw", folder / "part", ctx.workdir / "end.img.zst"
        with open(disk, "wb") as handle:
            handle.truncate(705 * MIB)
        partition(disk, "label: gpt\nstart=2048, size=1433600\n")
        run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", tree, part, "700M")
        for number in range(6):
            run("debugfs", "-w", "-R", f"rm file{number}", part)
            del hashes[f"file{number}"]
        run("e2fsck", "-f", "-n", part)
        run("dd", f"if={part}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
        ctx.reforge("capture", disk, image)
        return image, hashes

    return ctx.shared.once("image of an end", make)


def image_of_sizes(ctx: Context) -> Path:
    """The image of `source_disk`."""

    def make() -> Path:
        image = ctx.workdir / "sizes.img.zst"
        report = json.loads(ctx.reforge("capture", source_disk(ctx)[0], image, "--json"))
        whole = [part for part in report["partitions"] if part["mapSource"] == "whole"]
        expect(not whole, f"these were taken whole: {whole}")
        return image

    return ctx.shared.once("image of sizes", make)


def hash_of(command: list[str | Path]) -> str:
    """The SHA-256 of a command's output."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    expect(done.returncode == 0, f"{command}: {done.stderr!r}")
    return hashlib.sha256(done.stdout).hexdigest()


def expect_contents(ctx: Context, disk: Path, hashes: dict[str, str]) -> None:
    """Every filesystem passes its own check, and every file is unchanged."""
    ext, ntfs, tree = (partition_file(ctx, disk, number) for number in (1, 5, 6))
    run("e2fsck", "-f", "-n", ext)
    # --force: a resized NTFS is marked for a check by Windows, which is no damage.
    run("ntfsresize", "--info", "--force", "--no-progress-bar", ntfs)
    run("btrfs", "check", "--readonly", tree)
    restored = ctx.folder / "btrfs-files"
    restored.mkdir(exist_ok=True)
    run("btrfs", "restore", tree, restored)
    for name, wanted in hashes.items():
        expect(hash_of(["debugfs", "-R", f"cat {name}", ext]) == wanted, f"ext4: {name} has changed")
        expect(hash_of(["ntfscat", "-f", ntfs, name]) == wanted, f"NTFS: {name} has changed")
        expect(hashlib.sha256((restored / name).read_bytes()).hexdigest() == wanted, f"Btrfs: {name} has changed")


def restore_to(ctx: Context, name: str, mebibytes: int, **settings: str) -> Path:
    """Restores the image onto a disk of that size by the medium, unattended."""
    image = image_of_sizes(ctx)
    target = ctx.blank_disk(f"{name}.raw", mebibytes * MIB)
    images = ctx.images_disk(sizes=image)
    wanted = {
        "restore": "LABEL=IMAGES:/sizes.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff", **settings,
    }  # fmt: skip
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    with medium(ctx, name, wanted, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
    images.unlink()
    return target


def lengths(disk: Path) -> dict[int, int]:
    """The lengths of the partitions in MiB, by number."""
    table = json.loads(run("sfdisk", "-J", disk))["partitiontable"]
    expect(table["id"] == "0x5eed0004", f"the disk signature is {table['id']}")
    return {int(entry["node"].rsplit("raw", 1)[1]): entry["size"] // 2048 for entry in table["partitions"]}


@time_limit(1500)
def test_a_smaller_disk(ctx: Context) -> None:
    """ext4, NTFS and Btrfs shrink, each on a composite of its partition and a scratch."""
    hashes = source_disk(ctx)[1]
    target = restore_to(ctx, "smaller", 1150)
    found = lengths(target)
    note(f"partitions on 1150 MiB, in MiB: {found}")
    expect(sum(found[number] < SOURCE[number][1] for number in (1, 5, 6)) >= 1, "no filesystem had to shrink")
    expect_contents(ctx, target, hashes)


@time_limit(900)
def test_more_than_fits_into_memory(ctx: Context) -> None:
    """The scratch is beside the image if memory is too small; with `--full`, also on an exFAT named by the settings."""
    image, hashes = image_of_an_end(ctx)
    images = ctx.images_disk(end=image)
    run("truncate", "-s", "+512M", images)
    run("resize2fs", images)
    other = ctx.blank_disk("other.raw", 400 * MIB)
    run("mkfs.exfat", "-L", "SCRATCH", other)
    for name in ("beside", "named") if ctx.full else ("beside",):
        target = ctx.blank_disk(f"{name}.raw", 445 * MIB)
        settings = {
            "restore": "LABEL=IMAGES:/end.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff",
            **({"scratch": "LABEL=SCRATCH:/folder"} if name == "named" else {}),
        }  # fmt: skip
        disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES"), Disk(other, "virtio", "OTHER")]
        with medium(ctx, name, settings, disks) as machine:
            machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
            said = machine.text()
        expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
        again = "Once more, with a scratch on /dev/vda" in said
        expect(again == (name == "beside"), f"the scratch is not where it belongs\n{said[-2500:]}")
        part = partition_file(ctx, target, 1)
        run("e2fsck", "-f", "-n", part)
        for file, wanted in hashes.items():
            expect(hash_of(["debugfs", "-R", f"cat {file}", part]) == wanted, f"{file} has changed")
        # The scratch was removed.
        run("e2fsck", "-f", "-n", images)
        expect("reforge-scratch" not in run("debugfs", "-R", "ls -p /", images), "the scratch is still beside the image")
        note(f"{name}: {machine_words(said)}")


def machine_words(said: str) -> str:
    """The console's line about the scratch's size."""
    return next((line for line in said.splitlines() if "takes a scratch of" in line), "no scratch")


@time_limit(1500)
def test_wishes(ctx: Context) -> None:
    """Each partition gets the requested size: two smaller ones, and one the remaining space."""
    hashes = source_disk(ctx)[1]
    target = restore_to(ctx, "wishes", 2600, partition="1=300MiB,5=350MiB,6=rest")
    found = lengths(target)
    note(f"partitions on 2600 MiB, in MiB: {found}")
    expect(found[1] == 300 and found[5] == 350, f"other lengths than requested: {found}")
    # The first MiB is left out, and the record before each logical partition takes one MiB.
    expect(found[6] == 2600 - 1 - 300 - 350 - SOURCE[7][1] - 3, f"the rest is {found[6]} MiB")
    expect_contents(ctx, target, hashes)


@full_only
@time_limit(1500)
def test_a_larger_disk(ctx: Context) -> None:
    """All filesystems grow, each by its share."""
    hashes = source_disk(ctx)[1]
    target = restore_to(ctx, "larger", 3000, layout="proportional")
    found = lengths(target)
    note(f"partitions on 3000 MiB, in MiB: {found}")
    expect(all(found[number] > SOURCE[number][1] for number in (1, 5, 6)), f"one has not grown: {found}")
    expect_contents(ctx, target, hashes)


@time_limit(1500)
def test_power_cut_in_a_shrink(ctx: Context) -> None:
    """The power is cut while filesystems shrink: the disk has no table, and the same restore completes."""
    hashes = source_disk(ctx)[1]
    target = ctx.blank_disk("cut.raw", 1150 * MIB)
    images = ctx.images_disk(sizes=image_of_sizes(ctx))
    settings = {"restore": "LABEL=IMAGES:/sizes.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff"}
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    for attempt in range(4 if ctx.full else 1):
        with medium(ctx, f"cut-{attempt}", settings, disks) as machine:
            machine.wait_for(r"shrink partition", RESTORE_TIMEOUT, unless=RESTORE_FAILED)
            wait = ctx.random.uniform(0, 4)
            time.sleep(wait)
            machine.kill()
            ended = "REFORGE-RESULT" in machine.text()
        note(f"cut {wait:.1f} s after the first shrink began" + (" (after the end)" if ended else ""))
        if not ended:
            expect_no_table(target)
    with medium(ctx, "resumed", settings, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        expect("REFORGE-RESULT exit=0" in machine.text(), f"the restore ended otherwise\n{machine.tail()}")
    expect_contents(ctx, target, hashes)


@time_limit(600)
def test_a_twin_is_refused(ctx: Context) -> None:
    """A shrink is refused while the captured disk is attached, and nothing is written."""
    target = ctx.blank_disk("beside.raw", 1150 * MIB)
    images = ctx.images_disk(sizes=image_of_sizes(ctx))
    settings = {"restore": "LABEL=IMAGES:/sizes.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff"}
    disks = [
        Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES"),
        Disk(source_disk(ctx)[0], "virtio", "SOURCE", read_only=True),
    ]  # fmt: skip
    with medium(ctx, "twin", settings, disks) as machine:
        machine.wait_for(r"REFORGE-RESULT exit=77", 200, unless=PANIC)
        said = machine.text()
    expect("holds a copy of the same" in said, f"the reason is missing\n{said[-1500:]}")
    expect(first_nonzero(target) is None, "it was refused, and the target was written to")
