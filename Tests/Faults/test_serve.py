# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving images, snapshots and disks by NBD: other programs as clients, hostile clients, and the end of a server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import CANNOT_CREATE, DAMAGED, DONE, MIB, REFUSED, USAGE, Context, Ended, same, tool, until

HANDSHAKE = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 8, 0) + b"IHAVEOPT" + struct.pack(">IIIH", 7, 6, 0, 0)


class Server:
    """A running `reforge serve`."""

    def __init__(self, ctx: Context, *words: str | Path) -> None:
        self.ctx = ctx
        self.child = ctx.start("serve", *words)
        assert self.child.stdout
        self.uri = self.child.stdout.readline().strip()

    @property
    def path(self) -> Path:
        """The path of its socket."""
        return Path(self.uri.partition("?socket=")[2])

    def end(self, number: int = signal.SIGINT) -> Ended:
        """Interrupts it, like Ctrl-C."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, number)
        return self.ctx.wait(self.child, timeout=30)


@contextmanager
def serving(ctx: Context, *words: str | Path) -> Iterator[Server]:
    """A server that has printed its address."""
    server = Server(ctx, *words)
    try:
        if not server.uri:
            raise AssertionError(str(ctx.wait(server.child)))
        yield server
    finally:
        if server.child.poll() is None:
            server.end()


def qemu_equals(disk: Path, uri: str) -> str:
    """Compares a served disk with a raw file; empty if they are equal."""
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "raw", str(disk), uri], capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


def sources(ctx: Context, disk: Path) -> dict[str, list[str | Path]]:
    """A disk captured in all forms: the arguments of `serve` for each."""
    folder = ctx.folder
    password = folder / "password"
    password.write_text("secret")
    password.chmod(0o600)
    # Small chunks: some of the disk's zeros fill one.
    grain = ["--chunk-size", "64K"]
    ctx.done("capture", disk, folder / "a.img.zst", "--all-sectors", *grain)
    ctx.done("capture", disk, folder / "b.img.enc", "--all-sectors", "--encrypt", "--password-file", password, *grain)
    ctx.done("capture", disk, folder / "c.img.xz", "--all-sectors", "--codec", "xz", "--level", "0", *grain)
    ctx.done("init-repo", folder / "repo", *grain)
    ctx.done("capture", disk, f"{folder}/repo@", "--all-sectors")
    raw = folder / "raw.img"
    shutil.copy(disk, raw)
    return {
        "an image": [folder / "a.img.zst"],
        "an encrypted image": [folder / "b.img.enc", "--password-file", password],
        "an .img.xz": [folder / "c.img.xz"],
        "a snapshot": [f"{folder}/repo@latest"],
        "a raw file": [raw],
    }


def test_clients(ctx: Context) -> None:
    """QEMU's and libnbd's tools read what was captured, from every kind of source."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 48)
    for name, words in sources(ctx, disk).items():
        with serving(ctx, *words) as server:
            why = qemu_equals(disk, server.uri) if name != "a raw file" else ""
            ctx.that(f"{name}: qemu-img reads the captured disk", not why, why)
            known = json.loads(tool("qemu-img", "map", "--output=json", "-f", "raw", server.uri))
            ctx.that(f"{name}: it has holes", any(part["zero"] for part in known), known)
            if shutil.which("nbdcopy"):
                copied = ctx.folder / "copied"
                tool("nbdcopy", server.uri, copied)
                ctx.that(f"{name}: nbdcopy copies it", name == "a raw file" or same(disk, copied))
                said = tool("nbdinfo", server.uri)
                ctx.that(f"{name}: nbdinfo shows a read-only disk", "is_read_only: true" in said, said)
            else:
                ctx.skipped("no nbdcopy (libnbd-bin)")
            folder = server.path.parent
            ctx.that(f"{name}: the folder is private", folder.stat().st_mode & 0o777 == 0o700)
            ctx.that(f"{name}: the socket is private", server.path.stat().st_mode & 0o777 == 0o600)
            ended = server.end()
            ctx.that(f"{name}: Ctrl-C is the normal end", ended.status == DONE, ended)
            ctx.that(f"{name}: the folder is gone", not folder.exists())


def test_places(ctx: Context) -> None:
    """Sockets and ports: live ones are kept, dead ones replaced, and no other machine can connect."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 8)
    image = ctx.folder / "a.img.zst"
    ctx.done("capture", disk, image, "--all-sectors")
    path = ctx.folder / "socket"
    with serving(ctx, image, "--socket", "socket") as server:
        ctx.that("the address has the whole path", server.path == path, server.uri)
        second = ctx.reforge("serve", image, "--socket", path)
        ctx.that("a second server is refused", second.status == REFUSED and "another server" in second.err, second)
        ctx.that("the first one still serves", not qemu_equals(disk, server.uri))
        ended = server.end(signal.SIGTERM)
        ctx.that("SIGTERM is a normal end too", ended.status == DONE, ended)
        ctx.that("the socket is gone", not path.exists())
    killed = Server(ctx, image, "--socket", path)
    os.killpg(killed.child.pid, signal.SIGKILL)
    ctx.wait(killed.child)
    ctx.that("a killed server leaves its socket", path.is_socket())
    with serving(ctx, image, "--socket", path) as server:
        ctx.that("the next one replaces it", not qemu_equals(disk, server.uri))
    plain = ctx.folder / "file"
    plain.write_text("mine")
    refused = ctx.reforge("serve", image, "--socket", plain)
    ctx.that("a file is not replaced", refused.status == REFUSED and plain.read_text() == "mine", refused)
    missing = ctx.reforge("serve", image, "--socket", "nowhere/socket")
    ctx.that("a missing folder is an error", missing.status == CANNOT_CREATE, missing)
    for address in ("0.0.0.0:10809", "192.168.0.1:10809", "[::]:10809", "127.0.0.1", "127.0.0.1:99999"):
        said = ctx.reforge("serve", image, "--listen", address)
        ctx.that(f"{address} is refused with a reason", said.status == USAGE and "127.0.0.1:PORT" in said.err, said)
    with serving(ctx, image, "--listen", "127.0.0.1:0", "--read-only") as server:
        ctx.that("a port serves", server.uri.startswith("nbd://127.0.0.1:") and not qemu_equals(disk, server.uri))
    pipe = ctx.reforge("serve", "-")
    ctx.that("a pipe has no random access", pipe.status == USAGE and "random access" in pipe.err, pipe)


def test_json(ctx: Context) -> None:
    """The object that scripts read."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 8)
    image = ctx.folder / "a.img.zst"
    ctx.done("capture", disk, image)
    child = ctx.start("serve", image, "--json")
    assert child.stdout
    lines = ""
    while not lines.endswith("}\n") and (line := child.stdout.readline()):
        lines += line
    said = json.loads(lines)
    ctx.that("it has the address and the length", said["uri"] and said["byteCount"] == 8 * MIB, said)
    os.killpg(child.pid, signal.SIGINT)
    ended = ctx.wait(child)
    ctx.that("the end is normal", ended.status == DONE, ended)


def test_damage(ctx: Context) -> None:
    """A damaged chunk is a read error of the client, is said once, and is the exit code."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 32)
    image = ctx.folder / "a.img.zst"
    ctx.done("capture", disk, image, "--all-sectors", "--chunk-size", "1M")
    size = image.stat().st_size
    with image.open("r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 0x10]))
    with serving(ctx, image) as server:
        for _ in range(2):
            said = qemu_equals(disk, server.uri)
            ctx.that("the client gets a read error", "Input/output error" in said, said)
        ended = server.end()
    ctx.that("the exit code says so", ended.status == DAMAGED, ended)
    ctx.that("the damage is said once", ended.err.count("a client's read failed") == 1, ended)


def connect(server: Server) -> socket.socket:
    """A connection that has received the greeting."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(str(server.path))
    made.recv(18)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes the connection soon."""
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def test_hostile_clients(ctx: Context) -> None:
    """Clients that send nonsense, nothing, or read nothing: others are served, and the server ends."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 16)
    image = ctx.folder / "a.img.zst"
    ctx.done("capture", disk, image, "--all-sectors")
    with serving(ctx, image) as server:
        for number in range(ctx.of(100, 3000)):
            connection = connect(server)
            with suppress(ConnectionError):
                if number % 2:
                    connection.sendall(HANDSHAKE)
                connection.sendall(ctx.random.randbytes(ctx.random.randint(1, 400)))
            connection.close()
        ctx.that("it serves after nonsense", not qemu_equals(disk, server.uri))
        wrong = connect(server)
        wrong.sendall(HANDSHAKE + bytes(28))
        ctx.that("a bad request ends its connection", is_closed(wrong))
        mute = [connect(server) for _ in range(6)]
        greedy = []
        for _ in range(6):
            connection = connect(server)
            connection.sendall(HANDSHAKE)
            for cookie in range(20):
                connection.sendall(struct.pack(">IHHQQI", 0x25609513, 4, 0, cookie, 0, 16 * MIB))
            greedy.append(connection)
        started = time.monotonic()
        why = qemu_equals(disk, server.uri)
        ctx.that("others are served meanwhile", not why, why)
        ctx.that("and soon", time.monotonic() - started < 20)
        ctx.that("a mute client loses its place", all(is_closed(one) for one in mute))
        ended = server.end()
        ctx.that("it ends although clients read nothing", ended.status == DONE, ended)
        for connection in [*mute, *greedy, wrong]:
            connection.close()


def test_kill(ctx: Context) -> None:
    """No process is left behind by SIGKILL."""
    ctx.needs("serve")
    disk = ctx.make_disk("disk", 8)
    image = ctx.folder / "unique-name.img.zst"
    ctx.done("capture", disk, image)
    server = Server(ctx, image, "--socket", "socket")
    server.child.send_signal(signal.SIGKILL)
    ctx.wait(server.child)

    def is_gone() -> bool:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"unique-name.img.zst" in entry.read_bytes():
                    return False
        return True

    ctx.that("no process is left", until(is_gone))
