# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that stop answering or disappear: reported, and the command ends within seconds, even if the kernel waits."""

from __future__ import annotations

import array
import fcntl
import json
import os
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import (
    DONE,
    INTERRUPTED,
    IO_ERROR,
    MIB,
    Context,
    Ended,
    Skip,
    go_on,
    halt,
    same,
    tool,
    until,
    worker_of,
)

# Time limit for a command to end after a signal: 5 s, and some margin for a busy host.
LIMIT = 6.0


def raw_disk(ctx: Context, name: str, mebibytes: int) -> Path:
    """A disk of random bytes, which are slow to store."""
    path = ctx.folder / name
    with path.open("wb") as file:
        for _ in range(mebibytes // 8):
            file.write(ctx.random.randbytes(8 * MIB))
    return path


@contextmanager
def filesystem(ctx: Context, mebibytes: int) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """An ext4 on a loop device, with functions to freeze and thaw it: its writers wait uninterruptibly meanwhile."""
    if shutil.which("fsfreeze") is None:
        raise Skip("no fsfreeze")
    backing = ctx.folder / "backing"
    with backing.open("wb") as file:
        file.truncate(mebibytes * MIB)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", backing)
    place = ctx.folder / "place"
    ctx.mount("-o", "loop", backing, place)
    frozen = False

    def freeze() -> None:
        nonlocal frozen
        tool("fsfreeze", "--freeze", place)
        frozen = True

    def thaw() -> None:
        nonlocal frozen
        if frozen:
            tool("fsfreeze", "--unfreeze", place)
        frozen = False

    try:
        yield place, freeze, thaw
    finally:
        thaw()


@contextmanager
def loop_device(ctx: Context, name: str, mebibytes: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """A loop device, with a function that removes its medium."""
    backing = ctx.folder / name
    if not backing.exists():
        with backing.open("wb") as file:
            file.truncate(mebibytes * MIB)
    device = tool("losetup", "--find", "--show", backing).strip()

    def take_out() -> None:
        # Pages that the kernel writes out in between lengthen the file again.
        while int(tool("blockdev", "--getsize64", device)):
            os.truncate(backing, 0)
            tool("losetup", "--set-capacity", device)

    try:
        yield device, take_out
    finally:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def halted_at(ctx: Context, moment: Callable[[int], bool], *words: str | Path) -> subprocess.Popen[str]:
    """A command that is halted when `moment` of its worker process is true."""
    child = ctx.start(*words)
    if not until(lambda: child.poll() is not None or moment(worker_of(child.pid))) or child.poll() is not None:
        child.kill()
        raise AssertionError(f"it does not come to the moment: {ctx.wait(child)}")
    halt(child)
    return child


def writes_in(folder: Path, at_least: int = 0) -> Callable[[int], bool]:
    """A condition: a process has an open file of at least so many bytes in a folder."""

    def holds(process: int) -> bool:
        with suppress(OSError):
            return any(
                str(link.readlink()).startswith(f"{folder}/") and link.stat().st_size >= at_least
                for link in Path(f"/proc/{process}/fd").iterdir()
            )
        return False

    return holds


def gone_on(ctx: Context, child: subprocess.Popen[str]) -> tuple[Ended, float]:
    """Continues a halted command; gives its result and the seconds it took."""
    started = time.monotonic()
    go_on(child)
    ended = ctx.wait(child, timeout=60)
    seconds = time.monotonic() - started
    ctx.note(f"ended after {seconds:.1f} s: {ended.err.splitlines()[-1]}")
    return ended, seconds


def interrupted(ctx: Context, child: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[Ended, float]:
    """Sends a signal to a command; gives its result and the seconds it took."""
    started = time.monotonic()
    child.send_signal(number)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        # The pipes stay open as long as the process exists.
        raise AssertionError("it does not end within 30 s") from None
    ended = ctx.wait(child, timeout=10)
    return ended, time.monotonic() - started


def is_waiting(process: int) -> bool:
    """Whether a thread of a process waits uninterruptibly."""
    states = [
        path.read_text().rsplit(")", 1)[1].split()[0] for path in Path(f"/proc/{process}/task").glob("*/stat")
    ]
    return "D" in states


def no_longer(process: int) -> bool:
    """Whether a process disappears within 20 s."""
    return until(lambda: not Path(f"/proc/{process}").exists(), 20)


def test_stalled_destination(ctx: Context) -> None:
    """A capture whose destination stops answering reports it after 30 s, and ends within 5 s of Ctrl-C."""
    disk = raw_disk(ctx, "disk", 384)
    with filesystem(ctx, 512) as (place, freeze, thaw):
        image = place / "x.img.zst"
        # After its first chunks: earlier there is no progress to show.
        child = halted_at(ctx, writes_in(place, 4 << 20), "capture", disk, image, "--json")
        worker = worker_of(child.pid)
        freeze()
        go_on(child)
        ctx.that("its thread waits uninterruptibly", until(lambda: is_waiting(worker), 20))
        time.sleep(32)
        ended, seconds = interrupted(ctx, child)
        ctx.note(f"ended after {seconds:.1f} s: {ended.err.splitlines()[-1]}")
        ctx.that("it ends within 5 s of SIGINT", seconds < LIMIT, seconds)
        ctx.that("with 75", ended.status == INTERRUPTED, ended)
        ctx.that("the wait is reported after 30 s", f"waiting for 30 s for {image} (write)" in ended.err, ended)
        ctx.that("the stall replaces the time left", ", no byte for " in ended.err, ended)
        ctx.that("the abandoned operation is named", f"gave up on {image} (write)" in ended.err, ended)
        ctx.that("and the remains", f"Nothing was left at {image}; the disk was only read." in ended.err, ended)
        ctx.that("--json has the exit code", ended.json()["exitCode"] == INTERRUPTED, ended)
        ctx.that("the kernel keeps the waiting process", Path(f"/proc/{worker}").exists())
        thaw()
        ctx.that("which ends when the disk answers again", no_longer(worker))
        ctx.that("no file is left on the disk", not [path for path in place.iterdir() if path.is_file()])
        ended = ctx.reforge("capture", disk, image)
        ctx.that("the same command works then", ended.status == DONE, ended)
        image.unlink()
        freeze()
        child = ctx.start("capture", disk, image)
        ctx.that("a capture that cannot create a file waits", until(lambda: is_waiting(worker_of(child.pid)), 20))
        ended, seconds = interrupted(ctx, child, signal.SIGTERM)
        ctx.that("and ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
        thaw()


def test_stalled_repository(ctx: Context) -> None:
    """A repository whose disk stops answering: the command ends, and the next one works."""
    disk = raw_disk(ctx, "disk", 96)
    with filesystem(ctx, 256) as (place, freeze, thaw):
        repository = place / "repository"
        ctx.done("init-repo", repository)
        child = halted_at(ctx, lambda _: any((repository / "tmp").iterdir()), "capture", disk, f"{repository}@")
        worker = worker_of(child.pid)
        freeze()
        go_on(child)
        ctx.that("its thread waits uninterruptibly", until(lambda: is_waiting(worker), 20))
        ended, seconds = interrupted(ctx, child)
        ctx.that("it ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
        ctx.that("and reports the remains", "No snapshot was made" in ended.err, ended)
        thaw()
        ctx.that("the process ends when the disk answers again", no_longer(worker))
        ended = ctx.reforge("capture", disk, f"{repository}@")
        ctx.that("the same command works then", ended.status == DONE, ended)
        why = ctx.litter(repository)
        ctx.that("and removes the remains", not why, why)


@contextmanager
def exported(ctx: Context, disk: Path, bytes_a_second: int = 0) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A file served by a program, which can be halted and whose rate can be limited (0: no limit); and that program."""
    if shutil.which("qemu-storage-daemon") is None or not Path("/dev/fuse").exists():
        raise Skip("no qemu-storage-daemon, or no FUSE")
    place = ctx.folder / "exported"
    place.touch()
    server = subprocess.Popen(
        ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={disk}",
         "--object", f"throttle-group,id=slow,x-bps-write={bytes_a_second}",
         "--blockdev", "driver=throttle,node-name=slowly,file=disk,throttle-group=slow",
         "--export", f"fuse,id=e,node-name=slowly,mountpoint={place},writable=on,allow-other=off"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        if not until(lambda: server.poll() is not None or os.path.ismount(place), 20) or server.poll() is not None:
            raise Skip("qemu-storage-daemon cannot export through FUSE here")
        yield place, server
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait(20)
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def test_stalled_source(ctx: Context) -> None:
    """A capture of a disk that stops answering ends within 5 s of Ctrl-C, and leaves nothing."""
    disk = raw_disk(ctx, "disk", 96)
    out = ctx.folder / "out"
    out.mkdir()
    with exported(ctx, disk) as (place, server):
        device = tool("losetup", "--find", "--show", "--direct-io=off", place).strip()
        try:
            child = halted_at(ctx, writes_in(out), "capture", device, out / "x.img.zst")
            server.send_signal(signal.SIGSTOP)
            go_on(child)
            ctx.that("its thread waits uninterruptibly", until(lambda: is_waiting(worker_of(child.pid)), 20))
            ended, seconds = interrupted(ctx, child)
            ctx.that("it ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
            ctx.that("and names the abandoned read", f"gave up on {device} (read)" in ended.err, ended)
            ctx.that("nothing is left", not list(out.iterdir()), list(out.iterdir()))
        finally:
            server.send_signal(signal.SIGCONT)
            until(lambda: subprocess.run(["losetup", "--detach", device], check=False).returncode == 0, 10)


def test_stalled_target(ctx: Context) -> None:
    """A restore onto a disk that stops answering ends within 5 s of Ctrl-C, reports a partial disk, resumes later."""
    disk = raw_disk(ctx, "disk", 96)
    image = ctx.folder / "x.img.zst"
    ctx.done("capture", disk, image)
    with filesystem(ctx, 256) as (place, freeze, thaw):
        target = place / "target"
        with target.open("wb") as file:
            file.truncate(96 * MIB)
        device = tool("losetup", "--find", "--show", target).strip()
        try:
            child = halted_at(ctx, lambda worker: has_written(worker, 16 * MIB), "restore", image, device, "--yes", "--json")
            freeze()
            go_on(child)
            ctx.that("its thread waits uninterruptibly", until(lambda: is_waiting(worker_of(child.pid)), 20))
            ended, seconds = interrupted(ctx, child)
            ctx.that("it ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
            ctx.that("and the disk's state", f"{device} is partly written" in ended.err, ended)
            ctx.that("--json has the state", ended.json()["diskState"] == "partial", ended)
            thaw()
            again: list[Ended] = []

            def is_done() -> bool:
                again.append(ctx.reforge("restore", image, device, "--yes", "--no-boot-repair"))
                return again[-1].status == DONE

            # The waiting process holds the disk until it ends.
            ctx.that("the same command resumes once the disk answers", until(is_done, 60), again[-1])
            tool("sync", "--file-system", target)
            ctx.that("and ends with the right bytes", same(disk, target))
        finally:
            thaw()
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def test_slow_target(ctx: Context) -> None:
    """A slow disk that still answers: Ctrl-C ends the command, and the disk is reported as slow, not as dead."""
    disk = raw_disk(ctx, "disk", 32)
    image = ctx.folder / "x.img.zst"
    ctx.done("capture", disk, image)
    held = ctx.folder / "held"
    with held.open("wb") as file:
        file.truncate(32 * MIB)
    with exported(ctx, held, 3 * MIB) as (place, _):
        device = tool("losetup", "--find", "--show", "--direct-io=off", place).strip()
        try:
            child = ctx.start("restore", image, device, "--yes", "--json", "--no-boot-repair")
            if not until(lambda: has_written(worker_of(child.pid), 24 * MIB) and is_waiting(worker_of(child.pid)), 60):
                raise AssertionError(f"it does not come to wait for its disk: {ctx.wait(child)}")
            ended, seconds = interrupted(ctx, child)
            ctx.note(f"ended after {seconds:.1f} s: {ended.err.splitlines()[-1]}")
            ctx.that("it ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
            ctx.that("and calls the disk slow", "whose disk is slow" in ended.err, ended)
            ctx.that("and the state", f"{device} is partly written" in ended.err and "in use" in ended.err, ended)
            again: list[Ended] = []

            def is_done() -> bool:
                again.append(ctx.reforge("restore", image, device, "--yes", "--no-boot-repair"))
                return again[-1].status == DONE

            ctx.that("the same command works once the disk has finished", until(is_done, 120), again[-1])
        finally:
            until(lambda: subprocess.run(["losetup", "--detach", device], check=False).returncode == 0, 10)
    ctx.that("and ends with the right bytes", same(disk, held))


def test_program_at_work(ctx: Context) -> None:
    """An interrupted restore waits for a resize tool and reports it, but not if the tool's disk does not answer."""
    disk = ctx.folder / "disk"
    with disk.open("wb") as file:
        file.truncate(66 * MIB)
    tool("sfdisk", "-q", disk, input="label: gpt\nstart=1M, size=64M, type=L\n")
    tool("mke2fs", "-q", "-t", "ext4", "-E", f"offset={MIB}", disk, "64M")
    image = ctx.folder / "x.img.zst"
    ctx.done("capture", disk, image)
    begun, go, programs = ctx.folder / "begun", ctx.folder / "go", ctx.folder / "programs"
    programs.mkdir()
    wrapper = programs / "resize2fs"
    wrapper.write_text(f"#!/bin/sh\n: >{begun}\nwhile [ ! -e {go} ]; do sleep 0.1; done\nexec /sbin/resize2fs \"$@\"\n")
    wrapper.chmod(0o755)
    # First in the search path, for this test only.
    ctx.mount("--bind", programs, Path("/usr/local/sbin"))
    os.environ["PATH"] = f"/usr/local/sbin:{os.environ['PATH']}"
    with filesystem(ctx, 256) as (place, freeze, thaw):
        target = place / "target"
        with target.open("wb") as file:
            file.truncate(200 * MIB)
        device = tool("losetup", "--find", "--show", target).strip()
        words = ["restore", image, device, "--yes", "--layout", "grow", "--no-boot-repair"]
        try:
            child = ctx.start(*words)
            if not until(begun.exists, 60):
                raise AssertionError(f"resize2fs is not started: {ctx.wait(child)}")
            child.send_signal(signal.SIGINT)
            time.sleep(5)
            ctx.that("the restore waits for resize2fs", child.poll() is None)
            go.touch()
            ended = ctx.wait(child)
            ctx.that("and says so", "waiting for `resize2fs`, which must end its work first" in ended.err, ended)
            ctx.that("and then the restore ends (75)", ended.status == INTERRUPTED and "partly written" in ended.err, ended)
            begun.unlink()
            go.unlink()
            child = ctx.start(*words)
            if not until(begun.exists, 60):
                raise AssertionError(f"resize2fs is not started: {ctx.wait(child)}")
            freeze()
            go.touch()
            stuck = [process for process in children_of(worker_of(child.pid)) if until(lambda: is_waiting(process), 20)]
            ctx.that("resize2fs waits for its disk", stuck)
            ended, seconds = interrupted(ctx, child)
            ctx.note(f"ended after {seconds:.1f} s: {ended.err.splitlines()[-1]}")
            ctx.that("it ends within 5 s (75)", ended.status == INTERRUPTED and seconds < LIMIT, f"{seconds} s, {ended}")
            ctx.that("and reports which disk", "gave up on the disk that `resize2fs` waits for" in ended.err, ended)
            ctx.that("and reports the target's state", f"{device} is partly written" in ended.err, ended)
            thaw()
            ctx.that("the program ends when its disk answers", all(no_longer(process) for process in stuck))
            ended = ctx.reforge(*words)
            ctx.that("and the same command completes the restore", ended.status == DONE, ended)
            tool("e2fsck", "-fn", f"{target}?offset={MIB}")
        finally:
            thaw()
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)
            ctx.unmount(Path("/usr/local/sbin"))


def children_of(process: int) -> list[int]:
    """The child processes of a process."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def has_written(process: int, byte_count: int) -> bool:
    """Whether a process has written that much."""
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return any(line.startswith("wchar:") and int(line.split()[1]) > byte_count for line in lines)


def test_stalled_pipe(ctx: Context) -> None:
    """A capture into a pipe without a reading process ends within 5 s of Ctrl-C."""
    disk = raw_disk(ctx, "disk", 16)
    child = ctx.start("capture", disk, "-")
    held = array.array("i", [0])

    def is_full() -> bool:
        fcntl.ioctl(child.stdout, termios.FIONREAD, held)  # type: ignore[arg-type]
        return held[0] >= 60_000

    if not until(is_full):
        raise AssertionError("it writes nothing")
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    status = child.wait(20)
    seconds = time.monotonic() - started
    ctx.that("the capture ends (75)", status == INTERRUPTED and seconds < LIMIT, f"{status} after {seconds} s")
    ctx.wait(child)


def test_destination_that_goes(ctx: Context) -> None:
    """The disk of a destination disappears: the capture fails at once, with the reason."""
    disk = raw_disk(ctx, "disk", 96)
    with loop_device(ctx, "stick", 160) as (device, take_out):
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", device)
        place = ctx.folder / "place"
        ctx.mount(device, place)
        child = halted_at(ctx, writes_in(place), "capture", disk, place / "x.img.zst", "--json")
        take_out()
        ended, seconds = gone_on(ctx, child)
        ctx.that("it fails within 5 s (74)", ended.status == IO_ERROR and seconds < LIMIT, f"{seconds} s, {ended}")
        ctx.that("and names the missing disk", f"{device} is gone" in ended.err, ended)
        ctx.that("and reports the source's state", "the disk was only read" in ended.err, ended)
        ctx.that("--json has the exit code", ended.json()["exitCode"] == IO_ERROR, ended)
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def test_source_that_goes(ctx: Context) -> None:
    """A source that disappears is not treated as unreadable sectors, not even by --rescue."""
    raw_disk(ctx, "source", 96)
    out = ctx.folder / "out"
    for rescue in ([], ["--rescue"]):
        kind = "with --rescue" if rescue else "plainly"
        if not (ctx.folder / "source").stat().st_size:
            raw_disk(ctx, "source", 96)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with loop_device(ctx, "source", 96) as (device, take_out):
            child = halted_at(ctx, writes_in(out), "capture", device, out / "x.img.zst", *rescue)
            take_out()
            ended, seconds = gone_on(ctx, child)
            ctx.that(f"{kind}: it fails (74)", ended.status == IO_ERROR and seconds < LIMIT, f"{seconds} s, {ended}")
            ctx.that(f"{kind}: and names the missing disk", f"{device} is gone" in ended.err, ended)
            ctx.that(f"{kind}: no sector counts as damaged", "They become zeros" not in ended.err, ended)
            ctx.that(f"{kind}: nothing is left", not list(out.iterdir()), list(out.iterdir()))


def test_target_that_goes(ctx: Context) -> None:
    """A target that disappears: the restore fails, and reports the disk as partial."""
    disk = raw_disk(ctx, "disk", 96)
    image = ctx.folder / "x.img.zst"
    ctx.done("capture", disk, image)
    with loop_device(ctx, "target", 96) as (device, take_out):
        child = halted_at(ctx, lambda worker: has_written(worker, 8 * MIB), "restore", image, device, "--yes", "--json")
        take_out()
        started = time.monotonic()
        go_on(child)
        ended = ctx.wait(child, timeout=60)
        seconds = time.monotonic() - started
        ctx.that("it fails (74)", ended.status == IO_ERROR and seconds < LIMIT, f"{seconds} s, {ended}")
        ctx.that("and names the missing disk", f"{device} is gone" in ended.err, ended)
        ctx.that("and reports its state", f"{device} is partly written" in ended.err, ended)
        ctx.that("--json has the state", json.loads(ended.out)["diskState"] == "partial", ended)


def test_attendant(ctx: Context) -> None:
    """The parent process ends like its worker, and a kill of the parent ends the worker."""
    fifo = ctx.folder / "image"
    os.mkfifo(fifo)
    for number in (signal.SIGKILL, signal.SIGQUIT):
        child = ctx.start("verify", fifo)
        found: list[int] = []
        until(lambda: found.append(worker_of(child.pid)) or found[-1] != child.pid, 20)
        worker = found[-1]
        ctx.that("a child does the work", worker != child.pid)
        os.kill(worker, number)
        ended = ctx.wait(child)
        ctx.that(f"the end of the child by {number.name} is passed on", ended.status == -number, ended)
    child = ctx.start("verify", fifo)
    until(lambda: worker_of(child.pid) != child.pid, 20)
    worker = worker_of(child.pid)
    child.kill()
    ctx.wait(child)
    ctx.that("SIGKILL of the parent ends the child", no_longer(worker))
