"""The lab itself: the Debian that the other tests restore boots, and the helpers work."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

from http_server import FileServer
from lab import GIB, MIB, Context, copy_sparse, expect, expect_whole, first_nonzero, full_only, note, run, time_limit
from machine import Disk, Machine, MachineError

ESP_OFFSET = 2 * MIB
ROOT_OFFSET = ESP_OFFSET + 64 * MIB


def test_file_server(ctx: Context) -> None:
    """Each behaviour of the file server, seen by urllib."""
    data = ctx.random.randbytes(3_000_000)
    (ctx.folder / "file").write_bytes(data)

    def get(**headers: str) -> tuple[int, bytes]:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read()

    with FileServer(ctx.folder) as server:
        url = server.host_url("file")
        expect(get() == (200, data), "GET gives the file")
        expect(get(Range="bytes=1000-1999") == (206, data[1000:2000]), "a range gives its bytes")
        expect(get(Range="bytes=2999990-") == (206, data[2999990:]), "an open range gives the rest")
        server.behave("/file", "no-range")
        expect(get(Range="bytes=5-9") == (200, data), "no-range gives the whole file")
        for behaviour in ("short", "reset"):
            server.behave("/file", behaviour, after=1_000_000)
            try:
                get()
            except OSError:  # a reset
                pass
            except Exception as error:
                expect(type(error).__name__ == "IncompleteRead", f"{behaviour}: {error!r}")
            else:
                raise AssertionError(f"{behaviour}: the client took it for whole")
            expect(server.requests[-1].body_bytes == 1_000_000, f"{behaviour} ends where it should")
        for behaviour, status in (("missing", 404), ("error", 500)):
            server.behave("/file", behaviour)
            try:
                get()
            except urllib.error.HTTPError as error:
                expect(error.code == status, f"{behaviour} answers {error.code}")
            else:
                raise AssertionError(f"{behaviour} was answered with the file")


def test_machine_is_released(ctx: Context) -> None:
    """A failing machine and one whose limit passes leave no process behind."""
    with Machine("limited", ctx.logs, time_limit=2) as limited:
        pid = limited._process.pid if limited._process else 0
        try:
            limited.wait_for("never said", timeout=60)
        except MachineError as error:
            expect("time limit" in str(error), f"the error names the limit: {error}")
        else:
            raise AssertionError("what was never said was found")
    expect(not os.path.exists(f"/proc/{pid}"), "the limited machine is gone")
    try:
        with Machine("failing", ctx.logs, time_limit=60) as failing:
            pid = failing._process.pid if failing._process else 0
            raise KeyError("a test that fails")
    except KeyError:
        pass
    expect(not os.path.exists(f"/proc/{pid}"), "the failing machine is gone")


def test_debian_disk_is_sound(ctx: Context) -> None:
    """sgdisk, e2fsck and mtools find no error."""
    disk = ctx.debian_disk()
    run("sgdisk", "--verify", disk)
    run("e2fsck", "-f", "-n", f"{disk}?offset={ROOT_OFFSET}")
    listing = run("mdir", "-b", "-/", "-i", f"{disk}@@{ESP_OFFSET}", "::")
    expect("grubx64.efi" in listing.lower(), f"the ESP holds GRUB: {listing}")
    expect("bootx64.efi" not in listing.lower(), f"the ESP holds no fallback loader: {listing}")
    files = run("debugfs", "-R", "cat /etc/fstab", f"{disk}?offset={ROOT_OFFSET}")
    expect(files.count("UUID=") == 3, f"fstab names all by UUID: {files}")


# One boot takes some 100 s on a busy host; --full has five, and 420 s were not enough.
@time_limit(1200)
def test_debian_boots_by_bios(ctx: Context) -> None:
    """The source of all restores boots on virtio; with --full, also on other buses after that clean shutdown."""
    disk, proof = ctx.used_debian_disk()
    expect_whole(proof, firmware="bios", bus="virtio", root_over=3 * GIB)
    note(f"power-on to power-off: {proof.seconds:.0f} s")
    run("e2fsck", "-f", "-n", f"{disk}?offset={ROOT_OFFSET}")
    for bus in ("nvme", "sata", "usb", "scsi") if ctx.full else ():
        again = ctx.boot_and_prove(f"debian-{bus}", disk, bus, "bios")
        expect_whole(again, firmware="bios", bus=bus, root_over=3 * GIB)
        note(f"on {bus}: {again.seconds:.0f} s")


@full_only
@time_limit(420)
def test_debian_boots_by_uefi(ctx: Context) -> None:
    """Boots from an ESP with a fallback loader written by mtools: a blank NVRAM has no other entry."""
    disk = copy_sparse(ctx.debian_disk(), ctx.folder / "fallback.raw")
    volume = f"{disk}@@{ESP_OFFSET}"
    loader = ctx.folder / "grubx64.efi"
    run("mcopy", "-i", volume, "::/EFI/debian/grubx64.efi", loader)
    run("mmd", "-i", volume, "::/EFI/BOOT")
    run("mcopy", "-i", volume, loader, "::/EFI/BOOT/BOOTX64.EFI")
    proof = ctx.boot_and_prove("debian-uefi", disk, "nvme", "uefi")
    expect_whole(proof, firmware="uefi", bus="nvme", root_over=3 * GIB)
    note(f"power-on to power-off: {proof.seconds:.0f} s")


def test_debian_needs_an_entry_for_uefi(ctx: Context) -> None:
    """With a blank NVRAM and no fallback loader it does not boot. So a restored disk that boots was repaired."""
    disk = ctx.debian_disk()
    before = disk.stat().st_mtime_ns
    disks = [Disk(disk, "nvme", "SOURCE", snapshot=True)]
    with ctx.machine("no-entry", firmware="uefi", disks=disks) as machine:
        machine.wait_for(r"Shell>", 90, unless=r"Loading Linux|PROOF-BEGIN")
    expect(disk.stat().st_mtime_ns == before, "a snapshot disk is not written to")


def test_blank_disks_are_blank(ctx: Context) -> None:
    """`first_nonzero` finds a byte, and none on a blank disk."""
    disk = ctx.blank_disk("blank.raw", GIB)
    expect(first_nonzero(disk) is None, "a new disk is blank")
    with open(disk, "r+b") as handle:
        handle.seek(700 * MIB + 123)
        handle.write(b"\0x")
    expect(first_nonzero(disk) == 700 * MIB + 124, "the one byte is found")
