# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources, targets and outputs with another meaning, or in use by another process, are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults import (
    CANNOT_CREATE,
    DAMAGED,
    DONE,
    IO_ERROR,
    MIB,
    REFUSED,
    Context,
    Ended,
    go_on,
    halt,
    tool,
    until,
    worker_of,
    writes_unnamed,
)


def sparse(path: Path, mebibytes: int) -> Path:
    """A file of zeros."""
    with path.open("wb") as made:
        made.truncate(mebibytes * MIB)
    return path


def is_locked(path: Path) -> bool:
    """Whether an open file description has a lock on a file or node."""
    inode = path.stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(words[1] == "OFDLCK" and words[5].endswith(f":{inode}") for words in locks)


def is_written_by_machine(path: Path) -> bool:
    """Whether QEMU holds its lock byte for writing, the last one it takes when the disk's device is created."""
    inode = path.stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(
        words[1] == "OFDLCK" and words[5].endswith(f":{inode}") and int(words[6]) <= 101
        and (words[7] == "EOF" or int(words[7]) >= 101)
        for words in locks
    )  # fmt: skip


@contextmanager
def loop_over(path: Path) -> Iterator[Path]:
    """A loop device on a file."""
    node = Path(tool("losetup", "--find", "--show", path).strip())
    try:
        yield node
    finally:
        tool("losetup", "--detach", node)


@contextmanager
def machine_with(disk: Path) -> Iterator[None]:
    """A started virtual machine with this disk and stopped processors."""
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-machine", "accel=tcg", "-m", "32", "-S", "-display", "none", "-nodefaults",
         "-drive", f"file={disk},format=raw,if=virtio"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        if not until(lambda: is_written_by_machine(disk)):
            raise AssertionError(f"QEMU does not lock {disk}")
        yield
    finally:
        machine.kill()
        machine.wait()


@contextmanager
def at_work(ctx: Context, disk: Path, *words: str | Path) -> Iterator[list[Ended]]:
    """A halted command that has locked its disk; its result is in the list afterwards."""
    child = ctx.start(*words)
    ended: list[Ended] = []
    try:
        if not until(lambda: is_locked(disk) or child.poll() is not None):
            raise AssertionError(f"{words} does not lock {disk}")
        # A capture that writes its (unnamed) file has read the counters. A restore may end soon: no wait.
        if words[0] == "capture" and not until(lambda: writes_unnamed(worker_of(child.pid))):
            raise AssertionError(f"{words} writes nothing")
        halt(child)
        yield ended
    finally:
        go_on(child)
        ended.append(ctx.wait(child))


def test_two_restores(ctx: Context) -> None:
    """The target of a running restore is refused as target and source of another command."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(ctx.random.randbytes(96 * MIB))
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image, "--level", "1")
    target = sparse(ctx.folder / "target.raw", 96)
    words = ["restore", image, target, "--yes", "--verify"]
    with at_work(ctx, target, *words) as first:
        second = ctx.reforge(*words)
        plan = ctx.reforge("restore", image, target, "--dry-run")
        captured = ctx.reforge("capture", target, ctx.folder / "target.img.zst", "--allow-partial")
        copied = ctx.reforge("copy", target, ctx.folder / "target.img.zst")
        for name, ended in ("restore", second), ("plan", plan), ("capture", captured), ("copy", copied):
            # A copy reads the file first and may find the journal of the restore.
            said = "in use" in ended.said or name == "copy" and "an interrupted restore" in ended.said
            ctx.that(f"a second {name} is refused (77)", ended.status == REFUSED and said, ended)
    ctx.that("the first restore succeeds", first[0].status == DONE and target.read_bytes() == disk.read_bytes(), first)
    with at_work(ctx, disk, "capture", disk, ctx.folder / "again.img.zst", "--level", "9") as first:
        ended = ctx.reforge("restore", image, disk, "--yes")
        other = ctx.reforge("capture", disk, ctx.folder / "other.img.zst", "--level", "1")
    ctx.that("a disk during its capture is no target (77)", ended.status == REFUSED and "in use" in ended.said, ended)
    ctx.that("but may be captured again", other.status == DONE and first[0].status == DONE, other)


def test_running_machine(ctx: Context) -> None:
    """The disk of a running virtual machine, a file or a device, is neither overwritten nor captured."""
    disk = ctx.make_disk("disk.raw", 16)
    other = ctx.make_disk("other.raw", 16)
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", other, image)
    before = disk.read_bytes()

    def try_all(place: Path) -> None:
        with machine_with(place):
            ended = ctx.reforge("restore", image, place, "--yes", "--no-boot-repair")
            plan = ctx.reforge("restore", image, place, "--dry-run")
            repair = ctx.reforge("boot-repair", place)
            captured = ctx.reforge("capture", place, ctx.folder / "live.img.zst")
            for name, refused in ("restore", ended), ("plan", plan), ("boot repair", repair), ("capture", captured):
                ctx.that(
                    f"{name} of {place} is refused (77), and QEMU is named",
                    refused.status == REFUSED and "QEMU" in refused.said, refused,
                )  # fmt: skip
            forced = ctx.reforge("capture", place, ctx.folder / "live.img.zst", "--allow-mounted")
            warned = forced.status == DONE and "QEMU" in forced.err
            ctx.that(f"--allow-mounted captures {place} with a warning", warned, forced)
            (ctx.folder / "live.img.zst").unlink(missing_ok=True)

    try_all(disk)
    with loop_over(disk) as node:
        try_all(node)
    ctx.that("the disk is unchanged", disk.read_bytes() == before)
    with machine_with(disk):
        copied = ctx.reforge("copy", disk, ctx.folder / "live.img.zst")
        ctx.that("copy refuses it as an image (77)", copied.status == REFUSED and "QEMU" in copied.said, copied)
    large = ctx.folder / "large.raw"
    large.write_bytes(ctx.random.randbytes(64 * MIB))
    with at_work(ctx, large, "capture", large, ctx.folder / "large.img.zst", "--level", "9") as first:
        said = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "write 0 512", str(large)], capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        ctx.that("QEMU cannot open a disk for writing during its capture", "lock" in said.stdout + said.stderr, said)
    ctx.that("and the capture succeeds", first[0].status == DONE, first)


def test_below_a_loop_device(ctx: Context) -> None:
    """A loop device has the owner of its file, and two loop devices on one file are one disk."""
    disk = ctx.make_disk("disk.raw", 16)
    image = ctx.folder / "other.img.zst"
    ctx.done("capture", ctx.make_disk("other.raw", 16), image)
    before = disk.read_bytes()

    def refused(node: Path, why: str, *words: str) -> None:
        for name, ended in (
            ("restore", ctx.reforge("restore", image, node, "--yes", "--no-boot-repair")),
            ("its plan", ctx.reforge("restore", image, node, "--dry-run")),
            ("capture", ctx.reforge("capture", node, ctx.folder / "live.img.zst")),
        ):
            ctx.that(
                f"{why}: {name} of {node} is refused (77), and the owner is named",
                ended.status == REFUSED and all(word in ended.said for word in words), ended,
            )  # fmt: skip

    with loop_over(disk) as node, machine_with(disk):
        refused(node, "a machine uses the file", "QEMU", str(disk))
        with loop_over(node) as upper:
            refused(upper, "a machine uses the file", "QEMU", str(disk))
    place = ctx.folder / "mounted"
    volume = sparse(ctx.folder / "volume.raw", 16)
    tool("mke2fs", "-q", "-F", "-t", "ext4", volume)
    with loop_over(volume) as first, loop_over(volume) as second, loop_over(second) as upper:
        ctx.mount(first, place)
        try:
            for node in second, upper:
                refused(node, "another loop device on the file is mounted", str(place))
        finally:
            ctx.unmount(place)
    # Loop devices on other parts of the file are other disks.
    parts = sparse(ctx.folder / "parts.raw", 40)
    halves = [
        tool("losetup", "--find", "--show", "--offset", str(offset * MIB), "--sizelimit", str(18 * MIB), parts).strip()
        for offset in (0, 20)
    ]
    try:
        tool("mke2fs", "-q", "-F", "-t", "ext4", halves[0])
        ctx.mount(halves[0], place)
        ended = ctx.reforge("restore", image, halves[1], "--yes", "--no-boot-repair")
        ctx.that("another part of the file is free", ended.status == DONE, ended)
        ctx.unmount(place)
    finally:
        for half in halves:
            tool("losetup", "--detach", half)
    # Two restores, one onto the file and one onto a loop device.
    large = ctx.folder / "large.raw"
    large.write_bytes(ctx.random.randbytes(96 * MIB))
    ctx.done("capture", large, ctx.folder / "large.img.zst", "--level", "1")
    target = sparse(ctx.folder / "target.raw", 96)
    words = ["restore", ctx.folder / "large.img.zst"]
    with loop_over(target) as node:
        with at_work(ctx, target, *words, node, "--yes", "--verify") as first_restore:
            for other in target, node:
                ended = ctx.reforge(*words, other, "--yes")
                ctx.that(f"a second restore, into {other}, is refused (77)", ended.status == REFUSED, ended)
        ctx.that("the first restore succeeds", first_restore[0].status == DONE, first_restore)
    ctx.that("and has the right bytes", target.read_bytes() == large.read_bytes())
    ctx.that("the disk is unchanged", disk.read_bytes() == before)


def test_mounted_elsewhere(ctx: Context) -> None:
    """Mounts in other mount namespaces are found: of a disk, and of a file through a loop device."""
    disk = sparse(ctx.folder / "disk.raw", 16)
    tool("mke2fs", "-q", "-F", "-t", "ext4", disk)
    image = ctx.folder / "other.img.zst"
    ctx.done("capture", ctx.make_disk("other.raw", 16), image)
    with loop_over(disk) as node:
        place = ctx.folder / "mounted"
        place.mkdir()
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount "$1" "$2" && echo mounted && exec sleep 300', "sh", str(node), str(place)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert holder.stdout and holder.stdout.readline() == "mounted\n"
            ctx.that("this namespace does not see it", str(place) not in Path("/proc/self/mountinfo").read_text())
            moved = disk.rename(ctx.folder / "renamed.raw")
            for source in moved, node:
                ended = ctx.reforge("capture", source, ctx.folder / "live.img.zst")
                ctx.that(
                    f"capture of {source} is refused (77), and the mount point is named",
                    ended.status == REFUSED and f"{place} (in the mount namespace of process {holder.pid}" in ended.err,
                    ended,
                )  # fmt: skip
                ended = ctx.reforge("restore", image, source, "--yes")
                ctx.that(
                    f"restore onto {source} is refused (77)", ended.status == REFUSED and str(place) in ended.err, ended
                )
            copied = ctx.reforge("copy", moved, ctx.folder / "live.img.zst")
            ctx.that("copy refuses it as an image (77)", copied.status == REFUSED and str(place) in copied.said, copied)
        finally:
            holder.kill()
            holder.wait()


def test_written_meanwhile(ctx: Context) -> None:
    """A source that is written during its capture gives no image."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(ctx.random.randbytes(32 * MIB))
    image = ctx.folder / "images" / "disk.img.zst"
    image.parent.mkdir()

    def scribble(place: Path) -> None:
        with place.open("r+b") as changed:
            changed.write(os.urandom(4096))
            os.fsync(changed.fileno())

    with loop_over(disk) as node:
        for place in disk, node:
            words = ["capture", place, image, "--level", "9"]
            with at_work(ctx, place, *words) as first:
                scribble(place)
            ctx.that(
                f"a capture of {place} that was written ends with 74 and the reason",
                first[0].status == IO_ERROR and "did not hold still" in first[0].said, first,
            )  # fmt: skip
            ctx.that("nothing is left", not list(image.parent.iterdir()), list(image.parent.iterdir()))
            with at_work(ctx, place, *words, "--allow-mounted") as first:
                scribble(place)
            ctx.that("--allow-mounted captures it", first[0].status == DONE, first)
            image.unlink()
            with at_work(ctx, place, *words) as first:
                place.read_bytes()
            ctx.that(f"a capture of {place} that was only read succeeds", first[0].status == DONE, first)
            image.unlink()


def test_swapped(ctx: Context) -> None:
    """With IMAGE and DISK swapped, nothing is overwritten, whatever the options."""
    disk = ctx.make_disk("disk.raw", 16)
    small = ctx.make_disk("small.raw", 8)
    image, archive, sealed = (ctx.folder / name for name in ("backup.img.zst", "backup.img.xz", "backup.img.enc"))
    ctx.done("capture", disk, image)
    ctx.done("capture", disk, archive, "--codec", "xz", "--level", "0")
    ctx.done("capture", disk, sealed, "--encrypt", "--password-file", ctx.password_file())
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    ctx.capture(disk, repository)
    pack = next(path for path in (repository / "packs").rglob("*") if path.is_file())
    virtual = ctx.folder / "machine"
    tool("qemu-img", "convert", "-O", "qcow2", disk, virtual)
    fixed = ctx.folder / "machine.vhd"
    tool("qemu-img", "convert", "-O", "vpc", "-o", "subformat=fixed,force_size", disk, fixed)
    damaged = ctx.folder / "damaged.img.zst"
    damaged.write_bytes(bytes(4096) + image.read_bytes()[4096:])

    metadata = ctx.folder / "backup.img.xz.reforge"
    for path in (image, archive, metadata, sealed, pack, repository / "repository.json", virtual, fixed, damaged):
        before = path.read_bytes()
        for more in (["--yes"], ["--dry-run"]):
            ended = ctx.reforge("restore", small, path, "--no-boot-repair", *more)
            ctx.that(
                f"restore onto {path.name} {more[0]} is refused (77)",
                ended.status == REFUSED and "swapped" in ended.said and path.read_bytes() == before, ended,
            )  # fmt: skip
        # The disks of virtual machines are sources like others.
        if path not in (metadata, virtual, fixed):
            ended = ctx.reforge("capture", path, ctx.folder / "new.img.zst")
            ctx.that(
                f"capture of {path.name} is refused (77)",
                ended.status == REFUSED and "--as-disk" in ended.said and not (ctx.folder / "new.img.zst").exists(),
                ended,
            )  # fmt: skip
    for path in (disk, virtual, pack):
        before = path.read_bytes()
        plain = ctx.reforge("capture", small, path)
        ctx.that(
            f"{path.name} as an existing output (73), without advice to use --overwrite",
            plain.status == CANNOT_CREATE and "is no image" in plain.said, plain,
        )  # fmt: skip
        forced = ctx.reforge("capture", small, path, "--overwrite")
        copied = ctx.reforge("copy", image, path, "--overwrite")
        ctx.that(f"--overwrite keeps {path.name} (77)", {forced.status, copied.status} == {REFUSED}, forced)
        ctx.that(f"{path.name} is unchanged", path.read_bytes() == before)

    ctx.done("capture", small, image, "--all-sectors", "--overwrite")
    empty = ctx.folder / "empty.img.zst"
    empty.touch()
    ctx.done("capture", small, empty, "--all-sectors", "--overwrite")
    ctx.done("capture", small, archive, "--codec", "xz", "--level", "0", "--overwrite")
    for path in (image, empty):
        why = ctx.wrong(path, small)
        ctx.that(f"--overwrite replaces {path.name}", not why, why)
    nested = ctx.folder / "nested.img.zst"
    ctx.done("capture", virtual, nested, "--as-disk")
    target = sparse(ctx.folder / "target", 1)
    with target.open("r+b") as made:
        made.truncate(virtual.stat().st_size)
    ended = ctx.restore_again(nested, target)
    ctx.that(
        "--as-disk captures the bytes of an image", ended.status == DONE and target.read_bytes() == virtual.read_bytes()
    )


def test_killed_capture(ctx: Context) -> None:
    """A killed capture into an image leaves nothing, and a later capture with the same process number works."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(ctx.random.randbytes(64 * MIB))
    folder = ctx.folder / "images"
    folder.mkdir()
    image, archive = folder / "disk.img.zst", folder / "disk.img.xz"
    # Level 19 takes seconds; at level 9, it could end before its kill.
    for words in (["capture", disk, image, "--level", "19"], ["capture", disk, archive, "--codec", "xz"]):
        kill = ctx.kill(words, lambda seconds: seconds > 0.2 and is_locked(disk))
        left = [path.name for path in folder.iterdir()]
        ctx.that(f"killed at work, {words[2]} leaves nothing", kill.was_killed and not left, f"{left}\n{kill.ended}")
    # Like in a container: each is the first process of its namespace.
    command = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", str(ctx.binary), "capture", str(disk)]
    first = subprocess.Popen([*command, str(image), "--level", "19"], stderr=subprocess.DEVNULL)
    until(lambda: is_locked(disk))
    time.sleep(0.3)
    first.kill()
    first.wait()
    # Its child is killed with it, but ends a little later, and holds the disk until then.
    until(lambda: not is_locked(disk))
    again = subprocess.run(
        [*command, str(image), "--level", "1"], capture_output=True, text=True, check=False, timeout=120
    )
    ctx.that("the next capture with this process number works", again.returncode == DONE, again)
    left = [path.name for path in folder.iterdir()]
    ctx.that("and leaves nothing beside its image", left == [image.name], left)


def test_half_restored(ctx: Context) -> None:
    """A disk with an interrupted restore is recognised, with the restore's progress."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(bytes(MIB) + ctx.random.randbytes(47 * MIB))
    image, damaged = ctx.folder / "disk.img.zst", ctx.folder / "damaged.img.zst"
    ctx.done("capture", disk, image, "--chunk-size", "1M", "--level", "1")
    contents = bytearray(image.read_bytes())
    contents[len(contents) * 2 // 3] ^= 1
    damaged.write_bytes(contents)
    target = sparse(ctx.folder / "target.raw", 48)
    ended = ctx.restore_again(damaged, target)
    ctx.that("a damaged image ends a restore (65)", ended.status == DAMAGED, ended)

    seen = ctx.done("inspect", target)
    far = re.search(r"interrupted restore of image \S+, ([0-9.]+) MiB of ([0-9.]+) MiB far", seen.out)
    ctx.that("inspect shows the progress", far and 24 < float(far[1]) < 36 and float(far[2]) == 48, seen)
    uuid = ctx.done("inspect", image, "--json").json()["imageUUID"]
    report = ctx.done("inspect", target, "--json").json()
    found = report.get("interruptedRestore") or {}
    ctx.that("so does --json", found.get("imageUUID") == uuid and found.get("byteCount") == 48 * MIB, json.dumps(found))
    new = ctx.folder / "new.img.zst"
    captured = ctx.reforge("capture", target, new)
    ctx.that(
        "capture refuses it (77)",
        captured.status == REFUSED and "interrupted restore" in captured.said and not new.exists(), captured,
    )  # fmt: skip
    copied = ctx.reforge("copy", target, new)
    ctx.that("copy refuses it, too (77)", copied.status == REFUSED and "interrupted restore" in copied.said, copied)
    ctx.done("capture", target, new, "--allow-partial")
    ctx.that("--allow-partial captures it", new.exists())
    again = ctx.restore_again(image, target, "--json")
    ctx.that(
        "the same restore prints the progress and resumes",
        again.status == DONE and (again.json().get("resumedFrom") or 0) > 24 * MIB and "MiB of 48 MiB far" in again.err,
        again,
    )  # fmt: skip
    ctx.that("the disk is whole", target.read_bytes() == disk.read_bytes())
    ctx.that("inspect no longer mentions a restore", "interrupted" not in ctx.done("inspect", target).out)
    # A disk in use since then is no interrupted restore, even with an old journal.
    ctx.restore_again(damaged, target)
    tool("sfdisk", "-q", target, input="label: gpt\ntype=L\n")
    new.unlink()
    ended = ctx.reforge("capture", target, new)
    ctx.that("a disk with a newer table is no interrupted restore", ended.status == DONE, ended)


def test_half_restored_partition(ctx: Context) -> None:
    """Interrupted restores of one partition, with --only, or onto the partition's node, are recognised."""
    disk = sparse(ctx.folder / "disk.raw", 50)
    tool("sfdisk", "-q", disk, input="label: gpt\nstart=1M, size=24M\nstart=25M, size=24M\n")
    with disk.open("r+b") as file:
        for start in (1, 25):
            file.seek(start * MIB)
            file.write(ctx.random.randbytes(24 * MIB))
    image, damaged, new = (ctx.folder / name for name in ("disk.img.zst", "damaged.img.zst", "new.img.zst"))
    ctx.done("capture", disk, image, "--chunk-size", "1M", "--level", "1")
    contents = bytearray(image.read_bytes())
    contents[len(contents) * 3 // 4] ^= 1
    damaged.write_bytes(contents)

    def known(target: Path, partition: int) -> None:
        seen = ctx.done("inspect", target)
        ctx.that("inspect names it", f"in partition {partition} an interrupted restore of image" in seen.out, seen)
        found = ctx.done("inspect", target, "--json").json().get("interruptedRestore") or {}
        ctx.that("inspect --json has it", found.get("partition") == partition, json.dumps(found))
        ended = ctx.reforge("capture", target, new)
        ctx.that(
            "capture refuses it (77)",
            ended.status == REFUSED and "interrupted restore" in ended.said and not new.exists(), ended,
        )  # fmt: skip
        # Allowed, because this raw image may be the last copy of the other partitions.
        ended = ctx.reforge("copy", target, new)
        ctx.that("copy warns", ended.status == DONE and "interrupted restore" in ended.err, ended)
        new.unlink()
        ctx.done("capture", target, new, "--allow-partial")
        new.unlink()

    target = sparse(ctx.folder / "target.raw", 50)
    ended = ctx.restore_again(image, target)
    ctx.that("the first restore succeeds", ended.status == DONE, ended)
    ended = ctx.reforge("restore", damaged, target, "--only", "2", "--yes")
    ctx.that("a damaged image ends a restore of one partition (65)", ended.status == DAMAGED, ended)
    known(target, 2)
    ended = ctx.reforge("restore", image, target, "--only", "2", "--yes")
    ctx.that("the whole image restores it", ended.status == DONE and target.read_bytes() == disk.read_bytes(), ended)
    ctx.that("inspect no longer mentions a restore", "interrupted" not in ctx.done("inspect", target).out)
    # The partition's node as the target.
    inner = ctx.folder / "inner.raw"
    inner.write_bytes(ctx.random.randbytes(20 * MIB))
    ctx.done("capture", inner, image, "--chunk-size", "1M", "--level", "1", "--overwrite")
    contents = bytearray(image.read_bytes())
    contents[len(contents) // 2] ^= 1
    damaged.write_bytes(contents)
    node = tool("losetup", "--find", "--show", "--offset", str(MIB), "--sizelimit", str(24 * MIB), target).strip()
    try:
        ended = ctx.reforge("restore", damaged, node, "--yes", "--no-boot-repair")
    finally:
        tool("losetup", "--detach", node)
    ctx.that("a damaged image ends a restore onto its node (65)", ended.status == DAMAGED, ended)
    known(target, 1)


def test_path_or_snapshot(ctx: Context) -> None:
    """A file is found by its name, whatever folders exist beside it; a name that also fits a snapshot is reported."""
    disk = ctx.make_disk("disk.raw", 8)
    image = ctx.folder / "web@home.img.zst"
    ctx.done("capture", disk, image)
    (ctx.folder / "web").mkdir()
    for words in (["verify", image], ["inspect", image], ["copy", image, ctx.folder / "web@copy.img.zst"]):
        ctx.that(f"{words[0]} finds it beside a folder", ctx.reforge(*words).status == DONE)
    (ctx.folder / "web").rmdir()
    repository = ctx.folder / "web"
    ctx.done("init-repo", repository)
    ctx.that("and beside a repository", ctx.reforge("verify", image).status == DONE)
    snapshot = ctx.capture(disk, repository)
    both = ctx.folder / "web@latest"
    both.write_bytes(image.read_bytes())
    ended = ctx.done("inspect", both, "--json")
    ctx.that(
        "web@latest is the file of that name, with a message",
        ended.json()["kind"] == "image" and "not as a snapshot" in ended.err, ended,
    )  # fmt: skip
    ended = ctx.done("inspect", f"{repository}/@latest", "--json")
    ctx.that("web/@latest is the snapshot", ended.json()["imageID"] == snapshot, ended)
