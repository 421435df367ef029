# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment and end of the process: closed descriptors, resource limits, full outputs, kills during a resize."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from faults import DONE, IO_ERROR, MIB, NOT_FOUND, Context, Skip, go_on, halt, same, tool, until, worker_of

EXACT = ["--yes", "--layout", "keep", "--no-boot-repair"]


def run_by_shell(ctx: Context, redirections: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the binary with a shell's redirections."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", str(ctx.binary), *(str(word) for word in words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=120,
        cwd=ctx.folder, env=os.environ | {"SWIFT_BACKTRACE": "enable=no"},
    )  # fmt: skip


def run_limited(ctx: Context, limit: int, value: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the binary with a resource limit."""
    return subprocess.run(
        [str(ctx.binary), *(str(word) for word in words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=120,
        cwd=ctx.folder, preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        env=os.environ | {"SWIFT_BACKTRACE": "enable=no"},
    )  # fmt: skip


def leftovers(folder: Path) -> list[str]:
    """Unfinished files."""
    return [path.name for path in folder.rglob("*") if ".partial" in path.name or path.parent.name == "tmp"]


def test_closed_descriptors(ctx: Context) -> None:
    """Captures and restores with closed standard descriptors write no message into an image or a disk."""
    disk = ctx.make_disk("disk", 24)
    before = disk.read_bytes()
    for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"):
        image, target = ctx.folder / "i.img.zst", ctx.folder / "target"
        image.unlink(missing_ok=True)
        captured = run_by_shell(ctx, closed, "capture", disk, image, "--all-sectors")
        raw = subprocess.run(["zstd", "-dc", str(image)], capture_output=True, check=False, timeout=60).stdout
        ctx.that(f"capture with {closed}", captured.returncode == DONE and raw == before, captured)
        ctx.that(f"the source of a capture with {closed} is unchanged", disk.read_bytes() == before)
        target.write_bytes(bytes(len(before)))
        restored = run_by_shell(ctx, closed, "restore", image, target, *EXACT)
        ctx.that(f"restore with {closed}", restored.returncode == DONE and same(disk, target), restored)
    for command, words in {"an image": ["capture", disk, "-"], "JSON": ["inspect", disk, "--json"]}.items():
        ended = run_by_shell(ctx, "1>&-", *words)
        ctx.that(f"{command} to a closed standard output fails", ended.returncode == IO_ERROR, ended)


def test_full_output(ctx: Context) -> None:
    """A failed write to standard output ends with a message and 74."""
    disk = ctx.make_disk("disk", 24)
    for words in (["inspect", disk], ["inspect", disk, "--json"], ["--help"], ["capture", "--help"], ["--version"]):
        ended = run_by_shell(ctx, ">/dev/full", *words)
        said = ended.stderr
        ctx.that(
            f"{' '.join(str(word) for word in words)} > /dev/full (74)",
            ended.returncode == IO_ERROR and "could not write the result" in said and "CommandFailure" not in said,
            ended,
        )
    ended = run_by_shell(ctx, ">/dev/full", "inspect", ctx.folder / "nothing", "--json")
    ctx.that(
        "an earlier failure keeps its status", ended.returncode == NOT_FOUND and "CommandFailure" not in ended.stderr, ended
    )


def test_file_size_limit(ctx: Context) -> None:
    """A file size limit is a write error with a message, and no file is left."""
    disk = ctx.make_disk("disk", 24)
    place = ctx.folder / "place"
    place.mkdir()
    repository = place / "repo"
    ctx.done("init-repo", repository)
    image = ctx.folder / "whole.img.zst"
    ctx.done("capture", disk, image, "--all-sectors")
    target = ctx.folder / "target"
    target.write_bytes(bytes(disk.stat().st_size))
    cases: dict[str, list[str | Path]] = {
        "an image": ["capture", disk, place / "x.img.zst", "--all-sectors"],
        "an archive": ["capture", disk, place / "x.img.xz", "--codec", "xz", "--level", "0", "--all-sectors"],
        "a repository": ["capture", disk, f"{repository}@", "--all-sectors"],
        "a copy": ["copy", image, place / "y.img.zst"],
        "a restore": ["restore", image, target, *EXACT],
    }
    for name, words in cases.items():
        ended = run_limited(ctx, resource.RLIMIT_FSIZE, 2 * MIB, *words)
        ctx.that(f"{name} past the limit (74)", ended.returncode == IO_ERROR and "EFBIG" in ended.stderr, ended)
        ctx.that(f"{name}: nothing is left", not leftovers(place), leftovers(place))
    ctx.that("there is no image", not list(place.glob("*.img.*")), list(place.glob("*")))


def test_memory_limit(ctx: Context) -> None:
    """Too little memory ends with a message, before the target is written."""
    disk = ctx.make_disk("disk", 24)
    image, target = ctx.folder / "whole.img.zst", ctx.folder / "target"
    ctx.done("capture", disk, image, "--all-sectors")
    target.write_bytes(ctx.random.randbytes(MIB) * 24)
    before = target.read_bytes()
    cases: dict[str, list[str | Path]] = {
        "capture": ["capture", disk, ctx.folder / "x.img.zst"],
        "verify": ["verify", image],
        "restore": ["restore", image, target, *EXACT],
    }
    for name, words in cases.items():
        for limit in (100_000, 120_000):
            ended = run_limited(ctx, resource.RLIMIT_AS, limit << 10, *words)
            ctx.that(
                f"{name} with ulimit -v {limit} (74)", ended.returncode == IO_ERROR and "memory" in ended.stderr, ended
            )
    ctx.that("the target is untouched", target.read_bytes() == before)
    ctx.that("nothing is left of a capture", not leftovers(ctx.folder), leftovers(ctx.folder))


def test_core_dumps(ctx: Context) -> None:
    """No core dump can hold a key: the limit is 1 byte, and the process is not dumpable."""
    fifo = ctx.folder / "image"
    os.mkfifo(fifo)
    child = ctx.start("verify", fifo)
    try:
        time.sleep(0.5)
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        core = next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size"))
        ctx.that("no core dumps", core == ["1", "1"], core)
    finally:
        child.kill()
        ctx.wait(child)


def in_use_by(target: Path) -> list[str]:
    """The loop devices on a file."""
    said = tool("losetup", "--noheadings", "--raw", "--output", "NAME", "--associated", target)
    return said.split()


class StandIn:
    """A resize tool that waits for the file `go` before its work."""

    def __init__(self, ctx: Context, name: str, when: str) -> None:
        real = shutil.which(name)
        if not real:
            raise Skip(f"{name} is not installed")
        self.folder = ctx.folder / "tools"
        self.folder.mkdir(exist_ok=True)
        self.begun, self.go = self.folder / "begun", self.folder / "go"
        path = self.folder / name
        path.write_text(
            "#!/bin/sh\nfor last; do :; done\n"
            # Like the real tool, it has the device or the mounted folder open from start to end.
            f'case "$*" in {when}) exec 9<"$last"; : >{self.begun}; while [ ! -e {self.go} ]; do sleep 0.05; done ;; esac\n'
            f'exec {real} "$@"\n'
        )
        path.chmod(0o755)
        self.path = f"{self.folder}:{os.environ['PATH']}"


def killed_growth(
    ctx: Context, name: str, make: Callable[[Path], None], stand_in: StandIn, check: list[str]
) -> None:
    """A restore is killed while a filesystem grows: the tool finishes its work, and the same command continues."""
    volume, disk, image, target = (ctx.folder / part for part in ("volume", "disk", "image.img.zst", "target"))
    make(volume)
    byte_count = volume.stat().st_size
    with disk.open("wb") as file:
        file.truncate(byte_count + 2 * MIB)
    tool("sfdisk", "-q", disk, input=f"label: gpt\nstart=2048, size={byte_count // 512}, type=L\n")
    tool("dd", f"if={volume}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse")
    ctx.done("capture", disk, image)
    with target.open("wb") as file:
        file.truncate(byte_count + 200 * MIB)
    words: list[str | Path] = ["restore", image, target, "--yes", "--no-boot-repair"]
    kill = ctx.kill(words, lambda seconds: stand_in.begun.exists() or seconds > 60, PATH=stand_in.path)
    ctx.that(f"{name}: killed while it grows", kill.was_killed and stand_in.begun.exists(), kill.ended)
    mounts = Path("/proc/self/mountinfo").read_text()
    ctx.that(f"{name}: no mount in other namespaces", "reforge-resize" not in mounts, mounts)
    again = ctx.start(*words)
    time.sleep(1.5)
    ctx.that(f"{name}: the same command waits for the tool", again.poll() is None)
    stand_in.go.touch()
    ended = ctx.wait(again)
    ctx.that(f"{name}: and continues", ended.status == DONE and "waiting for" in ended.err, ended)
    ctx.that(f"{name}: no loop device is left", not in_use_by(target), in_use_by(target))
    with target.open("rb") as file, volume.open("wb") as grown:
        file.seek(MIB)
        shutil.copyfileobj(file, grown, MIB)
    table = json.loads(tool("sfdisk", "--json", target))["partitiontable"]["partitions"][0]
    os.truncate(volume, table["size"] * 512)
    ctx.that(f"{name}: the partition has grown", table["size"] * 512 > byte_count + 190 * MIB, table)
    checked = subprocess.run([*check, str(volume)], capture_output=True, text=True, check=False, timeout=120)
    ctx.that(f"{name}: it is whole", checked.returncode == 0, checked)


def test_killed_while_btrfs_grows(ctx: Context) -> None:
    """A restore killed while a Btrfs grows leaves no mount and no loop device, and the same command continues."""

    def make(volume: Path) -> None:
        with volume.open("wb") as file:
            file.truncate(150 * MIB)
        tool("mkfs.btrfs", "-q", volume)

    killed_growth(ctx, "Btrfs", make, StandIn(ctx, "btrfs", '*"filesystem resize"*'), ["btrfs", "check", "--readonly"])


def test_killed_while_ext_grows(ctx: Context) -> None:
    """A kill during the growth of an ext4, whose tool opens the loop device and mounts nothing."""

    def make(volume: Path) -> None:
        tool("mke2fs", "-q", "-t", "ext4", volume, "64M")

    killed_growth(ctx, "ext4", make, StandIn(ctx, "resize2fs", "*"), ["e2fsck", "-fn"])


def test_signal_of_time_limit(ctx: Context) -> None:
    """A limit of processor time interrupts a capture (75)."""
    disk = ctx.make_disk("disk", 24)
    reader = subprocess.Popen(
        [str(ctx.binary), "capture", str(disk), "-"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    try:
        time.sleep(0.5)
        reader.send_signal(signal.SIGXCPU)
        _, err = reader.communicate(timeout=30)
    finally:
        reader.kill()
    ctx.that("SIGXCPU is named (75)", reader.returncode == 75 and "SIGXCPU" in err, f"{reader.returncode} {err}")


def test_mounts_of_others(ctx: Context) -> None:
    """Without mount propagation, a restore does not hold mounts of other disks; relative paths stay valid."""
    other = ctx.folder / "other"
    with other.open("wb") as file:
        file.truncate(32 * MIB)
    tool("mke2fs", "-q", "-F", "-t", "ext4", other)
    disk, target = ctx.make_disk("disk", 48), ctx.folder / "target"
    ctx.done("capture", disk, "image.img.zst")
    with target.open("wb") as file:
        file.truncate(disk.stat().st_size)
    place = ctx.folder / "place"
    ctx.mount("-o", "loop", other, place)
    child = ctx.start("restore", "image.img.zst", "target", *EXACT)
    # The worker has opened the target, after the setup of its mounts.
    opened = until(lambda: child.poll() is not None or has_open(worker_of(child.pid), target))
    ctx.that("the restore is at work", opened and child.poll() is None, child.poll())
    halt(child)
    ctx.unmount(place)
    free = until(lambda: not tool("losetup", "--associated", other).strip(), 10)
    go_on(child)
    ended = ctx.wait(child)
    ctx.that("the other disk is free at once", free)
    ctx.that("the restore is done", ended.status == DONE and same(disk, target), ended)


def has_open(process: int, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(link.readlink() == path for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False
