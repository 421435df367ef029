"""Shared by the machine tests: the context of a test, reasons to skip, disks and images made once per run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from machine import Disk, Machine
from proof import Proof, wait_for_proof

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
MIB = 1 << 20
GIB = 1 << 30

Result = TypeVar("Result")
Test = Callable[["Context"], None]


class Skip(Exception):
    """The test cannot run here; the message says what is missing."""


def time_limit(seconds: float) -> Callable[[Test], Test]:
    """Gives a test its own limit (the runner's default is 600 s)."""

    def mark(test: Test) -> Test:
        test.time_limit = seconds  # type: ignore[attr-defined]
        return test

    return mark


def full_only(test: Test) -> Test:
    """Marks a test that runs with `--full` only."""
    test.full_only = True  # type: ignore[attr-defined]
    return test


def sampled(test: Test) -> Test:
    """Marks a `full_only` test of a file with `SAMPLE`: so many of its marked tests, chosen by the seed, run always."""
    test.sampled = True  # type: ignore[attr-defined]
    return test


@dataclass
class Shared:
    """State of the whole run, common to all of its processes."""

    workdir: Path
    media: Path | None
    binary: Path
    full: bool
    seed: int
    chosen: frozenset[str] = frozenset()  # tests that run without `--full` although they are `full_only`

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """Runs `make` at the first call, while other tests that need the result wait; a failure or skip is kept, too.

        The result outlives the test and its process, so its files belong in the run's folder, not in the test's.
        """
        place = self.workdir / "made" / name
        place.parent.mkdir(exist_ok=True)
        with open(place, "a+b") as file:
            # The wait for another test does not count towards this test's limit.
            left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
            fcntl.flock(file, fcntl.LOCK_EX)
            signal.setitimer(signal.ITIMER_REAL, left)
            file.seek(0)
            if known := file.read():
                made, error = pickle.loads(known)
            else:
                made, error = None, None
                try:
                    made = make()
                except Skip as reason:
                    error = reason
                except Exception as failure:  # some kinds cannot be pickled
                    error = AssertionError(f"{type(failure).__name__}: {failure}")
                file.write(pickle.dumps((made, error)))
        if error is not None:
            raise error
        return made


class Context:
    """One test's view of the lab."""

    def __init__(self, shared: Shared, test: str) -> None:
        self.shared = shared
        self.test = test
        self.full = shared.full
        self.random = random.Random(f"{shared.seed}:{test}")
        self.workdir = shared.workdir
        self.folder = shared.workdir / test  # this test's own files; removed when it passes
        self.logs = shared.workdir / "logs" / test
        for path in (self.folder, self.logs):
            path.mkdir(parents=True, exist_ok=True)

    # MARK: requirements

    @property
    def binary(self) -> Path:
        """The static `reforge`."""
        if not os.access(self.shared.binary, os.X_OK):
            raise Skip(f"no binary at {self.shared.binary}: run Scripts/build")
        return self.shared.binary

    @property
    def media(self) -> Path:
        """The folder with the recovery media."""
        if self.shared.media is None:
            raise Skip("no --media DIR given: run Scripts/build-media DIR")
        return self.shared.media

    def medium(self, name: str) -> Path:
        """`vmlinuz`, `initramfs.img`, `reforge.iso` or `reforge.img`."""
        path = self.media / name
        if not path.is_file():
            raise Skip(f"no {path}: run Scripts/build-media {self.media}")
        return path

    # MARK: disks

    def debian_disk(self) -> Path:
        """A 4 GiB Debian disk that was never booted. Read-only: use `copy_sparse`, or a snapshot disk."""

        def make() -> Path:
            if os.geteuid() != 0:
                raise Skip("making a Debian disk needs root")
            path = self.workdir / "debian.raw"
            run(HERE / "make-debian-disk", path, timeout=900)
            return path

        return self.shared.once("debian disk", make)

    def used_debian_disk(self) -> tuple[Path, Proof]:
        """The Debian disk after one boot by BIOS on virtio and a clean shutdown, with the proof of that boot."""

        def make() -> tuple[Path, Proof]:
            path = copy_sparse(self.debian_disk(), self.workdir / "debian-used.raw")
            with self.machine("debian-first-boot", disks=[Disk(path, "virtio", "SOURCE")]) as machine:
                return path, wait_for_proof(machine)

        return self.shared.once("used debian disk", make)

    def debian_image(self) -> Path:
        """The image of the used Debian disk."""

        def make() -> Path:
            self.binary  # skips before the source is made
            image = self.workdir / "debian.img.zst"
            self.reforge("capture", self.used_debian_disk()[0], image, "--note", "machine tests", "--overwrite")
            return image

        return self.shared.once("debian image", make)

    def data_disk(self) -> Path:
        """A 768 MiB disk with ext4, FAT and swap and incompressible files, made without booting a machine."""

        def make() -> Path:
            path = self.workdir / "data.raw"
            tree = self.workdir / "data-tree"
            tree.mkdir(exist_ok=True)
            for number in range(48):
                (tree / f"file{number}").write_bytes(self.random.randbytes((number % 12 + 1) * MIB + number * 777))
            with open(path, "wb") as disk:
                disk.truncate(768 * MIB)
            table = "label: gpt\nstart=2048, size=1228800, type=L\nsize=131072, type=U\nsize=65536, type=S\n"
            partition(path, table)
            run("mke2fs", "-q", "-t", "ext4", "-E", f"offset={MIB}", "-d", tree, path, "600M")
            part = self.workdir / "data.fat"
            part.unlink(missing_ok=True)
            run("mkfs.fat", "-F", "32", "-C", part, str(64 << 10))
            run("mcopy", "-i", part, tree / "file3", "::/file3")
            run("dd", f"if={part}", f"of={path}", "bs=1M", "seek=601", "conv=notrunc", "status=none")
            part.unlink()
            shutil.rmtree(tree)
            return path

        return self.shared.once("data disk", make)

    def images_disk(self, **files: Path) -> Path:
        """A filesystem labelled IMAGES on a bare disk, with files by name (`debian=path` is debian.img.zst)."""
        source = self.folder / "images"
        source.mkdir()
        total = 0
        for name, path in files.items():
            (source / f"{name}.img.zst").hardlink_to(path)
            total += path.stat().st_size
        disk = self.folder / "images.raw"
        run("mke2fs", "-q", "-t", "ext4", "-L", "IMAGES", "-d", source, disk, f"{total // MIB * 11 // 10 + 128}M")
        shutil.rmtree(source)
        return disk

    def blank_disk(self, name: str, byte_count: int) -> Path:
        """A file of zeros, all holes."""
        path = self.folder / name
        with open(path, "wb") as handle:
            handle.truncate(byte_count)
        return path

    # MARK: actions

    def reforge(
        self, *arguments: str | Path, codes: tuple[int, ...] = (0,), timeout: float = 600, **environment: str
    ) -> str:
        """Runs the binary on this host; gives its stdout. Fails on exit codes outside `codes`."""
        return run(self.binary, *arguments, codes=codes, timeout=timeout, **environment)

    def machine(self, name: str, **options: Any) -> Machine:
        """A machine that logs into this test's log folder."""
        return Machine(name, self.logs, **options)

    def boot_and_prove(
        self, name: str, disk: Path, bus: str, firmware: str, nvram: Path | None = None, timeout: float = 300,
        driver: str = "raw",
    ) -> Proof:  # fmt: skip
        """Boots a Debian disk (its writes are dropped) and gives its proof, expected within `timeout` seconds."""
        disks = [Disk(disk, bus, "BOOTED", snapshot=True, driver=driver)]
        with self.machine(name, firmware=firmware, disks=disks, nvram=nvram, time_limit=timeout + 300) as machine:
            return wait_for_proof(machine, timeout)


def run(*command: str | Path, codes: tuple[int, ...] = (0,), timeout: float = 300, **environment: str) -> str:
    """Runs a command; gives its stdout; on failure, raises with the end of its output."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
        env=os.environ | environment,
    )  # fmt: skip
    if done.returncode not in codes:
        said = "\n".join(f"    | {line}" for line in (done.stdout + done.stderr).splitlines()[-25:])
        raise AssertionError(f"`{' '.join(words)}` ended with {done.returncode}:\n{said}")
    return done.stdout


def copy_sparse(source: Path, target: Path) -> Path:
    """Copies a disk; holes stay holes."""
    run("cp", "--sparse=always", "--reflink=auto", source, target)
    return target


def sha256(path: Path) -> str:
    """A file's SHA-256."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def partition(disk: Path, table: str) -> None:
    """Writes a partition table, as sfdisk(8) reads it, onto a disk file."""
    done = subprocess.run(
        ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk], input=table, text=True, capture_output=True, check=False
    )
    expect(done.returncode == 0, f"sfdisk: {done.stderr}")


def first_nonzero(path: Path, start: int = 0, length: int | None = None) -> int | None:
    """The offset of the first byte that is not zero, or None. Reads data only, no holes."""
    with open(path, "rb") as handle:
        end = os.fstat(handle.fileno()).st_size if length is None else start + length
        position = start
        while position < end:
            try:
                position = os.lseek(handle.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return None
            if position >= end:
                return None
            hole = min(end, os.lseek(handle.fileno(), position, os.SEEK_HOLE))
            handle.seek(position)
            while position < hole:
                piece = handle.read(min(MIB, hole - position))
                if piece.count(0) != len(piece):
                    return position + next(index for index, byte in enumerate(piece) if byte)
                position += len(piece)
    return None


def expect(condition: bool, otherwise: str) -> None:
    """Asserts a condition; the message is a sentence."""
    if not condition:
        raise AssertionError(otherwise)


def expect_whole(proof: Proof, **wanted: Any) -> None:
    """Fails with all complaints of a booted system."""
    complaints = proof.complaints(**wanted)
    if complaints:
        facts = "\n".join(f"    | {name}={value}" for name, values in proof.facts.items() for value in values)
        raise AssertionError("the booted system is not whole: " + "; ".join(complaints) + "\n" + facts)


def note(text: str) -> None:
    """A line of progress or measurement under the running test."""
    print(f"         {text}", flush=True)
    sys.stdout.flush()
