# SPDX-License-Identifier: GPL-3.0-or-later
"""`reforge doctor`: a real Debian disk that is broken in one way is diagnosed, in a file and as an image, through the
appliance, and, as a block device, directly; what the findings name as their fix repairs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import Context, copy_sparse, expect, full_only, note, run, time_limit

SECTOR = 512
LOST = "11111111-2222-4333-8444-555555555555"
STOPS = 70
# An NVMe disk on PCI, as sysfs names it.
NVME = {
    "format": "reforge-machine", "version": 1, "firmware": "uefi", "architecture": "x86_64", "product": "spare",
    "controllers": [],
    "disks": [{
        "name": "nvme0n1", "transport": "nvme", "byteCount": 1 << 40, "sectorSize": 512,
        "devices": [{
            "modalias": "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02", "driver": "nvme", "module": "nvme",
        }],
    }],
}  # fmt: skip


class Broken:
    """A copy of the Debian disk (1 BIOS boot, 2 ESP, 3 ext4 root, 4 swap), or of another one, whose files can be changed.

    `root` and `esp` are indices of partitions.
    """

    def __init__(self, ctx: Context, name: str, source: Path | None = None, root: int = 2, esp: int = 1) -> None:
        self.folder = ctx.folder
        self.disk = copy_sparse(source or ctx.debian_disk(), ctx.folder / f"{name}.raw")
        self.root, self.esp = root, esp
        table = json.loads(run("sfdisk", "--json", self.disk))["partitiontable"]["partitions"]
        self.starts = [part["start"] * SECTOR for part in table]

    def debugfs(self, command: str) -> str:
        """Runs a command of debugfs on the root filesystem."""
        return run("debugfs", "-w", "-R", command, f"{self.disk}?offset={self.starts[self.root]}")

    def read(self, path: str) -> str:
        """A text file of the root filesystem."""
        return self.debugfs(f"cat {path}")

    def write(self, path: str, content: bytes) -> None:
        """Replaces a file of the root filesystem."""
        made = self.folder / "content"
        made.write_bytes(content)
        self.debugfs(f"rm {path}")
        self.debugfs(f"write {made} {path}")

    def mtools(self, program: str, *words: str | Path) -> str:
        """Runs a program of mtools on the EFI system partition."""
        return run(program, "-i", f"{self.disk}@@{self.starts[self.esp]}", *words, MTOOLS_SKIP_CHECK="1")

    def names(self, prefix: str) -> list[str]:
        """Files of /boot that begin so."""
        listed = [line.split("/") for line in self.debugfs("ls -p /boot").splitlines() if line.startswith("/")]
        return [fields[5] for fields in listed if len(fields) > 5 and fields[5].startswith(prefix)]


def diagnose(
    ctx: Context, disk: str | Path, *arguments: str | Path, code: int, appliance: bool = True
) -> dict[str, Any]:
    """The report of the doctor, as JSON."""
    command = [str(word) for word in (ctx.binary, "doctor", disk, *arguments, "--json")]
    if appliance:
        command += ["--media", str(ctx.media)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=900, check=False)
    expect(ended.returncode == code, f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(ended.stdout)
    expect(report["stops"] == (code == STOPS), f"stops: {report}")
    return report


def codes(report: dict[str, Any], severity: str | None = None) -> list[str]:
    """The codes of a report."""
    return [found["code"] for found in report["findings"] if severity in (None, found["severity"])]


def break_menu(broken: Broken) -> None:
    """grub.cfg looks for another root."""
    menu = broken.read("/boot/grub/grub.cfg")
    uuid = run("blkid", "-p", "-O", str(broken.starts[broken.root]), "-o", "value", "-s", "UUID", broken.disk).strip()
    broken.write("/boot/grub/grub.cfg", menu.replace(uuid, LOST).encode())


def break_fstab(broken: Broken) -> None:
    """fstab names a filesystem that is on no disk."""
    broken.write("/etc/fstab", (broken.read("/etc/fstab") + f"UUID={LOST} /data ext4 defaults 0 2\n").encode())


def break_kernel(broken: Broken) -> None:
    """There is no kernel."""
    for name in broken.names("vmlinuz"):
        broken.debugfs(f"rm /boot/{name}")


def break_boot_code(broken: Broken) -> None:
    """Block 0 has no boot code."""
    with broken.disk.open("r+b") as file:
        file.write(bytes(440))


def break_initramfs(broken: Broken) -> None:
    """The initramfs holds no modules."""
    made = broken.folder / "empty.cpio"
    tree = broken.folder / "none"
    (tree / "conf").mkdir(parents=True)
    (tree / "init").write_text("#!/bin/sh\n")
    (tree / "conf/initramfs.conf").write_text("MODULES=dep\n")
    run("sh", "-c", f"cd {tree} && find . | cpio -o -H newc --quiet >{made}")
    for name in broken.names("initrd.img-"):
        broken.write(f"/boot/{name}", made.read_bytes())


@time_limit(1200)
def test_broken_debian_as_an_image(ctx: Context) -> None:
    """An image of a Debian whose grub.cfg and fstab are wrong: both codes, and nothing else that stops, without
    restoring it."""
    ctx.medium("vmlinuz")
    broken = Broken(ctx, "broken")
    break_menu(broken)
    break_fstab(broken)
    image = ctx.folder / "broken.img.zst"
    ctx.reforge("capture", broken.disk, image)
    report = diagnose(ctx, image, code=STOPS)
    expect(codes(report, "stops") == ["grub-menu-wrong"], f"{report}")
    expect("fstab-elsewhere" in codes(report, "may-stop"), f"{report}")
    menu = next(found for found in report["findings"] if found["code"] == "grub-menu-wrong")
    expect(any("update-grub" in step for step in menu["fix"]["steps"]), f"{menu}")
    expect(menu["evidence"]["file"] == "/boot/grub/grub.cfg", f"{menu}")
    expect(report["system"].startswith("Debian"), f"{report}")


@full_only
@time_limit(3600)
def test_each_damage_in_a_file(ctx: Context) -> None:
    """Each damage alone, in a file: its code, and nothing else that stops; the whole disk has none."""
    ctx.medium("vmlinuz")
    spare = ctx.folder / "spare.json"
    spare.write_text(json.dumps(NVME))
    cases: dict[str, tuple[Callable[[Broken], None], list[str | Path]]] = {
        "kernel-missing": (break_kernel, []),
        "grub-boot-code-missing": (break_boot_code, []),
        "driver-missing": (break_initramfs, ["--for", spare]),
    }
    whole = diagnose(ctx, ctx.debian_disk(), "--for", spare, code=0)
    expect(codes(whole, "stops") == [], f"{whole}")
    for code, (damage, options) in cases.items():
        broken = Broken(ctx, code)
        damage(broken)
        report = diagnose(ctx, broken.disk, *options, code=STOPS)
        stops = codes(report, "stops")
        expect(stops == [code], f"{code}: {report}")
        note(f"{code}: {[found['sentence'] for found in report['findings'] if found['code'] == code]}")
        broken.disk.unlink()


@contextmanager
def attached(disk: Path) -> Iterator[str]:
    """The disk as a loop device with partitions."""
    device = run("losetup", "--find", "--show", "--partscan", disk).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@time_limit(900)
def test_the_fix_is_what_the_finding_names(ctx: Context) -> None:
    """A block device: the doctor's findings, boot repair's steps, and a doctor that finds nothing more; both change
    nothing in a second run."""
    broken = Broken(ctx, "block")
    break_menu(broken)
    break_boot_code(broken)
    with attached(broken.disk) as device:
        before = broken.disk.stat().st_mtime_ns
        report = diagnose(ctx, device, code=STOPS, appliance=False)
        expect(broken.disk.stat().st_mtime_ns == before, "the doctor wrote to the disk")
        found = set(codes(report, "stops"))
        expect("grub-menu-wrong" in found and found <= {"grub-menu-wrong", "grub-boot-code-missing"}, f"{report}")
        plan = json.loads(ctx.reforge("boot-repair", device, "--dry-run", "--json"))["plan"]
        expect([f["code"] for f in plan["findings"]] == codes(report), f"other findings than the doctor's: {plan}")
        repaired = json.loads(ctx.reforge("boot-repair", device, "--json", codes=(0, STOPS)))
        expect(any("grub.cfg" in change for change in repaired["changed"]), f"{repaired}")
        report = diagnose(ctx, device, code=0, appliance=False)
        again = json.loads(ctx.reforge("boot-repair", device, "--json", codes=(0, STOPS)))
        expect(again["changed"] == [], f"a second run changed something: {again}")
        note(f"left after boot repair: {codes(report)}")


def test_records_that_are_none(ctx: Context) -> None:
    """A record of another version, with unknown members, or of another kind is refused before anything starts."""
    record = ctx.folder / "machine.json"
    own = json.loads(ctx.reforge("machine"))
    expect(own["format"] == "reforge-machine" and own["version"] == 1, f"{own}")
    for change in ({"version": 2}, {"format": "x"}, {"firmware": "x"}, {"extra": 1}, {"disks": None}):
        record.write_text(json.dumps(own | change))
        ctx.reforge("doctor", ctx.folder / "none", "--for", record, codes=(64,))
    record.write_bytes(b" " * (1 << 20))
    ctx.reforge("doctor", ctx.folder / "none", "--for", record, codes=(64,))
    ctx.reforge("doctor", ctx.folder / "none", "--for", ctx.folder / "nowhere.json", codes=(66,))
