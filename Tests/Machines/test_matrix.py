# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot matrix (matrix.py): each cell's system is captured on this host, restored unattended by the medium onto the
cell's disk in a machine with its firmware, and boots there, whole; or the refusal or finding is proved.

The cells are the tests `test_matrix.cell_NN`. Six of the quick ones run without `--full`, chosen by the seed.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matrix
from debian_tree import run as run_tool
from lab import MIB, Context, Test, copy_sparse, expect, expect_whole, first_nonzero, full_only, note, sampled, time_limit
from machine import Disk
from matrix import Cell, astuple_text, committed, outcome
from matrix_disks import SOURCE_BYTES, results_file, source_disk
from matrix_initramfs import LUKS_PASSPHRASE
from proof import DEAD_ENDS, Proof, wait_for_proof
from test_medium import needs_secure_firmware
from test_restore import PANIC, TARGET_SERIAL, command_line, restore_settings, stick_with

SOURCE_MIB = SOURCE_BYTES // MIB
MEBIBYTES = {"larger": SOURCE_MIB + 1024, "smaller": SOURCE_MIB - 1024, "same": SOURCE_MIB, "4kn": SOURCE_MIB + 1024}
# The length of a card is a power of two.
CARD_MEBIBYTES = {"larger": 2 * SOURCE_MIB, "smaller": SOURCE_MIB // 2, "same": SOURCE_MIB}
CARD_SERIAL = "0xdeadbeef"  # QEMU's cards have no other
BUSES = {"ahci": "sata"}
BOOT_TIMEOUT = 600
# A stick with Secure Boot on starts by shim and GRUB's menu; a new initramfs takes minutes (10 on a busy host).
LONG_TIMEOUT = 900

# Cells whose systems need no tree of their own, and no new initramfs: two minutes each.
QUICK_LOADERS = {"grub-ext4"}

# SeaBIOS shows its text screen, and with it GRUB's question, on this serial port too.
SERIAL_CONSOLE = (0x3F8).to_bytes(8, "little")
REASONS = r"is not made to start by|is not rewritten for another sector size"
# What firmware with Secure Boot on says of a file without signature.
UNSIGNED = r"Access Denied|Security Violation"


@dataclass
class Restored:
    """A restored target."""

    target: Path
    said: str
    nvram: Path
    seconds: dict[str, float] = field(default_factory=dict)


def firmware_of(cell: Cell) -> str:
    """The firmware's kind, without Secure Boot."""
    return "bios" if cell.firmware == "bios" else "uefi"


def target_disk(cell: Cell, path: Path, *, snapshot: bool = False) -> Disk:
    """The target on the cell's controller."""
    sector_size = 4096 if cell.size == "4kn" else 512
    return Disk(path, BUSES.get(cell.bus, cell.bus), TARGET_SERIAL, snapshot=snapshot, sector_size=sector_size)


def image_of(ctx: Context, cell: Cell) -> Path:
    """The image of the cell's system, captured by the binary under test once in a run."""
    ctx.binary  # skips before the source is made
    firmware = "uefi" if cell.loader in matrix.UNSIGNED else cell.source

    def make() -> Path:
        image = ctx.workdir / f"matrix-{cell.loader}-{firmware}.img.zst"
        with source_disk(cell) as disk:
            ctx.reforge("capture", disk, image, "--overwrite")
        return image

    return ctx.shared.once(f"matrix {cell.loader} {firmware}", make)


def images_with_key(ctx: Context, image: Path) -> Path:
    """A disk labelled IMAGES with the image and the passphrase of LUKS."""
    disk = ctx.images_disk(system=image)
    key = ctx.folder / "key"
    key.write_text(LUKS_PASSPHRASE)
    run_tool("debugfs", "-w", "-R", f"write {key} key", disk)
    return disk


def settings_of(cell: Cell) -> dict[str, str]:
    """The unattended restore."""
    serial = CARD_SERIAL if cell.bus == "sd" else TARGET_SERIAL
    more: dict[str, str] = {}
    if cell.change != "same":
        more["firmware"] = firmware_of(cell)
    if cell.loader == "grub-luks1":
        more["luks-key"] = "LABEL=IMAGES:/key"
    return restore_settings("LABEL=IMAGES:/system.img.zst", target=f"serial={serial}", **more)


def restore(ctx: Context, cell: Cell) -> Restored:
    """Runs the medium on the cell's machine; with Secure Boot on, as a stick."""
    mebibytes = (CARD_MEBIBYTES if cell.bus == "sd" else MEBIBYTES)[cell.size]
    done = Restored(ctx.blank_disk("target.raw", mebibytes * MIB), "", ctx.folder / "nvram.fd")
    images = images_with_key(ctx, image_of(ctx, cell))
    disks = [target_disk(cell, done.target), Disk(images, "virtio", "IMAGES")]
    if cell.firmware == "secure":
        settings = ctx.folder / "reforge.json"
        settings.write_text(json.dumps(settings_of(cell)) + "\n")
        stick = stick_with(ctx, {"reforge.json": settings})
        disks.append(Disk(stick, "usb", "STICK"))
        machine = ctx.machine(
            "restore", firmware="secure", disks=disks, nvram=done.nvram, memory=640, boot_from="STICK",
            time_limit=LONG_TIMEOUT,
        )  # fmt: skip
    else:
        # A BIOS has no variables.
        nvram = {} if cell.firmware == "bios" else {"nvram": done.nvram}
        machine = ctx.machine(
            "restore", firmware=cell.firmware, disks=disks, kernel=ctx.medium("vmlinuz"), initrd=ctx.medium("initramfs.img"),
            append=command_line(settings_of(cell)), memory=512, time_limit=LONG_TIMEOUT, **nvram,
        )  # fmt: skip
    with machine:
        # Behind a failure, the medium stays on with its menu.
        if machine.wait_for(r"^REFORGE-RESULT exit=(\d+)", LONG_TIMEOUT, unless=PANIC)[1] == "0":
            machine.wait_for_exit(120, unless=PANIC)
        done.seconds["restore"] = time.monotonic() - machine.started
        done.said = machine.text()
    images.unlink()
    note(f"the medium ended after {done.seconds['restore']:.0f} s")
    return done


def boot(ctx: Context, cell: Cell, done: Restored, nvram: Path | None) -> Proof:
    """Boots the target alone, and gives its proof."""
    options: dict[str, Any] = {}
    if cell.loader == "grub-luks1" and cell.firmware == "bios":
        port = ctx.folder / "serial-console"
        port.write_bytes(SERIAL_CONSOLE)
        options["extra"] = ["-fw_cfg", f"name=etc/sercon-port,file={port}"]
    with ctx.machine(
        "boot", firmware=cell.firmware, disks=[target_disk(cell, done.target, snapshot=True)], nvram=nvram,
        time_limit=BOOT_TIMEOUT + 300, **options,
    ) as machine:  # fmt: skip
        if cell.loader == "grub-luks1":
            machine.wait_for(r"Enter passphrase for", BOOT_TIMEOUT, unless=DEAD_ENDS)
            time.sleep(1)
            machine.send(f"{LUKS_PASSPHRASE}\r")
        return wait_for_proof(machine, BOOT_TIMEOUT)


def expect_start(ctx: Context, cell: Cell, number: int, done: Restored) -> None:
    """The restore succeeded, and the system starts whole: by its entry, or by the fallback loader alone."""
    expect("REFORGE-RESULT exit=0" in done.said, f"the restore ended otherwise\n{done.said[-3000:]}")
    nvram = done.nvram if cell.firmware != "bios" and number % 2 else None
    proof = boot(ctx, cell, done, nvram)
    done.seconds["boot"] = proof.seconds
    # A system that starts by UEFI mounts its ESP.
    expect_whole(proof, firmware=firmware_of(cell), bus=target_disk(cell, done.target).bus, esp=cell.firmware != "bios")
    note(f"booted by {cell.firmware} in {proof.seconds:.0f} s: {proof['root-device']} on {proof['disk']}")


def expect_refused(cell: Cell, done: Restored) -> None:
    """The restore said why it would not start, and wrote nothing."""
    expect(re.search(REASONS, done.said) is not None, f"no reason was given\n{done.said[-3000:]}")
    expect("REFORGE-RESULT exit=0" not in done.said, "the restore succeeded")
    expect(first_nonzero(done.target) is None, "a refused restore wrote something")


def expect_finding(ctx: Context, cell: Cell, done: Restored) -> None:
    """The finding is named, and the firmware agrees with it."""
    code = outcome(cell)
    expect(code in done.said, f"{code} was not found\n{done.said[-3000:]}")
    expect("REFORGE-RESULT" in done.said, f"the restore did not end\n{done.said[-3000:]}")
    if code == "secure-boot-unsigned":
        disks = [target_disk(cell, done.target, snapshot=True)]
        with ctx.machine("boot", firmware="secure", disks=disks, nvram=done.nvram, time_limit=300) as machine:
            machine.wait_for(UNSIGNED, 200, unless="Linux version")


def run_cell(ctx: Context, name: str, cell: Cell) -> None:
    """Runs one cell, and appends its result to the file of results."""
    ctx.medium("vmlinuz")
    if cell.firmware == "secure":
        needs_secure_firmware()
    done, result, started = None, "failed", time.monotonic()
    try:
        done = restore(ctx, cell)
        found = outcome(cell)
        if found == "starts":
            expect_start(ctx, cell, int(name.removeprefix("cell_")), done)
        elif found == "refused":
            expect_refused(cell, done)
        else:
            expect_finding(ctx, cell, done)
        result = "passed"
        done.target.unlink()
    finally:
        record = {"cell": name, "cell_is": astuple_text(cell), "result": result, "seconds": time.monotonic() - started}
        if done is not None:
            record |= done.seconds
        with open(results_file(), "a", encoding="utf-8") as results:
            results.write(json.dumps(record) + "\n")


def is_quick(cell: Cell) -> bool:
    """Whether a cell takes less than 2.5 minutes, so that it may run without `--full`."""
    return cell.loader in QUICK_LOADERS and cell.firmware != "secure"


def cell_test(name: str, cell: Cell) -> Test:
    """The machine test of a cell."""

    def test(ctx: Context) -> None:
        run_cell(ctx, name, cell)

    test.__name__ = name
    test = time_limit(2400)(full_only(test))
    return sampled(test) if is_quick(cell) else test


SAMPLE = 6
MORE_TESTS = {name: cell_test(name, cell) for name, cell in committed().items()}


def test_the_list_is_what_the_generator_makes(_: Context) -> None:
    """matrix.txt is complete: each possible pair of values, and each outcome, is in a cell; no cell is impossible."""
    expect(matrix.LIST.read_text() == matrix.as_text(matrix.generate()), "run Tests/Machines/matrix.py --write")
    cells = list(committed().values())
    expect(len(cells) >= matrix.LEAST_CELLS, f"{len(cells)} cells")
    expect(len(set(cells)) == len(cells), "a cell is there twice")
    starting, others = matrix.required_pairs()
    for wanted, are_starting in ((starting, True), (others, False)):
        proved = set().union(*(cell.proves for cell in cells if (outcome(cell) == "starts") == are_starting))
        expect(not wanted - proved, f"not in the list: {sorted(wanted - proved)}")
    wrong = [cell for cell in cells if matrix.impossible(cell)]
    expect(not wrong, f"impossible: {wrong}")
    expect(sum(is_quick(cell) for cell in cells) > SAMPLE, "too few quick cells to choose from")
