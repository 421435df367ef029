# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of virtual machines as sources: every format, hostile names of other files, use by a virtual machine."""

from __future__ import annotations

import fcntl
import signal
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from faults import BUSY, DONE, MIB, NOT_FOUND, REFUSED, Context, Skip, same, tool, until, worker_of

FORMATS = {
    "a.qcow2": "-O qcow2", "b.qcow2": "-c -O qcow2 -o compression_type=zstd", "c.vmdk": "-O vmdk",
    "d.vmdk": "-O vmdk -o subformat=streamOptimized", "e.vmdk": "-O vmdk -o subformat=twoGbMaxExtentSparse",
    "f.vmdk": "-O vmdk -o subformat=twoGbMaxExtentFlat", "g.vmdk": "-O vmdk -o subformat=monolithicFlat",
    "h.vhdx": "-O vhdx", "i.vhdx": "-O vhdx -o subformat=fixed", "j.vdi": "-O vdi", "k.vdi": "-O vdi -o static=on",
    "l.vhd": "-O vpc -o force_size=on", "m.vhd": "-O vpc -o subformat=fixed,force_size=on",
}  # fmt: skip


def needs_qemu() -> None:
    """Skips the test without QEMU's tools."""
    if not Path("/usr/bin/qemu-storage-daemon").exists() or not Path("/usr/bin/qemu-img").exists():
        raise Skip("no qemu-storage-daemon or qemu-img")


def daemons(folder: Path) -> list[int]:
    """The storage daemons with a file of the folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"qemu-storage-daemon" in (process / "cmdline").read_bytes():
                links = [str(link.readlink()) for link in (process / "fd").iterdir()]
                if any(link.startswith(str(folder)) for link in links):
                    found.append(int(process.name))
    return found


def contents(ctx: Context, image: Path) -> Path:
    """The disk in an image, as zstd decompresses it."""
    made = ctx.folder / f"{image.name}.contents"
    with made.open("wb") as out:
        subprocess.run(["zstd", "-dc", str(image)], stdout=out, check=True)
    return made


def test_every_format(ctx: Context) -> None:
    """A capture of each format is that of the raw disk; as images they are verified and restored."""
    needs_qemu()
    raw = ctx.make_disk("raw.img", 48)
    ctx.done("capture", raw, "raw.img.zst")
    oracle = contents(ctx, ctx.folder / "raw.img.zst")
    ctx.restore(raw, ctx.folder / "of-raw", 48 * MIB)
    for name, options in FORMATS.items():
        disk = ctx.folder / name
        tool("qemu-img", "convert", "-f", "raw", *options.split(), raw, disk)
        before = disk.read_bytes()
        captured = ctx.reforge("capture", disk, f"{name}.img.zst")
        if not ctx.that(f"{name} is captured", captured.status == DONE, captured):
            continue
        ctx.that("with the contents of the raw disk", same(contents(ctx, ctx.folder / f"{name}.img.zst"), oracle))
        verified = ctx.reforge("verify", disk)
        ctx.that("it is verified", verified.status == DONE, verified)
        restored = ctx.restore(disk, ctx.folder / "target", 48 * MIB, "--verify")
        ctx.that("it is restored", restored.status == DONE, restored)
        ctx.that("like the raw disk", same(ctx.folder / "target", ctx.folder / "of-raw"))
        ctx.that("the file itself is only read", disk.read_bytes() == before)
    ctx.that("no daemon is left", not daemons(ctx.folder), daemons(ctx.folder))
    sizes = ctx.reforge("inspect", ctx.folder / "h.vhdx", "--json").json()
    ctx.that("inspect shows its disk", sizes["geometry"]["byteCount"] == 48 * MIB, sizes["geometry"])


def test_into_a_repository(ctx: Context) -> None:
    """The second capture of a virtual machine's disk adds only what changed, under the same names."""
    needs_qemu()
    raw = ctx.make_disk("raw.img", 32)
    disk = ctx.folder / "web.qcow2"
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    ctx.done("init-repo", "repo")
    first = ctx.done("capture", disk, "repo@", "--json").json()
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 4096", disk)
    second = ctx.done("capture", disk, "repo@", "--json").json()
    ctx.that("the first stores its data", first["newByteCount"] > 3 * MIB, first)
    ctx.that("the second only what changed", second["newByteCount"] < 3 * MIB, second)
    ctx.that("for the same machine", first["host"] == second["host"], (first["host"], second["host"]))
    said = ctx.done("snapshots", "repo").said
    ctx.that("the disk has the name of the file", "web" in said, said)


def test_hostile_names(ctx: Context) -> None:
    """Files elsewhere are read only with --allow-backing, and nothing but plain paths of files ever."""
    needs_qemu()
    folder = ctx.folder / "vm"
    folder.mkdir()
    ctx.make_disk("outside.img", 16)
    for number, name in enumerate(["../outside.img", "/etc/shadow", str(ctx.folder / "outside.img")]):
        disk = folder / f"path{number}.qcow2"
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", name, "-u", disk, "16M")
        ended = ctx.reforge("capture", disk, "out.img.zst")
        ctx.that(f"{name} is not read", ended.status == REFUSED and "--allow-backing" in ended.said, ended)
        ctx.that("and nothing was made", not (ctx.folder / "out.img.zst").exists())
    names = ['json:{"driver":"file","filename":"/etc/shadow"}', "nbd://127.0.0.1/x", "http://127.0.0.1/x", "ssh://h/x"]
    for number, name in enumerate(names):
        disk = folder / f"url{number}.qcow2"
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", name, "-u", disk, "16M")
        ended = ctx.reforge("capture", disk, "out.img.zst", "--allow-backing")
        ctx.that(f"{name} is not followed", ended.status == REFUSED and "no path of a file" in ended.said, ended)
    vmdk = folder / "split.vmdk"
    head = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    for name in ["../outside.img", "/etc/shadow"]:
        vmdk.write_text(f'{head}RW 8 FLAT "{name}" 0\n')
        ended = ctx.reforge("inspect", vmdk)
        ctx.that(f"a part {name} is not read", ended.status == REFUSED and "--allow-backing" in ended.said, ended)
    vmdk.write_text(f'{head}RW 32768 FLAT "missing.raw" 0\n')
    ended = ctx.reforge("inspect", vmdk)
    ctx.that("a part that is missing is named", ended.status == NOT_FOUND and "missing.raw" in ended.said, ended)
    allowed = ctx.reforge("capture", folder / "path0.qcow2", "out.img.zst", "--allow-backing")
    ctx.that("with --allow-backing it is read", allowed.status == DONE, allowed)
    ctx.that("as the disk it is", same(contents(ctx, ctx.folder / "out.img.zst"), plain_capture(ctx, "outside.img")))


def plain_capture(ctx: Context, name: str) -> Path:
    """What a capture of a raw disk holds."""
    ctx.done("capture", name, f"{name}.img.zst")
    return contents(ctx, ctx.folder / f"{name}.img.zst")


def test_disk_in_use(ctx: Context) -> None:
    """A disk that a virtual machine has open is refused; a change during the capture is noticed."""
    needs_qemu()
    raw = ctx.make_disk("raw.img", 16)
    disk = ctx.folder / "vm.qcow2"
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    nodes = [
        "--blockdev", f"driver=file,node-name=f,filename={disk}", "--blockdev", "driver=qcow2,node-name=d,file=f",
        "--nbd-server", f"addr.type=unix,addr.path={ctx.folder}/socket",
        "--export", "type=nbd,id=e,node-name=d,writable=on",
    ]  # fmt: skip
    machine = subprocess.Popen(["qemu-storage-daemon", *nodes])
    try:
        until(lambda: (ctx.folder / "socket").exists())
        commands: list[list[str | Path]] = [["capture", disk, "out.img.zst"], ["verify", disk], ["inspect", disk]]
        for words in commands:
            ended = ctx.reforge(*words)
            ctx.that(f"{words[0]} refuses it", ended.status == REFUSED and "is in use" in ended.said, ended)
    finally:
        machine.terminate()
        machine.wait()
    ended = ctx.reforge("capture", disk, "out.img.zst")
    ctx.that("and takes it afterwards", ended.status == DONE, ended)


def slow_capture(ctx: Context, disk: Path) -> subprocess.Popen[str]:
    """A capture that takes long enough to be interrupted, with its daemon running."""
    child = ctx.start("capture", disk, "out.img.xz", "--codec", "xz", "--level", "9", "--all-sectors")
    if not until(lambda: daemons(ctx.folder)):
        raise AssertionError(str(ctx.wait(child)))
    return child


def test_interruptions(ctx: Context) -> None:
    """Ctrl-C and kill -9 leave no daemon, and the next command no folder."""
    needs_qemu()
    disk = ctx.folder / "vm.qcow2"
    raw = ctx.folder / "raw"
    raw.write_bytes(ctx.text_bytes(48 * MIB))
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    runtime = ctx.folder / "runtime"
    runtime.mkdir(mode=0o700)
    for number in (signal.SIGINT, signal.SIGTERM):
        child = slow_capture(ctx, disk)
        child.send_signal(number)
        ended = ctx.wait(child)
        ctx.that(f"{number.name} ends it", ended.status == BUSY, ended)
        ctx.that("and its daemon", until(lambda: not daemons(ctx.folder), 10), daemons(ctx.folder))
    child = slow_capture(ctx, disk)
    worker = worker_of(child.pid)
    with suppress(ProcessLookupError):
        subprocess.run(["kill", "-9", str(worker), str(child.pid)], check=False)
    ctx.wait(child)
    ctx.that("kill -9 ends its daemon", until(lambda: not daemons(ctx.folder), 10), daemons(ctx.folder))
    child = ctx.start("verify", disk, XDG_RUNTIME_DIR=str(runtime))
    until(lambda: list(runtime.iterdir()) or child.poll() is not None)
    subprocess.run(["kill", "-9", str(worker_of(child.pid)), str(child.pid)], check=False)
    ctx.wait(child)
    time.sleep(0.2)
    ctx.done("inspect", disk, XDG_RUNTIME_DIR=str(runtime))
    ctx.that("the folder of a killed command is removed", not list(runtime.iterdir()), list(runtime.iterdir()))


def crc32c(data: bytes) -> int:
    """CRC-32C."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_a_log_to_be_replayed(ctx: Context) -> None:
    """A VHDX with a log is replayed on a copy, or refused; the file itself never changes."""
    needs_qemu()
    raw = ctx.make_disk("raw.img", 16)
    disk = ctx.folder / "vm.vhdx"
    tool("qemu-img", "convert", "-f", "raw", "-O", "vhdx", raw, disk)
    data = bytearray(disk.read_bytes())
    guid = bytes(range(1, 17))
    for start in (64 << 10, 128 << 10):
        data[start + 48 : start + 64] = guid
        data[start + 4 : start + 8] = bytes(4)
        data[start + 4 : start + 8] = struct.pack("<I", crc32c(bytes(data[start : start + 4096])))
    # The newest state of 4 KiB of the ext4's superblock is in the log alone (MS-VHDX §2.3): an entry with one data
    # descriptor, which has the first 8 and the last 4 bytes, and a data sector with the others.
    written = raw.read_bytes()[MIB : MIB + 4096]
    place = data.index(written, 2 * MIB)
    data[place : place + 4096] = b"old state" * 455 + bytes(1)
    log, sequence = MIB, 5
    entry = bytearray(8192)
    struct.pack_into("<4sIIIQII16sQQ", entry, 0, b"loge", 0, 8192, 0, sequence, 1, 0, guid, len(data), len(data))
    struct.pack_into("<4s4s8sQQ", entry, 64, b"desc", written[-4:], written[:8], place, sequence)
    struct.pack_into("<4sI4084sI", entry, 4096, b"data", sequence >> 32, written[8:-4], sequence & 0xFFFFFFFF)
    struct.pack_into("<I", entry, 4, crc32c(bytes(entry)))
    data[log : log + 8192] = entry
    disk.write_bytes(bytes(data))
    shown = ctx.reforge("inspect", disk)
    ctx.that("inspect, which writes nothing, refuses it", shown.status == REFUSED and "log" in shown.said, shown)
    ended = ctx.reforge("capture", disk, "out.img.zst")
    if ended.status == DONE:
        ctx.that("its log is replayed on a copy", "to replay its log" in ended.said, ended)
        replayed, oracle = contents(ctx, ctx.folder / "out.img.zst"), plain_capture(ctx, "raw.img")
        ctx.that("and it has its contents", same(replayed, oracle))
    else:
        ctx.that("what cannot be replayed is refused", "log" in ended.said, ended)
    ctx.that("the file itself is only read", disk.read_bytes() == bytes(data))


def test_locks_of_reforge(ctx: Context) -> None:
    """A virtual machine cannot start on a disk while it is captured."""
    needs_qemu()
    disk = ctx.folder / "vm.qcow2"
    raw = ctx.folder / "raw"
    raw.write_bytes(ctx.text_bytes(48 * MIB))
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    child = slow_capture(ctx, disk)
    write = ["qemu-io", "-f", "qcow2", "-c", "write 0 512", str(disk)]
    tried = subprocess.run(write, capture_output=True, text=True, check=False)
    ctx.that("QEMU does not write to it", tried.returncode != 0 and "lock" in tried.stderr, tried.stderr)
    child.send_signal(signal.SIGINT)
    ctx.wait(child)
    with disk.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    ctx.that("no lock is left", True)
