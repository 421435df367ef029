# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs of restore where this machine fails and not the image: no room, a QEMU that is killed, no room for the proof."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from faults import DONE, IO_ERROR, MIB, Context, Skip, files_under, until

# A boot sector: sets up the first serial port, writes `count` times 32 KiB to the disk from sector 2048 on, whatever
# becomes of it, sends the text behind it, and halts. `int 14h`, `int 13h` with AH=43h.
CODE = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfb88164c7cb0e330e431d2cd148b0e607c85c9741751be507c8a164c7cb80043cd13668306587c405949ebe5"
    "be627cac84c07408b40131d2cd14ebf3faf4ebfc008d740010004000000000100008000000000000"
)
TEXT = b"[    0.000000] Linux version 6\r\nweb1 login: \0"
PROVE = ["--no-kvm", "--memory", "128M", "--timeout", "60"]


def image_of_a_system(ctx: Context, count: int) -> Path:
    """The image of a disk that shows a login after that many writes."""
    if not Path("/usr/bin/qemu-system-x86_64").exists():
        raise Skip("no qemu-system-x86_64")
    disk = ctx.folder / "disk"
    sector = (CODE + count.to_bytes(2, "little") + TEXT).ljust(510, b"\0") + b"\x55\xaa"
    disk.write_bytes(sector.ljust(32 * MIB, b"\0"))
    ctx.done("capture", disk, "disk.img.zst")
    return ctx.folder / "disk.img.zst"


def proofs(image: Path) -> list[str]:
    """The names of the files of its proof."""
    return sorted(path.name for path in image.parent.glob(f"*{image.name}.proof*"))


def test_writes_without_room(ctx: Context) -> None:
    """A guest whose writes find no room here proves nothing, whatever it shows and whether or not it hears of it."""
    image = image_of_a_system(ctx, 400)
    small = ctx.folder / "small"
    ctx.mount("-t", "tmpfs", "-o", "size=4M", "tmpfs", small)
    runtime = ctx.folder / "run"
    runtime.mkdir(mode=0o700)
    for disk in ("nvme", "sata"):
        folders = {"TMPDIR": str(small), "XDG_RUNTIME_DIR": str(runtime)}
        ended = ctx.reforge("prove", image, *PROVE, "--disk", disk, **folders)
        ctx.that(f"{disk}: it is an error of this machine", ended.status == IO_ERROR and "TMPDIR" in ended.said, ended)
        ctx.that(f"{disk}: no verdict is stored", not proofs(image), proofs(image))


def machine_of(folder: Path) -> int | None:
    """The QEMU with an overlay in a folder for temporary files."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"qemu-system-x86_64") and any(os.fsencode(folder) in word for word in words):
                return int(process.name)
    return None


def test_killed_machine(ctx: Context) -> None:
    """QEMU is killed, as for lack of memory: that says nothing about the image, and the message says what happened."""
    image = image_of_a_system(ctx, 0)
    temporary = ctx.folder / "tmp"
    temporary.mkdir()
    child = ctx.start("prove", image, *PROVE, TMPDIR=str(temporary), XDG_RUNTIME_DIR=str(temporary))
    ctx.that("a machine runs", until(lambda: machine_of(temporary)))
    machine = machine_of(temporary)
    # Until it is under control.
    time.sleep(2)
    if machine is not None:
        os.kill(machine, signal.SIGKILL)
    ended = ctx.wait(child)
    ctx.that("that is an error", ended.status == IO_ERROR and "killed by signal 9" in ended.said, ended)
    ctx.that("no verdict is stored", not proofs(image), proofs(image))
    ctx.that("nothing is left", not list(temporary.iterdir()), list(temporary.iterdir()))


def test_proof_without_room(ctx: Context) -> None:
    """A verdict that finds no room is given all the same, and leaves no piece; a stored one is not for every user."""
    image = image_of_a_system(ctx, 0)
    ended = ctx.reforge("prove", image, *PROVE)
    ctx.that("it is proven", ended.status == DONE, ended)
    modes = {path: path.stat().st_mode & 0o777 for path in image.parent.glob(f"{image.name}.proof.*")}
    ctx.that("its three files are like the image", set(modes.values()) == {0o640} and len(modes) == 3, modes)
    small = ctx.folder / "small"
    ctx.mount("-t", "tmpfs", "-o", "size=128K", "tmpfs", small)
    (small / image.name).write_bytes(image.read_bytes())
    with suppress(OSError), (small / "rest").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    ended = ctx.reforge("prove", small / image.name, *PROVE)
    ctx.that("it is proven without room", ended.status == DONE and "not stored" in ended.said, ended)
    names = {path.name for path in files_under(small)}
    ctx.that("and no piece is left", names == {image.name, "rest"}, names)
