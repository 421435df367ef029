# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports: the same bytes in every format, nothing left after a failure, and no failure without a word."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults import (
    CANNOT_CREATE, DAMAGED, DONE, INTERRUPTED, MIB, NOT_FOUND, REFUSED, USAGE, Context, Ended, Skip, same, tool, until,
)  # fmt: skip
from test_salvage import chunk_of, flip, sample

FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vhdx": "vhdx", "vhd": "vpc", "vdi": "vdi", "img": "raw"}


def needs_fuse(ctx: Context) -> None:
    """Skips without FUSE."""
    if not Path("/dev/fuse").exists() or not shutil.which("fusermount3"):
        raise Skip("no FUSE here")


def expected(ctx: Context, image: Path | str, byte_count: int) -> Path:
    """A plain restore of the same image."""
    target = ctx.folder / "expected.raw"
    ended = ctx.restore(image, target, byte_count)
    assert ended.status == DONE, ended
    return target


def differs(out: Path, driver: str, raw: Path) -> str:
    """The difference between a disk image and a raw disk, including the length; an empty text for none."""
    words = ["qemu-img", "compare", "-f", driver, "-F", "raw", str(out), str(raw)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def told(out: Path, driver: str) -> dict[str, Any]:
    """What qemu-img says of a disk image."""
    return json.loads(tool("qemu-img", "info", "-f", driver, "--output=json", out))


def programs(folder: Path) -> list[str]:
    """The running programs whose arguments name a folder, besides the test itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in words and int(path.parent.name) != os.getpid() and "qemu" in words:
                found.append(words)
    return found


def mounts(folder: Path) -> list[str]:
    """The FUSE mounts below a folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f" {folder}/" in line and " fuse " in line]


def names(folder: Path) -> list[str]:
    """The names in a folder, with hidden ones."""
    return sorted(path.name for path in folder.iterdir())


def outputs(ctx: Context, name: str = "out") -> Path:
    """A new folder for outputs."""
    folder = ctx.folder / name
    folder.mkdir()
    return folder


def test_formats(ctx: Context) -> None:
    """Every format has the bytes and the length of a plain restore, and holes where nothing is."""
    ctx.needs("export")
    disk = ctx.make_disk("disk.raw", 48)
    image, out = ctx.folder / "disk.img.zst", outputs(ctx)
    with disk.open("r+b") as longer:
        longer.truncate(512 * MIB)
    tool("sfdisk", "-q", "--relocate", "gpt-bak-std", disk)
    ctx.done("capture", disk, image)
    raw = expected(ctx, image, disk.stat().st_size)
    for suffix, driver in FORMATS.items():
        made = out / f"disk, it's.{suffix}"
        ended = ctx.reforge("export", image, made, "--json")
        if not ctx.that(f"{suffix} is made", ended.status == DONE, ended):
            continue
        report = ended.json()
        ctx.that(f"{suffix} is as a restore", not differs(made, driver, raw), differs(made, driver, raw))
        info = told(made, driver)
        ctx.that(f"{suffix} has the disk's length", info["virtual-size"] == disk.stat().st_size, info)
        ctx.that(f"{suffix} has holes", info["actual-size"] < 80 * MIB, info)
        holes = json.loads(tool("qemu-img", "map", "-f", driver, "--output=json", made))
        # QEMU's map of a VHDX calls all of it data.
        if suffix != "vhdx":
            shown = any(not part["data"] and part["length"] > 100 * MIB for part in holes)
            ctx.that(f"the map of {suffix} shows them", shown, holes)
        ctx.that(f"the report of {suffix} is right", report["byteCount"] == disk.stat().st_size
                 and abs(report["storedByteCount"] - made.stat().st_blocks * 512) < MIB
                 and report["format"] == {"img": "raw"}.get(suffix, suffix), report)  # fmt: skip
        if suffix == "vmdk":
            ctx.that("a VMDK names itself", made.name.encode() in made.read_bytes()[:4096])
    ctx.that("nothing else is left", names(out) == sorted(f"disk, it's.{suffix}" for suffix in FORMATS), names(out))


def test_sources(ctx: Context) -> None:
    """Snapshots, encrypted images, archives, and raw disks are exported like images."""
    ctx.needs("export")
    disk, out = ctx.make_disk("disk.raw", 32), outputs(ctx)
    password = ctx.password_file()
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    snapshot = ctx.capture(disk, repository)
    sources: dict[str, tuple[Path | str, list[str | Path]]] = {
        "snapshot": (f"{repository}@latest", []), "id": (f"{repository}@{snapshot}", []), "raw": (disk, []),
    }  # fmt: skip
    ctx.done("capture", disk, ctx.folder / "a.img.enc", "--encrypt", "--password-file", password)
    sources["encrypted"] = (ctx.folder / "a.img.enc", ["--password-file", password])
    ctx.done("capture", disk, ctx.folder / "a.img.xz", "--codec", "xz")
    sources["archive"] = (ctx.folder / "a.img.xz", [])
    tool("zstd", "-q", "-o", ctx.folder / "compressed.img.zst", disk)
    sources["compressed"] = (ctx.folder / "compressed.img.zst", [])
    raw = expected(ctx, sources["archive"][0], disk.stat().st_size)
    for name, (source, more) in sources.items():
        made = out / f"{name}.qcow2"
        ended = ctx.reforge("export", source, made, *more)
        if ctx.that(f"{name}: it is made", ended.status == DONE, ended):
            ctx.that(f"{name}: it is as a restore", not differs(made, "qcow2", raw), differs(made, "qcow2", raw))
    device = tool("losetup", "--find", "--show", "--read-only", disk).strip()
    try:
        ended = ctx.reforge("export", device, out / "device.qcow2")
        ctx.that("a device is exported", ended.status == DONE and not differs(out / "device.qcow2", "qcow2", raw), ended)
    finally:
        tool("losetup", "--detach", device)
    ended = ctx.reforge("export", sources["encrypted"][0], out / "wrong.qcow2")
    ctx.that("an encrypted image needs its password", ended.status == REFUSED and not (out / "wrong.qcow2").exists(), ended)


def file_in(raw: Path, name: str, offset: int = MIB) -> bytes:
    """The contents of a file in an ext4 of a raw disk."""
    words = ["debugfs", "-R", f"cat {name}", f"{raw}?offset={offset}"]
    return subprocess.run(words, capture_output=True, check=True, timeout=60).stdout


def wrong_size(made: Path, driver: str, byte_count: int, files: dict[str, bytes], least: int) -> str:
    """The fault of a disk that was laid out again; an empty text for none."""
    raw = made.with_suffix(".plain")
    try:
        tool("qemu-img", "convert", "-f", driver, "-O", "raw", made, raw)
        if raw.stat().st_size != byte_count:
            return f"the disk has {raw.stat().st_size} bytes"
        table = json.loads(tool("sfdisk", "--json", raw))["partitiontable"]["partitions"][0]
        if not least * MIB <= table["size"] * 512 <= byte_count:
            return f"its partition has {table['size']} sectors"
        checked = subprocess.run(["e2fsck", "-fn", f"{raw}?offset={MIB}"], capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            return checked.stdout + checked.stderr
        lost = [name for name, content in files.items() if file_in(raw, name) != content]
        return f"other contents: {lost}" if lost else ""
    finally:
        raw.unlink(missing_ok=True)


def test_other_sizes(ctx: Context) -> None:
    """--size makes a larger or a smaller disk of every format, with its filesystem fitted to it."""
    ctx.needs("export")
    needs_fuse(ctx)
    made, out = sample(ctx), outputs(ctx)
    for suffix, driver in FORMATS.items():
        larger = out / f"larger.{suffix}"
        ended = ctx.reforge("export", made.image, larger, "--size", "80M", "--json")
        if ctx.that(f"a larger {suffix} is made", ended.status == DONE, ended):
            why = wrong_size(larger, driver, 80 * MIB, made.files, 70)
            ctx.that(f"the larger {suffix} is whole", not why, why)
            ctx.that(f"the plan of {suffix} names the output", ended.json()["plan"]["target"]["path"] == str(larger), ended)
            ctx.that(f"no message names another file ({suffix})", "/disk " not in ended.err and "reforge-qemu" not in ended.said, ended)
        larger.unlink(missing_ok=True)
    smaller = out / "smaller.qcow2"
    ended = ctx.reforge("export", made.image, smaller, "--size", "30M")
    if ended.status == REFUSED and ("device-mapper" in ended.said or "dmsetup" in ended.said):
        ctx.skipped(f"no device-mapper for a smaller disk: {ended.err.strip()}")
        ctx.that("a refused export leaves nothing", names(out) == [], names(out))
    elif ctx.that("a smaller qcow2 is made", ended.status == DONE, ended):
        why = wrong_size(smaller, "qcow2", 30 * MIB, made.files, 20)
        ctx.that("the smaller qcow2 is whole", not why, why)
        smaller.unlink()
    ended = ctx.reforge("export", made.image, out / "tiny.qcow2", "--size", "3M")
    ctx.that("a size that is too small is refused", ended.status not in (DONE, USAGE), ended)
    ended = ctx.reforge("export", made.image, out / "odd.qcow2", "--size", "1000")
    ctx.that("a size of no whole sectors is an error", ended.status == USAGE, ended)
    ctx.that("nothing is left", names(out) == [] and not programs(out) and not mounts(Path("/tmp")), names(out))


def interrupted(ctx: Context, words: list[str | Path], number: signal.Signals, seconds: float) -> Ended:
    """Runs an export, and sends it a signal after a time."""
    child = ctx.start(*words)
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=seconds)
    if child.poll() is None:
        child.send_signal(number)
    return ctx.wait(child)


def ways(ctx: Context, image: Path, out: Path) -> list[tuple[list[str | Path], float]]:
    """A direct export and, with FUSE, one onto another size; each with the seconds that it takes."""
    found: list[list[str | Path]] = [["export", image, out / "disk.qcow2"]]
    if Path("/dev/fuse").exists():
        found.append(["export", image, out / "disk.qcow2", "--size", "256M"])
    timed = []
    for words in found:
        started = time.monotonic()
        ctx.done(*words)
        timed.append((words, time.monotonic() - started))
        (out / "disk.qcow2").unlink()
    return timed


def test_interrupted(ctx: Context) -> None:
    """Ctrl-C at any moment leaves a complete output or nothing, no program, and no mount."""
    ctx.needs("export")
    disk, out = ctx.make_disk("disk.raw", 160), outputs(ctx)
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image)
    for words, seconds in ways(ctx, image, out):
        for _ in range(ctx.of(4, 25)):
            at = ctx.random.uniform(0.01, seconds * 1.1)
            ended = interrupted(ctx, words, ctx.random.choice([signal.SIGINT, signal.SIGTERM]), at)
            left = names(out)
            holds = (ended.status == DONE and left == ["disk.qcow2"]) or (
                ended.status in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM) and left == [])
            ctx.that(f"after {at:.2f} of {seconds:.2f} s: {ended.status}", holds, f"{left}\n{ended}")
            ctx.that("no program is left", until(lambda: not programs(out), 5), programs(out))
            ctx.that("no mount is left", not mounts(Path("/tmp")) and not mounts(ctx.folder))
            (out / "disk.qcow2").unlink(missing_ok=True)


def test_killed(ctx: Context) -> None:
    """kill -9 at any moment leaves no program and no mount, and the next export removes the unfinished file."""
    ctx.needs("export")
    disk, out = ctx.make_disk("disk.raw", 160), outputs(ctx)
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image)
    raw = expected(ctx, image, disk.stat().st_size)
    for words, seconds in ways(ctx, image, out):
        for _ in range(ctx.of(3, 15)):
            at = ctx.random.uniform(0.05, seconds)
            killed = ctx.kill(words, lambda passed, at=at: passed >= at)
            if not killed.was_killed:
                (out / "disk.qcow2").unlink(missing_ok=True)
                continue
            ctx.that("no program is left", until(lambda: not programs(out), 10), programs(out))
            ctx.that("no mount is left", until(lambda: not mounts(Path("/tmp")) and not mounts(ctx.folder), 10))
            # It may have been killed behind its last step.
            whole = "disk.qcow2" not in names(out) or not differs(out / "disk.qcow2", "qcow2", raw)
            ctx.that("no output looks complete that is not", whole, names(out))
            (out / "disk.qcow2").unlink(missing_ok=True)
        ctx.done("export", image, out / "disk.qcow2")
        ctx.that("the next export removes what was left", names(out) == ["disk.qcow2"], names(out))
        ctx.that("and is whole", not differs(out / "disk.qcow2", "qcow2", raw))
        (out / "disk.qcow2").unlink()


def test_no_room(ctx: Context) -> None:
    """Without space for the output, the export says so (73), and leaves nothing."""
    ctx.needs("export")
    disk, image = ctx.make_disk("disk.raw", 64), ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image)
    small = ctx.folder / "small"
    ctx.mount("-t", "tmpfs", "-o", "size=8m", "none", small)
    more = [[], ["--size", "80M"]] if Path("/dev/fuse").exists() else [[]]
    for suffix in FORMATS:
        for options in more:
            ended = ctx.reforge("export", image, small / f"disk.{suffix}", *options)
            name = " ".join([suffix, *options])
            ctx.that(f"{name}: no room (73)", ended.status == CANNOT_CREATE and "no space" in ended.said, ended)
            ctx.that(f"{name}: nothing is left", names(small) == [], names(small))
    ctx.that("no program is left", not programs(small), programs(small))


def test_damage(ctx: Context) -> None:
    """What an image has lost ends the export (65), and becomes zeros only with --salvage."""
    ctx.needs("export")
    made, out = sample(ctx), outputs(ctx)
    whole = expected(ctx, made.image, made.byte_count)
    frame, stored, start, end = chunk_of(made.image, made.place_of_victim())
    flip(made.image, frame + 72 + stored // 2)
    for options in [[], ["--layout", "keep"]] if Path("/dev/fuse").exists() else [[]]:
        ended = ctx.reforge("export", made.image, out / "disk.qcow2", *options)
        ctx.that(f"{options}: it fails (65) and names --salvage", ended.status == DAMAGED and "--salvage" in ended.said, ended)
        ctx.that(f"{options}: there is no output", names(out) == [], names(out))
    ended = ctx.reforge("export", made.image, out / "disk.qcow2")
    ctx.that("the message names the partition", "partition 1" in ended.said, ended)
    ended = ctx.reforge("export", made.image, out / "disk.img", "--salvage", "--json")
    ctx.that("with --salvage it ends with 65, and lists the losses", ended.status == DAMAGED and ended.json()["lost"], ended)
    data, right = (out / "disk.img").read_bytes(), whole.read_bytes()
    ctx.that("and lost bytes are zeros, all others right", data == right[:start] + bytes(end - start) + right[end:])
    incomplete = ctx.folder / "incomplete.img.zst"
    ended = ctx.reforge("copy", made.image, incomplete, "--salvage")
    ctx.that("a copy has what is left", ended.status == DAMAGED and incomplete.exists(), ended)
    for options in [[], ["--size", "80M"]]:
        ended = ctx.reforge("export", incomplete, out / "hole.img", *options)
        why = ended.status == DAMAGED and "could not be read" in ended.said and "partition 1" in ended.said
        ctx.that(f"{options}: ranges without contents end it (65)", why and not (out / "hole.img").exists(), ended)
    ended = ctx.reforge("export", incomplete, out / "hole.img", "--salvage", "--json")
    ctx.that("with --salvage they are zeros, and listed (65)", ended.status == DAMAGED and ended.json()["unreadable"], ended)
    ctx.that("and the disk is the same", same(out / "hole.img", out / "disk.img"))


def test_export_refusals(ctx: Context) -> None:
    """An existing file stays, unless it is a disk image of that format, with --overwrite, that nothing uses."""
    ctx.needs("export")
    disk, image, out = ctx.make_disk("disk.raw", 16), ctx.folder / "disk.img.zst", outputs(ctx)
    ctx.done("capture", disk, image)
    before = image.read_bytes()
    made = out / "disk.qcow2"

    def refused(name: str, status: int, *words: str | Path) -> None:
        ended = ctx.reforge("export", *words)
        ctx.that(f"{name} ({status})", ended.status == status, ended)

    refused("no such image", NOT_FOUND, ctx.folder / "none.img.zst", made)
    refused("no such folder", CANNOT_CREATE, image, out / "none/disk.qcow2")
    refused("no format", USAGE, image, out / "disk.iso")
    refused("an unknown format", USAGE, image, made, "--format", "iso")
    refused("from a pipe", USAGE, "-", made)
    refused("to a pipe", USAGE, image, "-")
    refused("onto a device", CANNOT_CREATE, image, "/dev/full", "--format", "raw", "--overwrite")
    refused("onto the image itself", REFUSED, image, image, "--format", "raw", "--overwrite")
    refused("onto another image", REFUSED, disk, image, "--format", "qcow2", "--overwrite")
    refused("onto the disk itself", REFUSED, disk, disk, "--format", "raw", "--overwrite")
    ctx.that("the image is unchanged", image.read_bytes() == before)
    ctx.that("there is no output", names(out) == [], names(out))
    ctx.done("export", image, made)
    refused("an existing output", CANNOT_CREATE, image, made)
    refused("an output of another format", REFUSED, image, made, "--format", "vdi", "--overwrite")
    socket = ctx.folder / "s"
    user = subprocess.Popen(
        ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={made}", "--blockdev",
         "driver=qcow2,node-name=d,file=f", "--nbd-server", f"addr.type=unix,addr.path={socket}", "--export",
         "type=nbd,id=e,node-name=d,writable=on"])  # fmt: skip
    try:
        until(socket.exists)
        inode = made.stat().st_ino
        refused("an output in use", REFUSED, image, made, "--overwrite")
        ctx.that("stays", made.stat().st_ino == inode)
    finally:
        user.kill()
        user.wait()
    ended = ctx.reforge("export", image, made, "--overwrite")
    ctx.that("it is replaced when it is free", ended.status == DONE and made.stat().st_ino != inode, ended)
    bare = ctx.folder / "bare.raw"
    with bare.open("wb") as file:
        file.truncate(16 * MIB)
    tool("mke2fs", "-q", "-F", "-t", "ext4", bare)
    ended = ctx.reforge("export", bare, out / "bare.qcow2")
    ctx.that("a bare filesystem is named", ended.status == DONE and "no disk with a partition table" in ended.said, ended)
    half = ctx.folder / "half.raw"
    shutil.copyfile(disk, half)
    os.truncate(half, 8 * MIB)
    ended = ctx.reforge("export", half, out / "half.qcow2")
    ctx.that("half a disk is named", "only a part of a disk" in ended.said, ended)
