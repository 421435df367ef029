# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts: the captured disk as a file, for any user, and nothing left at any end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import CANNOT_CREATE, DAMAGED, DONE, IO_ERROR, NOT_FOUND, REFUSED, Context, same, tool, until
from test_export import expected, mounts, names, needs_fuse, programs
from test_salvage import chunk_of, flip, sample

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Mounted:
    """A running `reforge mount`."""

    def __init__(self, ctx: Context, prefix: list[str], binary: Path, *words: str | Path) -> None:
        self.folder = Path(words[1])
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("REFORGE_", "XDG_"))}
        self.child = subprocess.Popen(
            [*prefix, str(binary), "mount", *(str(word) for word in words)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=inherited | {"SWIFT_BACKTRACE": "enable=no", "TMPDIR": "/tmp"})  # fmt: skip
        assert self.child.stdout
        self.first = self.child.stdout.readline().strip()

    def end(self, number: signal.Signals | None = signal.SIGINT) -> tuple[int, str]:
        """Ends it with a signal; gives its status and its messages."""
        if number:
            self.child.send_signal(number)
        out, err = self.child.communicate(timeout=60)
        return self.child.returncode, out + err


@contextmanager
def open_folder(ctx: Context) -> Iterator[Path]:
    """A folder that any user can enter, with a copy of the binary."""
    folder = Path(tempfile.mkdtemp(prefix="reforge-mount.", dir="/tmp"))
    folder.chmod(0o777)
    shutil.copy(ctx.binary, folder / "reforge")
    try:
        yield folder
    finally:
        for line in mounts(folder):
            subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def test_mount(ctx: Context) -> None:
    """Any user reads the captured disk as a file; every end takes the mount away."""
    ctx.needs("mount")
    needs_fuse(ctx)
    disk, image = ctx.make_disk("disk.raw", 32), ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image)
    raw = expected(ctx, image, disk.stat().st_size)
    users: dict[str, list[str]] = {"root": []}
    if Path(shutil.which("fusermount3") or "/").stat().st_mode & 0o4000:
        users["nobody"] = NOBODY
    else:
        ctx.skipped("fusermount3 is not set-user-id")
    with open_folder(ctx) as folder:
        for path, source in (("image.img.zst", image), ("expected.raw", raw)):
            shutil.copy(source, folder / path)
            (folder / path).chmod(0o644)
        for user, prefix in users.items():
            one_user(ctx, user, prefix, folder)
        outside(ctx, users, folder)


def one_user(ctx: Context, user: str, prefix: list[str], folder: Path) -> None:
    """Mounts as a user, compares, and ends it in every way."""
    place = folder / user
    place.mkdir()
    shutil.chown(place, "nobody" if prefix else "root")
    file = place / "disk.raw"

    def start() -> Mounted:
        return Mounted(ctx, prefix, folder / "reforge", folder / "image.img.zst", place)

    def is_gone() -> bool:
        return not mounts(place) and not programs(place)

    mounted = start()
    ctx.that(f"{user}: the path is the first line", mounted.first == str(file), mounted.first)
    compared = subprocess.run([*prefix, "cmp", str(file), str(folder / "expected.raw")], capture_output=True, check=False)
    ctx.that(f"{user}: the file has the bytes of a restore", compared.returncode == 0, compared)
    written = subprocess.run([*prefix, "dd", "if=/dev/zero", f"of={file}", "conv=notrunc", "count=1"], capture_output=True, check=False)
    ctx.that(f"{user}: it cannot be written", written.returncode != 0 or user == "root" and same(file, folder / "expected.raw"))
    again = Mounted(ctx, prefix, folder / "reforge", folder / "image.img.zst", place)
    ctx.that(f"{user}: a second mount there is refused", again.end(None)[0] == REFUSED)
    ctx.that(f"{user}: and takes nothing away", same(file, folder / "expected.raw") if not prefix else mounts(place))
    status, said = mounted.end(signal.SIGINT)
    ctx.that(f"{user}: Ctrl-C ends it with 0", status == DONE and "offset=" in said, f"{status}: {said}")
    ctx.that(f"{user}: and leaves nothing", is_gone() and names(place) == [], f"{mounts(place)} {programs(place)} {names(place)}")
    mounted = start()
    status, said = mounted.end(signal.SIGTERM)
    ctx.that(f"{user}: so does SIGTERM", status == DONE and is_gone() and names(place) == [], f"{status}: {said}")
    mounted = start()
    tool(*prefix, *(["fusermount3", "-u"] if prefix else ["umount"]), file)
    status, said = mounted.end(None)
    ctx.that(f"{user}: an unmount from outside ends it with 0", status == DONE and is_gone() and names(place) == [], said)
    mounted = start()
    mounted.end(signal.SIGKILL)
    ctx.that(f"{user}: kill -9 leaves no mount and no program", until(is_gone, 10), f"{mounts(place)} {programs(place)}")
    mounted = start()
    ctx.that(f"{user}: the folder can be used again", mounted.first == str(file), mounted.first)
    mounted.end()


def helpless(ctx: Context, binary: Path, image: Path, folder: Path) -> None:
    """A daemon that is killed on a system without fusermount3, which root does not need."""
    tools, place = folder / "tools", folder / "helpless"
    place.mkdir()
    tools.mkdir()
    (tools / "qemu-storage-daemon").symlink_to(str(shutil.which("qemu-storage-daemon")))
    mounted = Mounted(ctx, ["/usr/bin/env", f"PATH={tools}"], binary, image, place)
    ctx.that("root mounts without fusermount3", mounted.first == str(place / "disk.raw"), mounted.first)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes()
            if b"qemu-storage-daemon" in words.split(b"\0")[0] and str(place).encode() in words:
                os.kill(int(path.parent.name), signal.SIGKILL)
    status, said = mounted.end(None)
    left = f"{status}: {said} {mounts(place)} {names(place)}"
    ctx.that("a killed daemon is an error, and leaves nothing", status == IO_ERROR and not mounts(place) and not names(place), left)


def outside(ctx: Context, users: dict[str, list[str]], folder: Path) -> None:
    """Folders that are not mounted into, and an image with damage."""
    binary, image = folder / "reforge", folder / "image.img.zst"
    full = folder / "full"
    full.mkdir()
    (full / "disk.raw").write_bytes(b"mine")
    status, said = Mounted(ctx, [], binary, image, full).end(None)
    ctx.that("a foreign file is not covered", status == REFUSED and (full / "disk.raw").read_bytes() == b"mine", said)
    status, said = Mounted(ctx, [], binary, image, folder / "none").end(None)
    ctx.that("a missing folder is named", status == NOT_FOUND, said)
    if "nobody" in users:
        closed = folder / "closed"
        closed.mkdir(mode=0o755)
        status, said = Mounted(ctx, NOBODY, binary, image, closed).end(None)
        ctx.that("a folder without permission is named", status == CANNOT_CREATE and "folder of your own" in said, said)
    helpless(ctx, binary, image, folder)
    made = sample(ctx)
    frame, stored, _, _ = chunk_of(made.image, made.place_of_victim())
    flip(made.image, frame + 72 + stored // 2)
    place = folder / "damaged"
    place.mkdir()
    mounted = Mounted(ctx, [], binary, made.image, place)
    read = subprocess.run(["cmp", str(place / "disk.raw"), str(made.disk)], capture_output=True, text=True, check=False)
    ctx.that("damage is a read error", "Input/output error" in read.stderr, read)
    status, said = mounted.end()
    ctx.that("and the mount ends with 65", status == DAMAGED and "warning" in said, f"{status}: {said}")
