"""The medium resumes after a power cut and after a lost connection, and works with encrypted repositories. Also
captures of a disk with bad sectors.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from debian_tree import scratch_directory
from http_server import FileServer
from lab import GIB, MIB, Context, expect, first_nonzero, full_only, note, run, time_limit
from lvm_guest import LVMGuest
from machine import Disk
from test_restore import PANIC, RESTORE_FAILED, RESTORE_TIMEOUT, TARGET_SERIAL, expect_no_table, medium

HTTP_NO_RANGES = r"(?s)error: [^\n]*does not support Range.*REFORGE-RESULT exit=74"
DISK_BYTES = 768 * MIB
# Layout kept and no boot repair: the result can be compared byte for byte.
PLAIN = {"layout": "keep", "boot-repair": "no", "finish": "poweroff", "target": f"serial={TARGET_SERIAL}"}
RESUMED = "holds an interrupted restore of this image"
# The first line of the plan: the work begins after it.
PLAN = r"^Target /dev/nvme"
PASSWORD = b"correct horse battery staple\n"


# MARK: helpers


def data_image(ctx: Context) -> Path:
    """An image of the data disk."""

    def make() -> Path:
        image = ctx.workdir / "data.img.zst"
        ctx.reforge("capture", ctx.data_disk(), image, "--overwrite")
        return image

    return ctx.shared.once("data image", make)


def junk_disk(ctx: Context, name: str) -> Path:
    """A disk full of a byte pattern."""
    path = ctx.folder / name
    block = bytes(range(7, 256)) * 5000
    with open(path, "wb") as handle:
        while (left := DISK_BYTES - handle.tell()) > 0:
            handle.write(block[: min(left, len(block))])
    return path


def restored_on_the_host(ctx: Context, image: Path, target: Path) -> Path:
    """Restores on this host, without an interruption."""
    ctx.reforge("restore", image, target, "--yes", "--layout", "keep", "--no-boot-repair")
    return target


def is_junk(target: Path) -> bool:
    """Whether the first sector of a `junk_disk` is unchanged."""
    with open(target, "rb") as disk:
        return disk.read(512) == (bytes(range(7, 256)) * 3)[:512]


def expect_same(one: Path, other: Path) -> None:
    """Fails unless two files are equal byte for byte."""
    with open(one, "rb") as first, open(other, "rb") as second:
        position = 0
        while True:
            left, right = first.read(MIB), second.read(MIB)
            if left != right:
                different = next((i for i, pair in enumerate(zip(left, right)) if pair[0] != pair[1]), min(len(left), len(right)))
                raise AssertionError(f"{one.name} and {other.name} differ at byte {position + different}")
            if not left:
                return
            position += len(left)


# MARK: power cuts


@time_limit(2400)
def test_power_cuts_at_any_moment(ctx: Context) -> None:
    """The power is cut at random moments; each boot resumes, until the disk equals that of an uninterrupted restore."""
    image = data_image(ctx)
    images = ctx.images_disk(data=image)
    target = junk_disk(ctx, "target.raw")
    expected = restored_on_the_host(ctx, image, junk_disk(ctx, "expected.raw"))
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    settings = {"restore": "LABEL=IMAGES:/data.img.zst", **PLAIN}
    wanted = 20 if ctx.full else 1
    resumed = cuts = number = 0
    done = False
    # A restore takes some 10 s on an idle host. A cut that comes too late makes the next ones earlier.
    span = 12.0
    while cuts < wanted and number < 3 * wanted + 4:
        # Cuts hit one restore until one comes too late: then the next restore begins.
        if done:
            expect_same(target, expected)
            junk_disk(ctx, "target.raw")
        number += 1
        with medium(ctx, f"cut{number}", settings, disks) as machine:
            machine.wait_for(PLAN, RESTORE_TIMEOUT, unless=PANIC)
            pause = ctx.random.random() * span
            time.sleep(pause)
            machine.kill()
            said = machine.text()
        resumed += RESUMED in said
        done = "REFORGE-RESULT" in said
        note(f"cut {pause:.1f} s after the plan{' (after the end)' if done else ''}")
        if done:
            span *= 0.75
            continue
        cuts += 1
        # Sector 0 is written last: a disk with a table is complete.
        if first_nonzero(target, 0, 512) is not None and not is_junk(target):
            expect_same(target, expected)
    # The journal is missing before the first write and after the end.
    journal = holds_journal(target)
    with medium(ctx, "last", settings, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the last one ended otherwise\n{said[-1500:]}")
    expect((RESUMED in said) == journal, f"there is {'a' if journal else 'no'} journal, and the last one\n{said[-1500:]}")
    note(f"{cuts} cuts in time; {resumed} of the cut restores, and {'' if journal else 'not '}the last, had resumed")
    expect(cuts == wanted, f"only {cuts} of {wanted} cuts came in time")
    expect_same(target, expected)


@full_only
@time_limit(900)
def test_c_ends_a_job(ctx: Context) -> None:
    """Typing c ends the job, shows its outcome and the menu; the next boot resumes the restore."""
    image = data_image(ctx)
    images = ctx.images_disk(data=image)
    target = junk_disk(ctx, "target.raw")
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    settings = {"restore": "LABEL=IMAGES:/data.img.zst", **PLAIN}
    with medium(ctx, "ended", settings, disks) as machine:
        machine.wait_for(PLAN, RESTORE_TIMEOUT, unless=PANIC)
        asked = time.monotonic()
        machine.send("c\n")
        machine.wait_for(r"The job is asked to end", 60, unless=PANIC + r"|REFORGE-RESULT exit=0")
        machine.wait_for(r"REFORGE-RESULT exit=75", 60, unless=PANIC + r"|REFORGE-RESULT exit=0")
        note(f"ended {time.monotonic() - asked:.1f} s after c")
        machine.wait_for(r"The restore was interrupted \(75\)", 30, unless=PANIC)
        machine.send("\n")
        machine.wait_for(r"What is to be done\?", 60, unless=PANIC)
    expect(first_nonzero(target, 0, 512) is None or is_junk(target), "the disk has no table")
    with medium(ctx, "last", settings, disks) as machine:
        machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
    expect_same(target, restored_on_the_host(ctx, image, junk_disk(ctx, "expected.raw")))


def holds_journal(target: Path) -> bool:
    """Whether the disk has a restore's journal (`RestoreJournal`)."""
    with open(target, "rb") as disk:
        head = disk.read(132 << 10)
    return any(head[offset : offset + 8] == b"RFJOURNL" for offset in (64 << 10, 128 << 10))


# MARK: HTTP


@time_limit(900)
def test_lost_connections_are_resumed(ctx: Context) -> None:
    """The connection is dropped three times; the restore reports the losses, and each byte is sent once."""
    image = data_image(ctx)
    length = image.stat().st_size
    target = junk_disk(ctx, "target.raw")
    with FileServer(image.parent) as server:
        cuts = sorted(ctx.random.randrange(MIB, length) for _ in range(3))
        server.cut(f"/{image.name}", *cuts)
        settings = {"restore": server.guest_url(image.name), **PLAIN}
        with medium(ctx, "restore", settings, [Disk(target, "nvme", TARGET_SERIAL)], network=True) as machine:
            machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
            said = machine.text()
        answers = [(request.range, request.status) for request in server.requests]
        note(f"cut at {cuts}: {answers}")
        expect(said.count("asking for the rest") >= 2, "the losses are not reported")
        expect(answers[0] == (None, 200), f"the first request: {answers}")
        expect(len(answers) > 2 and all(status == 206 for _, status in answers[1:]), f"resumed by Range: {answers}")
        expect(sum(request.body_bytes for request in server.requests) < length + 64 * MIB, "the file was sent more than once")
    expect_same(target, restored_on_the_host(ctx, image, junk_disk(ctx, "expected.raw")))


@full_only
@time_limit(900)
def test_a_job_over_http_is_done_once(ctx: Context) -> None:
    """A machine that boots from the network repeatedly: the disk records that the job with this id was done."""
    image = data_image(ctx)
    target = junk_disk(ctx, "target.raw")
    with FileServer(image.parent) as server:
        settings = {"restore": server.guest_url(image.name), **PLAIN, "finish": "reboot", "job-id": "lab-1"}
        disks = [Disk(target, "nvme", TARGET_SERIAL)]
        with medium(ctx, "restore", settings, disks, network=True) as machine:
            machine.wait_for(r"REFORGE-RESULT exit=0", RESTORE_TIMEOUT, unless=RESTORE_FAILED)
            machine.wait_for_exit(60)
        before, count = target.read_bytes(), len(server.requests)
        with medium(ctx, "again", settings, disks, network=True) as machine:
            machine.wait_for(r"The job with the id lab-1 was done before on this disk", 240, unless=PANIC + r"|^Restoring")
            machine.wait_for(r"9  Do the job again", 60, unless=r"REFORGE-RESULT")
        expect(target.read_bytes() == before, "the second start writes nothing")
        expect(len(server.requests) == count, "the second start asks for nothing")
        with medium(ctx, "another", {**settings, "job-id": "lab-2", "finish": "poweroff"}, disks, network=True) as machine:
            machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        expect(target.read_bytes() != before, "another id is another job, with another record")


@time_limit(600)
def test_a_server_without_ranges_is_said(ctx: Context) -> None:
    """A server sends a short body and does not support Range for the rest: a clear error, and no table."""
    image = data_image(ctx)
    target = ctx.blank_disk("target.raw", DISK_BYTES)
    with FileServer(image.parent) as server:
        served = ctx.random.randrange(image.stat().st_size // 4, image.stat().st_size // 2)
        server.behave(f"/{image.name}", "short", after=served)
        settings = {"restore": server.guest_url(image.name), **PLAIN}
        with medium(ctx, "restore", settings, [Disk(target, "nvme", TARGET_SERIAL)], network=True) as machine:
            deadline = time.monotonic() + RESTORE_TIMEOUT
            while not any(request.body_bytes > served // 2 for request in server.requests):
                expect(machine.running and time.monotonic() < deadline, f"never read {served} bytes\n{machine.tail()}")
                time.sleep(0.05)
            server.behave(f"/{image.name}", "no-range")
            machine.wait_for(HTTP_NO_RANGES, RESTORE_TIMEOUT, unless=PANIC)
    expect_no_table(target)


# MARK: encrypted repositories


@time_limit(900)
def test_encrypted_repository(ctx: Context) -> None:
    """The medium captures into an encrypted repository and restores from it, with the password from a volume and by HTTP."""
    source = ctx.data_disk()
    tree = ctx.folder / "tree"
    tree.mkdir()
    password = ctx.folder / "password"
    password.write_bytes(PASSWORD)
    ctx.reforge("init-repo", tree / "backups@home", "--encrypt", "--password-file", password)
    (tree / "key").write_bytes(PASSWORD)
    images = ctx.folder / "images.raw"
    run("mke2fs", "-q", "-t", "ext4", "-L", "IMAGES", "-d", tree, images, "1024M")
    shutil.rmtree(tree)
    capture = {
        "capture": "serial=SOURCE", "to": "LABEL=IMAGES:/backups@home@", "key": "LABEL=IMAGES:/key", "finish": "poweroff",
    }  # fmt: skip
    disks = [Disk(source, "virtio", "SOURCE", snapshot=True), Disk(images, "virtio", "IMAGES")]
    with medium(ctx, "capture", capture, disks) as machine:
        note(f"captured in {machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED):.0f} s from power-on")
        expect("REFORGE-RESULT exit=0" in machine.text(), "the capture ended otherwise")

    target = junk_disk(ctx, "target.raw")
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    with FileServer(ctx.folder) as server:
        restore = {"restore": "LABEL=IMAGES:/backups@home@latest", "key": server.guest_url("password"), **PLAIN}
        with medium(ctx, "restore", restore, disks, network=True) as machine:
            machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
            said = machine.text()
        expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-1500:]}")
        expect(PASSWORD.decode().strip() not in said, "the password is on the console")
    expect_same(target, restored_on_the_host(ctx, data_image(ctx), junk_disk(ctx, "expected.raw")))

    (ctx.folder / "password").write_bytes(b"wrong\n")
    blank = ctx.blank_disk("blank.raw", DISK_BYTES)
    disks = [Disk(blank, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
    with FileServer(ctx.folder) as server:
        restore["key"] = server.guest_url("password")
        with medium(ctx, "wrong", restore, disks, network=True) as machine:
            machine.wait_for(r"REFORGE-RESULT exit=77", 200, unless=PANIC)
    expect(first_nonzero(blank) is None, "a wrong password: the target was written to")


# MARK: bad sectors


@time_limit(900)
def test_bad_sectors(ctx: Context) -> None:
    """Without --rescue the first bad sector ends the capture; with it, exactly the bad sectors in use are holes.
    Neither that image nor a clone counts as a success."""
    source = ctx.data_disk()
    # One file loses one sector, another two adjacent ones; a third bad range is unused.
    bad = []
    for name, count in (("file5", 1), ("file11", 2)):
        blocks = run("debugfs", "-R", f"blocks /{name}", f"{source}?offset={MIB}").split()
        block = int(blocks[ctx.random.randrange(len(blocks) - 1)])
        start = (MIB + block * 4096) // 512 + ctx.random.randrange(8 - count)
        bad.append((start, count))
    free = next(
        block for block in range(600 * MIB // 4096 - 1, 0, -1)
        if f"Block {block} not in use" in run("debugfs", "-R", f"testb {block}", f"{source}?offset={MIB}")
    )  # fmt: skip
    sectors = [start + index for start, count in bad for index in range(count)]
    disks = [
        Disk(source, "virtio", "SOURCE", bad_sectors=(*sectors, (MIB + free * 4096) // 512), read_only=True),
        Disk(ctx.blank_disk("images.raw", GIB), "virtio", "IMAGES"),
        Disk(ctx.blank_disk("clone.raw", DISK_BYTES), "virtio", "CLONE"),
    ]
    script = """
/usr/sbin/mke2fs -q -t ext4 /dev/vdb; mkdir -p /mnt/images; mount /dev/vdb /mnt/images
status=0; reforge capture /dev/vda /mnt/images/plain.img.zst || status=$?
echo "PLAIN-ENDED $status"
[ ! -e /mnt/images/plain.img.zst ]
status=0; reforge capture /dev/vda /mnt/images/rescued.img.zst --rescue || status=$?
[ $status = 74 ]
reforge verify /mnt/images/rescued.img.zst
status=0; reforge restore /dev/vda /dev/vdc --rescue --yes --layout keep || status=$?
[ $status = 74 ]
umount /mnt/images
"""
    lab = LVMGuest(scratch_directory(), ctx.binary)
    with ctx.machine(
        "rescue", kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, script), disks=disks, memory=768, time_limit=600,
        append="console=ttyS0,115200n8 loglevel=1 panic=-1",
    ) as machine:  # fmt: skip
        machine.wait_for(r"PLAIN-ENDED 74", 300, unless=r"GUEST-END|Kernel panic")
        said = machine.text()
        end = machine.wait_for(r"^GUEST-END (\d+)", 300)
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail()}")
        machine.wait_for_exit(60)
        rescued = machine.text()
    expect("--rescue" in said, "the advice is missing")
    expect(any(str(place) in said for place in range(min(sectors) * 512 - 4 * MIB, min(sectors) * 512 + 512, 512)), "no offset")
    expect("partition 1" in rescued, "the partition is not named")

    image = ctx.folder / "rescued.img.zst"
    run("debugfs", "-R", f"dump /rescued.img.zst {image}", ctx.folder / "images.raw")
    found = json.loads(ctx.reforge("inspect", image, "--json"))["unreadable"]
    wanted = sorted((start * 512, (start + count) * 512) for start, count in bad)
    expect(sorted(tuple(pair) for pair in found) == wanted, f"unreadable: {found}, wanted {wanted}")
    # The rest equals a capture without errors, with zeros in these ranges.
    expected = restored_on_the_host(ctx, data_image(ctx), ctx.blank_disk("expected.raw", DISK_BYTES))
    with open(expected, "r+b") as handle:
        for start, stop in wanted:
            handle.seek(start)
            handle.write(bytes(stop - start))
    expect_same(restored_on_the_host(ctx, image, ctx.blank_disk("target.raw", DISK_BYTES)), expected)
