"""End to end: a real Debian is captured on this host, restored by the booted medium onto larger disks on another
controller, and boots there.

The tests rely on the contract (issue 2): the commands and exit codes, `reforge.*` on the kernel command line,
`reforge.json` with the same names without the prefix, and the words of a refusal or of a damaged image.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from http_server import FileServer
from lab import (
    GIB,
    MIB,
    PROJECT,
    Context,
    copy_sparse,
    expect,
    expect_whole,
    first_nonzero,
    full_only,
    note,
    run,
    sha256,
    time_limit,
)
from machine import Disk, Machine
from proof import Proof

TARGET_BYTES = 8 * GIB
GROWN_ROOT = 7 * GIB
ROOT_OFFSET = 66 * MIB
IMAGE = "LABEL=IMAGES:/debian.img.zst"
TARGET_SERIAL = "TARGET"

# Patterns of the medium's console. Every unattended job ends with a REFORGE-RESULT line.
REFUSED = r"REFORGE-RESULT exit=78"
DAMAGED = r"REFORGE-RESULT exit=65"
HTTP_MISSING = r"(?s)error: .*\b404\b.*REFORGE-RESULT exit=66"
PANIC = r"Kernel panic|Fatal error"
RESTORE_FAILED = PANIC + r"|^(?:reforge: )?error: |^REFORGE-RESULT exit=[1-9]"

RESTORE_TIMEOUT = 480


# MARK: helpers


def restore_settings(location: str = IMAGE, target: str = f"serial={TARGET_SERIAL}", **more: str) -> dict[str, str]:
    """The settings of an unattended restore, by their names without `reforge.`."""
    return {"restore": location, "target": target, "finish": "poweroff", **more}


def command_line(settings: dict[str, str]) -> str:
    """The kernel command line for settings, with the serial console."""
    words = [f"reforge.{name}={value}" if value else f"reforge.{name}" for name, value in settings.items()]
    return " ".join(["console=ttyS0,115200n8", "loglevel=4", "SWIFT_BACKTRACE=enable=no", *words])


def medium(ctx: Context, name: str, settings: dict[str, str], disks: list[Disk], **options: Any) -> Machine:
    """The recovery environment, booted directly from kernel and initramfs (like PXE), in 512 MiB."""
    return ctx.machine(
        name, kernel=ctx.medium("vmlinuz"), initrd=ctx.medium("initramfs.img"), append=command_line(settings),
        disks=disks, memory=512, time_limit=RESTORE_TIMEOUT, **options,
    )  # fmt: skip


def target_and_images(ctx: Context, image: Path) -> tuple[Path, list[Disk]]:
    """A blank 8 GiB NVMe disk, and a disk labelled IMAGES with the image."""
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    images = ctx.images_disk(debian=image)
    return target, [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]


def finish_restore(machine: Machine) -> None:
    """Waits for the power-off of `finish=poweroff` after a success."""
    seconds = machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
    note(f"restored in {seconds:.0f} s from power-on")


def expect_grown(proof: Proof, firmware: str) -> None:
    """The restored system runs from NVMe, whole and larger."""
    expect_whole(proof, firmware=firmware, bus="nvme", root_over=GROWN_ROOT)
    note(f"booted by {firmware} in {proof.seconds:.0f} s: root of {proof.number('root-size') / GIB:.2f} GiB")


def expect_sound_table(target: Path) -> None:
    """Checks the table by sgdisk and sfdisk, the grown filesystem by e2fsck, and swap after the root."""
    run("sgdisk", "--verify", target)
    table = json.loads(run("sfdisk", "--json", target))["partitiontable"]["partitions"]
    expect(len(table) == 4, f"four partitions: {table}")
    expect([part["uuid"][:8] for part in table] == [f"5EED000{n}" for n in range(1, 5)], f"GUIDs are kept: {table}")
    expect(table[3]["start"] > table[2]["start"], "swap follows the root")
    expect(table[3]["size"] == 256 * MIB // 512, f"swap keeps its size: {table[3]}")
    expect(all(part["start"] % 2048 == 0 for part in table), f"1 MiB boundaries: {table}")
    run("e2fsck", "-f", "-n", f"{target}?offset={table[2]['start'] * 512}")


def expect_no_table(target: Path) -> None:
    """Fails unless a disk after a failed restore has no partition table for sfdisk and blkid."""
    expect(first_nonzero(target, 0, 512) is None, "the first sector is all zero")
    done = subprocess.run(["sfdisk", "--dump", str(target)], capture_output=True, text=True, check=False)
    expect(done.returncode != 0, f"sfdisk sees a table: {done.stdout}")
    done = subprocess.run(["blkid", "--probe", str(target)], capture_output=True, text=True, check=False)
    expect("PTTYPE" not in done.stdout, f"blkid sees a table: {done.stdout}")


def flipped(ctx: Context, image: Path) -> Path:
    """A copy of the image with one bit flipped in the middle half, which holds data."""
    copy = copy_sparse(image, ctx.folder / "flipped.img.zst")
    length = copy.stat().st_size
    position = ctx.random.randrange(length // 4, length * 3 // 4)
    with open(copy, "r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)[0]
        handle.seek(position)
        handle.write(bytes([byte ^ 1 << ctx.random.randrange(8)]))
    note(f"one bit flipped at {position} of {length}")
    return copy


def configured_media(ctx: Context, settings: dict[str, str]) -> Path:
    """Builds the media with these settings (the initramfs comes from the builder's cache)."""
    build = PROJECT / "Scripts/build-media"
    ctx.medium("reforge.iso")
    configuration = ctx.folder / "reforge.json"
    configuration.write_text(json.dumps(settings) + "\n")
    folder = ctx.folder / "media"
    done = subprocess.run(
        [str(build), str(folder), "--config", str(configuration)],
        env=dict(os.environ, REFORGE_BINARY=str(ctx.binary)), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    expect(done.returncode == 0, f"build-media failed: {done.stderr[-2000:]}")
    return folder


def stick_with(ctx: Context, files: dict[str, Path]) -> Path:
    """A copy of the stick on a larger disk, with files on its REFORGE volume."""
    stick = copy_sparse(ctx.medium("reforge.img"), ctx.folder / "stick.raw")
    parts = json.loads(run("sfdisk", "--json", stick))["partitiontable"]["partitions"]
    esp, volume = parts[1]["start"] * 512, parts[2]["start"] * 512
    # The volume's settings count only together with the id of the booted build.
    build_id = ctx.folder / "reforge-build-id"
    run("mcopy", "-n", "-i", f"{stick}@@{esp}", "::/reforge-build-id", build_id)
    volume_mib = sum(path.stat().st_size for path in files.values()) // MIB + 64
    part = ctx.folder / "volume.img"
    named = [f"--file={name}={path}" for name, path in {**files, "reforge-build-id": build_id}.items()]
    run(PROJECT / "initramfs/exfat-volume.py", "make", part, "--size", f"{volume_mib}M", "--serial", "5eed5eed", *named)
    # Room for the backup table, and for the first boot to grow the volume.
    os.truncate(stick, volume + volume_mib * MIB + 256 * MIB)
    run("sfdisk", "--relocate", "gpt-bak-std", "--no-reread", "--no-tell-kernel", stick)
    done = subprocess.run(
        ["sfdisk", "-N", "3", "--no-reread", "--no-tell-kernel", str(stick)], input=f",{volume_mib}M\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expect(done.returncode == 0, f"sfdisk: {done.stdout}{done.stderr}")
    run("dd", f"if={part}", f"of={stick}", "bs=1M", f"seek={volume // MIB}", "conv=notrunc,sparse", "status=none")
    part.unlink()
    return stick


# MARK: on this host


@time_limit(900)
def test_capture_leaves_the_source_untouched(ctx: Context) -> None:
    """A capture leaves the source's bytes unchanged, and `verify` and `zstd -t` accept the image."""
    ctx.binary
    source, _ = ctx.used_debian_disk()
    before = sha256(source)
    image = ctx.debian_image()
    expect(sha256(source) == before, "the source was written to")
    ctx.reforge("verify", image)
    run("zstd", "--test", "--quiet", image)
    note(f"image of {image.stat().st_size / MIB:.0f} MiB")


@time_limit(600)
def test_image_is_plain_zstd(ctx: Context) -> None:
    """`zstd -dc IMAGE` is the raw disk, which boots without Reforge."""
    image = ctx.debian_image()
    raw = ctx.folder / "plain.raw"
    run("zstd", "--decompress", "--sparse", "--quiet", "-o", raw, image)
    expect(raw.stat().st_size == 4 * GIB, f"{raw.stat().st_size} bytes")
    expect_whole(ctx.boot_and_prove("plain", raw, "virtio", "bios"), firmware="bios", root_over=3 * GIB)


@time_limit(600)
def test_restore_on_the_host(ctx: Context) -> None:
    """Restores onto a larger file and grows; `boot-repair` then succeeds or stays pending (70). It boots by BIOS."""
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    ctx.reforge("restore", ctx.debian_image(), target, "--yes")
    ctx.reforge("boot-repair", target, codes=(0, 70))
    expect_sound_table(target)
    # The plain run boots the disk that the medium restored in `test_restore_by_bios`.
    if ctx.full:
        expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")


# MARK: by the medium, booted like PXE


@time_limit(900)
def test_restore_by_bios(ctx: Context) -> None:
    """4 GiB on virtio becomes 8 GiB on NVMe and boots by BIOS."""
    target, disks = target_and_images(ctx, ctx.debian_image())
    with medium(ctx, "restore", restore_settings(), disks) as machine:
        finish_restore(machine)
    expect_sound_table(target)
    expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")


@time_limit(1100)
def test_restore_by_uefi(ctx: Context) -> None:
    """Restored by UEFI, the disk boots by the NVRAM entry of the restore, and on a machine with a blank NVRAM."""
    target, disks = target_and_images(ctx, ctx.debian_image())
    nvram = ctx.folder / "nvram.fd"
    with medium(ctx, "restore", restore_settings(), disks, firmware="uefi", nvram=nvram) as machine:
        finish_restore(machine)
    expect_sound_table(target)
    with_entry = ctx.boot_and_prove("restored-with-entry", target, "nvme", "uefi", nvram=nvram)
    expect_grown(with_entry, "uefi")
    entries = [entry for entry in with_entry.all("efi-entry") if "grubx64.efi" in entry.lower()]
    expect(len(entries) == 1, f"one entry for the restored loader: {with_entry.all('efi-entry')}")
    expect(
        entries[0].startswith(f"Boot{with_entry['efi-boot-current']}"),
        f"booted by {with_entry['efi-boot-current']}, not by {entries[0]}",
    )
    expect_grown(ctx.boot_and_prove("restored-blank-nvram", target, "nvme", "uefi"), "uefi")


@full_only
@time_limit(1500)
def test_restore_by_each_firmware_boots_by_the_other(ctx: Context) -> None:
    """The Debian has loaders for both firmwares: a restore by one keeps the loader of the other."""
    for firmware, other in (("bios", "uefi"), ("uefi", "bios")):
        target, disks = target_and_images(ctx, ctx.debian_image())
        with medium(ctx, f"restore-{firmware}", restore_settings(), disks, firmware=firmware) as machine:
            finish_restore(machine)
        if other == "bios" or "bootx64.efi" in run("mdir", "-b", "-/", "-i", f"{target}@@{2 * MIB}", "::").lower():
            expect_grown(ctx.boot_and_prove(f"restored-{other}", target, "nvme", other), other)
        (ctx.folder / "images.raw").unlink()


# MARK: from optical disc and stick


@full_only
@time_limit(1100)
def test_restore_from_iso(ctx: Context) -> None:
    """reforge.iso in an optical drive, by BIOS, with settings on the disc."""
    media = configured_media(ctx, restore_settings())
    target, disks = target_and_images(ctx, ctx.debian_image())
    with ctx.machine(
        "iso", cdrom=media / "reforge.iso", disks=disks, boot_from="cdrom", time_limit=RESTORE_TIMEOUT
    ) as machine:
        finish_restore(machine)
    expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")


@time_limit(1500)
def test_restore_from_stick(ctx: Context) -> None:
    """reforge.img on a USB stick, by UEFI, with settings and image on its REFORGE volume; a reboot skips the job."""
    settings = ctx.folder / "reforge.json"
    settings.write_text(json.dumps(restore_settings("LABEL=REFORGE:/debian.img.zst")) + "\n")
    stick = stick_with(ctx, {"reforge.json": settings, "debian.img.zst": ctx.debian_image()})
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    disks = [Disk(stick, "usb", "STICK"), Disk(target, "nvme", TARGET_SERIAL)]
    nvram = ctx.folder / "nvram.fd"
    with ctx.machine("stick", firmware="uefi", disks=disks, nvram=nvram, time_limit=RESTORE_TIMEOUT) as machine:
        finish_restore(machine)
    expect_sound_table(target)
    # `test_restore_by_uefi` boots a disk restored by UEFI; this one is booted with --full only.
    if ctx.full:
        expect_grown(ctx.boot_and_prove("restored", target, "nvme", "uefi", nvram=nvram), "uefi")

    # The stick is booted again: its job was done, and is only offered.
    before = sha256(target)
    with ctx.machine("again", disks=disks, boot_from="STICK", time_limit=RESTORE_TIMEOUT) as machine:
        machine.wait_for(r"The job of reforge\.json was done before, and is not repeated", 240, unless=PANIC + r"|^Restoring")
        machine.wait_for(r"restore of LABEL=REFORGE:/debian\.img\.zst \(id [0-9a-f]{16}\.\.\.\), disk /dev/nvme", 60)
        machine.wait_for(r"9  Do the job again", 60, unless=r"REFORGE-RESULT")
    expect(sha256(target) == before, "the second start writes nothing")


@full_only
@time_limit(1100)
def test_boot_from_iso_and_stick_by_both_firmwares(ctx: Context) -> None:
    """Without settings each medium starts by each firmware and lists the target."""
    for firmware in ("bios", "uefi"):
        for name in ("reforge.iso", "reforge.img"):
            target = ctx.blank_disk("target.raw", GIB)
            disks = [Disk(target, "nvme", TARGET_SERIAL)]
            options: dict[str, Any] = {"cdrom": ctx.medium(name), "boot_from": "cdrom"}
            if name == "reforge.img":
                stick = copy_sparse(ctx.medium(name), ctx.folder / "stick.raw")
                disks.append(Disk(stick, "usb", "STICK"))
                options = {"boot_from": "STICK"}
            with ctx.machine(f"{name}-{firmware}", firmware=firmware, disks=disks, **options) as machine:
                machine.wait_for(TARGET_SERIAL, 240, unless=PANIC)
            expect(first_nonzero(target) is None, "without settings nothing is written")


@full_only
@time_limit(1500)
def test_capture_by_the_medium(ctx: Context) -> None:
    """The medium captures a disk onto the REFORGE volume of a stick; the same stick restores it."""
    source, _ = ctx.used_debian_disk()
    filler = ctx.folder / "filler"
    with open(filler, "wb") as handle:
        handle.truncate(MIB)
    # Larger than its content, for the image: the first boot grows the volume to the stick's end.
    stick = stick_with(ctx, {"filler": filler})
    os.truncate(stick, 3 * GIB)
    disks = [Disk(source, "virtio", "SOURCE", snapshot=True), Disk(stick, "usb", "STICK")]
    capture = {"capture": "serial=SOURCE", "to": "LABEL=REFORGE:/debian.img.zst", "finish": "poweroff"}
    with medium(ctx, "capture", capture, disks) as machine:
        note(f"captured in {machine.wait_for_exit(RESTORE_TIMEOUT):.0f} s")
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(stick, "usb", "STICK")]
    with medium(ctx, "restore", restore_settings("LABEL=REFORGE:/debian.img.zst"), disks) as machine:
        finish_restore(machine)
    expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")


# MARK: over HTTP


@full_only
@time_limit(900)
def test_restore_over_http(ctx: Context) -> None:
    """The image is streamed from a web server."""
    image = ctx.debian_image()
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    with FileServer(image.parent) as server:
        settings = restore_settings(server.guest_url(image.name))
        disks = [Disk(target, "nvme", TARGET_SERIAL)]
        with medium(ctx, "restore", settings, disks, network=True) as machine:
            finish_restore(machine)
        expect(any(request.path == f"/{image.name}" for request in server.requests), "the image came from the server")
    expect_sound_table(target)
    if ctx.full:
        expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")


@time_limit(400)
def test_http_404_is_clear(ctx: Context) -> None:
    """A missing image is reported as missing, and the target stays untouched."""
    target = ctx.blank_disk("target.raw", TARGET_BYTES)
    with FileServer(ctx.folder) as server:
        settings = restore_settings(server.guest_url("absent.img.zst"))
        with medium(ctx, "restore", settings, [Disk(target, "nvme", TARGET_SERIAL)], network=True) as machine:
            machine.wait_for(HTTP_MISSING, 200, unless=PANIC)
        expect([request.status for request in server.requests][:1] == [404], f"requests: {server.requests}")
    expect(first_nonzero(target) is None, "the target was written to")


# MARK: refusals and damage


@time_limit(400)
def test_wrong_selector_refuses(ctx: Context) -> None:
    """No disk has the serial: the medium refuses, lists the disks, and writes nothing."""
    target, disks = target_and_images(ctx, ctx.debian_image())
    settings = restore_settings(target="serial=NOT-THERE")
    with medium(ctx, "refusal", settings, disks) as machine:
        machine.wait_for(REFUSED, 200, unless=PANIC)
        listed = machine.text()
        if TARGET_SERIAL not in listed:
            machine.wait_for(TARGET_SERIAL, 30, unless=PANIC)
    expect(first_nonzero(target) is None, "the target was written to")


@time_limit(400)
def test_ambiguous_selector_refuses(ctx: Context) -> None:
    """Two disks have the serial: neither is written."""
    first, disks = target_and_images(ctx, ctx.debian_image())
    second = ctx.blank_disk("second.raw", TARGET_BYTES)
    with medium(ctx, "refusal", restore_settings(), [*disks, Disk(second, "sata", TARGET_SERIAL)]) as machine:
        machine.wait_for(REFUSED, 200, unless=PANIC)
    for target in (first, second):
        expect(first_nonzero(target) is None, f"{target.name} was written to")


@time_limit(900)
def test_flipped_bit_leaves_no_table(ctx: Context) -> None:
    """One wrong bit in the image: `verify` finds it, and the restore ends with the table unwritten."""
    image = flipped(ctx, ctx.debian_image())
    ctx.reforge("verify", image, codes=(65,))
    target, disks = target_and_images(ctx, image)
    with medium(ctx, "damaged", restore_settings(), disks) as machine:
        machine.wait_for(DAMAGED, RESTORE_TIMEOUT, unless=PANIC)
    expect_no_table(target)


@full_only
@time_limit(900)
def test_power_cut_leaves_no_table_and_resumes(ctx: Context) -> None:
    """The power is cut while data is written: the disk has no table, and the same restore resumes and completes."""
    target, disks = target_and_images(ctx, ctx.debian_image())
    used = target.stat().st_blocks * 512
    with medium(ctx, "cut", restore_settings(), disks) as machine:
        limit = ctx.random.randrange(150, 450) * MIB
        deadline = time.monotonic() + RESTORE_TIMEOUT
        while target.stat().st_blocks * 512 - used < limit:
            expect(time.monotonic() < deadline, f"never wrote {limit} bytes\n{machine.tail()}")
            expect(machine.running, f"it ended before {limit} bytes were written\n{machine.tail()}")
            time.sleep(0.2)
        machine.kill()
    note(f"cut after {limit // MIB} MiB")
    expect_no_table(target)
    with medium(ctx, "resumed", restore_settings(), disks) as machine:
        finish_restore(machine)
    expect_grown(ctx.boot_and_prove("restored", target, "nvme", "bios"), "bios")
