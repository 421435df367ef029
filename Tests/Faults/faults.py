# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared by the fault tests: running and killing the binary, disks, repositories."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

# The exit codes of the contract.
DONE, USAGE, DAMAGED, NOT_FOUND, CANNOT_CREATE, IO_ERROR, BUSY, REFUSED, AMBIGUOUS = 0, 64, 65, 66, 73, 74, 75, 77, 78
INTERRUPTED = BUSY


class Skip(Exception):
    """The test cannot run here; the message says what is missing."""


class OutOfTime(BaseException):
    """The test's time limit passed. Not an Exception, so that no test catches it by accident."""


@dataclass
class Counts:
    """Counts of checks."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, more: Counts) -> None:
        """Adds the counts of another test."""
        self.passed += more.passed
        self.failed += more.failed
        self.skipped += more.skipped


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    command: list[str]
    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its output on both streams."""
        return self.out + self.err

    @property
    def has_crashed(self) -> bool:
        """Whether a signal ended it, usually a trap."""
        return self.status < 0

    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit status {self.status}: {' '.join(self.command)}\n{self.said}"


@dataclass(frozen=True)
class Kill:
    """A command after an attempt to kill it."""

    ended: Ended
    seconds: float
    was_killed: bool


def room_for_work() -> str | None:
    """A folder in memory when 6 GiB are free there; None: the default folder for temporary files."""
    with suppress(OSError, ValueError, IndexError):
        space = os.statvfs("/dev/shm")
        memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvail"))
        if min(space.f_bavail * space.f_frsize, int(memory.split()[1]) << 10) > 6 << 30:
            return "/dev/shm"
    return None


def tool(*command: str | Path, **more: Any) -> str:
    """Runs a tool, which must succeed; gives its standard output."""
    ended = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL if "input" not in more else None,
        capture_output=True, text=True, check=False, timeout=300, **more,
    )  # fmt: skip
    if ended.returncode != 0:
        raise AssertionError(f"{' '.join(str(word) for word in command)}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    ended = subprocess.run(["cmp", "-s", str(one), str(other)], check=False, timeout=300)
    return ended.returncode == 0


def until(holds: Callable[[], object], seconds: float = 20) -> bool:
    """Waits until a condition holds; gives whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.01)
    return False


def worker_of(process: int) -> int:
    """The worker process of a command: a child of the started process, if it exists already."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])
    return process


def writes_unnamed(process: int) -> bool:
    """Whether a process has an unnamed file open."""
    with suppress(OSError):
        folder = Path(f"/proc/{process}/fd")
        return any(str(link.readlink()).endswith("(deleted)") for link in folder.iterdir())
    return False


def halt(child: subprocess.Popen[str]) -> None:
    """Stops a command with all its processes (SIGSTOP)."""
    os.killpg(child.pid, signal.SIGSTOP)


def go_on(child: subprocess.Popen[str]) -> None:
    """Continues a halted command (SIGCONT)."""
    os.killpg(child.pid, signal.SIGCONT)


def kill(child: subprocess.Popen[str]) -> None:
    """Ends a command with all its processes: a halted one of them would keep its output open."""
    os.killpg(child.pid, signal.SIGKILL)


def files_under(folder: Path) -> list[Path]:
    """All files of a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def bytes_under(folder: Path) -> int:
    """The total size of a folder's files. Files may disappear meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


class Context:
    """Context of one test: its folder, the binary, its checks."""

    def __init__(self, folder: Path, binary: Path, full: bool, seed: str, counts: Counts, keeps: bool) -> None:
        self.folder = folder
        self.keeps = keeps
        self.binary = binary
        self.full = full
        self.random = random.Random(seed)
        self.counts = counts
        self._children: list[subprocess.Popen[str]] = []
        self._mounts: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, plain: int, full: int) -> int:
        """The number of cases in a plain or a full run."""
        return full if self.full else plain

    # Checks.

    def that(self, name: str, holds: object, why: object = "") -> bool:
        """Records a check; gives whether it holds."""
        if holds:
            self.counts.passed += 1
            print(f"  ok: {name}", flush=True)
            return True
        self.failed(name, str(why))
        return False

    def failed(self, name: str, why: str) -> None:
        """Records a failed check."""
        self.counts.failed += 1
        print(f"  FAILED: {name}", flush=True)
        for line in why.splitlines()[:60]:
            print(f"    {line}", flush=True)

    def skipped(self, why: str) -> None:
        """Records a check that cannot run here."""
        self.counts.skipped += 1
        print(f"  skipped: {why}", flush=True)

    def note(self, text: str) -> None:
        """Prints a line of information."""
        print(f"  {text}", flush=True)

    # The binary.

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Starts the binary without input and without a terminal."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("REFORGE_") and key != "LC_ALL"
        }
        child = subprocess.Popen(
            [str(self.binary), *(str(word) for word in words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True, cwd=self.folder,
            env=inherited | {"SWIFT_BACKTRACE": "enable=no"} | environment,
        )  # fmt: skip
        self._children.append(child)
        return child

    def wait(self, child: subprocess.Popen[str], timeout: float = 120) -> Ended:
        """Waits for the end of a command."""
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill(child)
            out, err = child.communicate()
            raise AssertionError(f"{child.args} did not end within {timeout:.0f} s\n{out}{err}") from None
        finally:
            if child in self._children:
                self._children.remove(child)
        words = [str(word) for word in child.args]  # type: ignore[union-attr]
        return Ended([Path(words[0]).name, *words[1:]], child.returncode, out, err)

    def reforge(self, *words: str | Path, timeout: float = 120, **environment: str) -> Ended:
        """Runs the binary to its end; only a crash fails."""
        ended = self.wait(self.start(*words, **environment), timeout)
        if ended.has_crashed:
            raise AssertionError(f"it crashed: {ended}")
        return ended

    def done(self, *words: str | Path, **environment: str) -> Ended:
        """Runs the binary, which must succeed."""
        ended = self.reforge(*words, **environment)
        if ended.status != DONE:
            raise AssertionError(str(ended))
        return ended

    def kill(self, words: list[str | Path], moment: Callable[[float], bool], **environment: str) -> Kill:
        """Starts the binary and sends SIGKILL when `moment`, polled with the seconds since the start, is true."""
        child = self.start(*words, **environment)
        started = time.monotonic()
        # The output fits into a pipe, so nothing needs to read it meanwhile.
        while child.poll() is None and not moment(time.monotonic() - started):
            time.sleep(0.0002)
        seconds = time.monotonic() - started
        child.send_signal(signal.SIGKILL)
        ended = self.wait(child)
        if ended.has_crashed and ended.status != -signal.SIGKILL:
            raise AssertionError(f"it crashed: {ended}")
        return Kill(ended, seconds, ended.status == -signal.SIGKILL)

    def needs(self, *commands: str) -> None:
        """Skips the test when the binary lacks these commands."""
        said = self.reforge("--help").said
        missing = [name for name in commands if f"\n  {name} " not in said]
        if missing:
            raise Skip(f"the binary has no {', '.join(missing)}")

    # Mounts.

    def mount(self, *words: str | Path) -> None:
        """Mounts; the last word is the folder."""
        folder = Path(words[-1])
        folder.mkdir(parents=True, exist_ok=True)
        tool("mount", *words)
        self._mounts.append(folder)

    def unmount(self, folder: Path) -> None:
        """Unmounts."""
        tool("umount", folder)
        self._mounts.remove(folder)

    @contextmanager
    def read_only(self, folder: Path) -> Iterator[Path]:
        """A read-only bind mount of a folder."""
        view = self.folder / f"{folder.name}-read-only"
        self.mount("--bind", folder, view)
        try:
            tool("mount", "-o", "remount,ro,bind", view)
            yield view
        finally:
            self.unmount(view)

    def end(self) -> None:
        """Releases the test's processes, mounts and files."""
        for child in self._children:
            child.kill()
            child.wait()
        for folder in reversed(self._mounts):
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        if not self.keeps:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Disks.

    def text_bytes(self, count: int) -> bytes:
        """Bytes that compress about like text."""
        letters = b"abcdefghijklmnopqrstuvwxyz"
        words = [bytes(self.random.choices(letters, k=self.random.randint(2, 9))) for _ in range(64)]
        line = b" ".join(self.random.choices(words, k=2000)) + b"\n"
        return (line * (count // len(line) + 1))[:count]

    def make_disk(self, name: str, mebibytes: int) -> Path:
        """A disk with a GPT: an ext4 with files in a quarter of the disk, and random, text-like and zero bytes."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tree = path.with_name(f"{path.name}.tree")
        tree.mkdir()
        filesystem = max(3, mebibytes // 4)
        left = filesystem * MIB // 2
        number = 0
        while left > 0:
            count = min(left, self.random.choice([1000, 60_000, 900_000]))
            maker = self.random.choice([self.random.randbytes, self.text_bytes])
            (tree / f"file{number}").write_bytes(maker(count))
            left -= count
            number += 1
        with path.open("wb") as disk:
            disk.truncate(mebibytes * MIB)
        layout = f"label: gpt\nsize={filesystem}M, type=L, name=files\ntype=L, name=raw\n"
        tool("sfdisk", "-q", path, input=layout)
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, "-E", f"offset={MIB}", path, f"{filesystem}M")
        shutil.rmtree(tree)
        with path.open("r+b") as disk:
            position = (1 + filesystem) * MIB
            while position < (mebibytes - 1) * MIB:
                count = min(self.random.choice([64 << 10, 300_000, MIB]), (mebibytes - 1) * MIB - position)
                maker = self.random.choice([self.random.randbytes, self.random.randbytes, self.text_bytes, None])
                if maker:
                    disk.seek(position)
                    disk.write(maker(count))
                position += count
        return path

    def change_disk(self, disk: Path, name: str, mebibytes: int) -> Path:
        """A later state of the disk, with `mebibytes` of new random bytes spread over its second partition."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tool("cp", "--sparse=always", disk, path)
        byte_count = path.stat().st_size
        first = byte_count // 4 + 2 * MIB
        with path.open("r+b") as changed:
            left = mebibytes * MIB
            while left > 0:
                count = min(left, self.random.randint(64 << 10, 4 * MIB))
                changed.seek(self.random.randrange(first, byte_count - MIB - count))
                changed.write(self.random.randbytes(count))
                left -= count
        return path

    # Repositories.

    def password_file(self, password: str = "correct horse") -> Path:
        """A file with a password."""
        path = self.folder / "password"
        path.write_text(password + "\n")
        path.chmod(0o600)
        return path

    def capture(self, disk: Path, repository: Path, host: str = "here", *more: str) -> str:
        """Captures every sector, with the file's name as disk name; gives the snapshot's id."""
        ended = self.done(
            "capture", disk, f"{repository}@", "--host", host, "--disk", disk.name, "--all-sectors", "--json", *more
        )
        return str(ended.json()["imageID"])

    def snapshots(self, repository: Path, *more: str) -> list[str]:
        """The ids of all snapshots, oldest first."""
        ended = self.done("snapshots", repository, "--json", *more)
        return [snapshot["id"] for snapshot in ended.json()["snapshots"]]

    def restore(self, image: str | Path, target: Path, byte_count: int, *more: str) -> Ended:
        """Restores onto a new file, with the layout kept and without boot repair."""
        target.unlink(missing_ok=True)
        with target.open("wb") as made:
            made.truncate(byte_count)
        return self.restore_again(image, target, *more)

    def restore_again(self, image: str | Path, target: Path, *more: str) -> Ended:
        """Restores onto an existing file, with the layout kept and without boot repair."""
        return self.reforge("restore", image, target, "--yes", "--layout", "keep", "--no-boot-repair", *more)

    def wrong(self, image: str | Path, disk: Path, *more: str) -> str:
        """Restores and compares with the disk; gives the fault, or an empty text."""
        target = self.folder / "restored"
        ended = self.restore(image, target, disk.stat().st_size, *more)
        if ended.status != DONE:
            return str(ended)
        if not same(disk, target):
            difference = subprocess.run(["cmp", str(disk), str(target)], capture_output=True, text=True, check=False)
            return f"{image} came back with other bytes than {disk.name}: {difference.stdout}"
        target.unlink()
        return ""

    def wrong_repository(self, repository: Path, held: dict[str, Path], *more: str) -> str:
        """Checks that a repository holds these snapshots of these disks; gives the fault, or an empty text."""
        there = set(self.snapshots(repository, *more))
        if there != set(held):
            return f"the snapshots are {sorted(there)}, not {sorted(held)}"
        ended = self.reforge("verify", repository, "--read-data", *more)
        if ended.status != DONE:
            return str(ended)
        for snapshot, disk in held.items():
            if why := self.wrong(f"{repository}@{snapshot}", disk, *more):
                return why
        return ""

    def litter(self, repository: Path) -> str:
        """Leftovers of commands: locks, and unfinished files.

        A lock without its final name, left by a kill, does not count: it is removed by age.
        """
        left = [path for folder in ("locks", "tmp") for path in files_under(repository / folder)]
        left = [path for path in left if not (path.parent.name == "locks" and path.name.endswith(".new"))]
        return " ".join(str(path.relative_to(repository)) for path in left)


def state_of(repository: Path) -> tuple[str, ...]:
    """The names of all files of a repository: changes when a file is published or removed."""
    names: list[str] = []
    pending = [str(repository)]
    while pending:
        folder = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    names.append(entry.path)
    return tuple(sorted(names))


class AtChange:
    """A moment: `delay` seconds after a repository's n-th change since the start of the command."""

    def __init__(self, repository: Path, number: int, delay: float) -> None:
        self.repository = repository
        self.number = number
        self.delay = delay
        self.seen = state_of(repository)
        self.count = 0
        self.since: float | None = None

    def __call__(self, seconds: float) -> bool:
        if self.since is None:
            now = state_of(self.repository)
            if now != self.seen:
                self.seen = now
                self.count += 1
                if self.count == self.number:
                    self.since = seconds
        return self.since is not None and seconds >= self.since + self.delay
