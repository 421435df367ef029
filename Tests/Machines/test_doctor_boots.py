# SPDX-License-Identifier: GPL-3.0-or-later
"""A negative for each code of the doctor (docs/boot.md): a real disk that is broken in that way alone is diagnosed in the
medium, on the machine that will start it; boot repair takes the steps that the finding names; and the disk boots, whole.
Codes without a fix are only diagnosed. Each code is a test: `test_doctor_boots.grub_menu_wrong`.

`ELSEWHERE` lists the codes that are proved by other tests, with the reason where this one cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian_tree import ROOT_UUID, SWAP_UUID
from lab import MIB, Context, Test, expect, expect_whole, full_only, note, run, time_limit
from machine import Disk, Machine
from proof import wait_for_proof
from test_doctor import LOST, Broken, break_boot_code, break_fstab, break_initramfs, break_kernel, break_menu
from test_firmware import MBR, UEFI_ONLY
from test_loaders import EXTLINUX, SYSTEMD_BOOT, UKI
from test_medium import MENU, shell
from test_restore import PANIC

TARGET = "/dev/nvme0n1"
OTHER_GUID = "5EED0999-0000-4000-8000-000000000999"

ELSEWHERE = {
    "not-adapted": "test_export.test_export_without_a_medium",
    "secure-boot-unsigned": "test_matrix (systemd-boot and UKI with Secure Boot on)",
    "grub-sector-size": "test_matrix (BIOS with sectors of 4096 bytes)",
    "extlinux-sector-size": "test_matrix (BIOS with sectors of 4096 bytes)",
    "grub-from-medium": "test_firmware.test_mbr_without_grub_for_uefi",
    "seed-restored": "test_loaders.test_systemd_boot: only behind a restore",
    "fallback-missing": "every case by UEFI below: the Debian disk has none",
    "controller-raid-mode": "QEMU has no Intel RST controller: DoctorTests",
    "other-processor": "a second architecture is not emulated here: DoctorTests",
    "firmware-entries-unreadable": "OVMF's variables can always be read: NVRAMTests",
    "step-refused": "no loader's step breaks the rules: ToyLoaderTests",
    "initramfs-unread": "the medium has every program that unpacks one: InitramfsPlanTests",
    "initramfs-one-machine": "in the medium the machine is known: InitramfsPlanTests",
    "driver-not-in-kernel": "Debian's kernel has a driver for every controller of QEMU: InitramfsPlanTests",
    "entry-luks-lost": "LUKS: LoaderEntryTests, test_boot_layers",
    "entry-device-lost": "LoaderEntryTests",
    "luks-sealed": "the lab has no TPM that held a key: DoctorTests",
    "bitlocker": "the lab has no TPM that held a key: DoctorTests; the volumes: test_medium",
    "system-unread": "a mount that fails: MountedSystemTests",
    **{
        f"windows-{name}": "no Windows runs here: WindowsPlanTests and WindowsDiskTests, judged by hivex"
        for name in (
            "store-missing", "store-unread", "store-outdated", "entry-lost", "unread", "driver-off", "driver-missing",
            "controller-unknown",
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How a disk is broken, and what else follows from it."""

    damage: Callable[[Broken], None]
    firmware: str = "bios"
    layout: str = "plain"  # the disk: plain, mbr, uefi-only, systemd-boot, uki, extlinux
    stops: bool = True  # whether the code stops the start; otherwise nothing may stop it
    fixed: bool = True  # whether boot repair fixes it, and the disk boots
    also: frozenset[str] = frozenset()  # codes that stop the start too, because of the same damage
    blank: bool = False  # boots without the entries of the firmware that boot repair made
    before: str = ""  # commands in the medium, before the diagnosis


def edit(broken: Broken, path: str, change: Callable[[str], str]) -> None:
    """Changes a text file of the root."""
    old = broken.read(path)
    new = change(old)
    expect(new != old, f"{path} was not changed:\n{old[-600:]}")
    broken.write(path, new.encode())


def patch(broken: Broken, offset: int, content: bytes) -> None:
    """Writes bytes of the disk."""
    with broken.disk.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def edit_esp(broken: Broken, path: str, change: Callable[[bytes], bytes]) -> None:
    """Changes a file of the EFI system partition."""
    place = broken.folder / "esp-file"
    broken.mtools("mcopy", "-n", "-o", f"::/{path}", place)
    old = place.read_bytes()
    place.write_bytes(change(old))
    expect(place.read_bytes() != old, f"{path} was not changed")
    broken.mtools("mcopy", "-o", place, f"::/{path}")


def edit_entry(broken: Broken, change: Callable[[bytes], bytes]) -> None:
    """Changes the only entry of systemd-boot; the layout's own references to /dev/sda are made right first."""
    edit_esp(broken, entry_path(broken), lambda text: change(right_entry(text)))


def right_entry(text: bytes) -> bytes:
    """An entry with the identifiers of this disk."""
    return text.replace(b"/dev/sda2", f"UUID={ROOT_UUID}".encode()).replace(b"/dev/sda3", f"UUID={SWAP_UUID}".encode())


def entry_path(broken: Broken) -> str:
    """The path of the only entry of systemd-boot."""
    (name,) = [line for line in broken.mtools("mdir", "-b", "::/loader/entries").splitlines() if line.endswith(".conf")]
    return name.removeprefix("::/")


def right_extlinux(broken: Broken) -> None:
    """extlinux.conf with the UUID of the root."""
    edit(broken, "/boot/extlinux/extlinux.conf", lambda text: text.replace("/dev/sda1", f"UUID={ROOT_UUID}"))


# MARK: damages


def break_core_place(broken: Broken) -> None:
    """boot.img reads another sector than that of core.img (offset 0x5C)."""
    patch(broken, 0x5C, (broken.starts[0] // 512 + 64).to_bytes(8, "little"))


def break_core(broken: Broken) -> None:
    """The BIOS boot partition holds zeros."""
    patch(broken, broken.starts[0], bytes(MIB))


def break_grub_uuid(broken: Broken) -> None:
    """GRUB on the ESP, and grub.cfg beside it, look for another filesystem."""
    for name in ("grubx64.efi", "grub.cfg"):
        edit_esp(broken, f"EFI/debian/{name}", lambda data: data.replace(ROOT_UUID.encode(), LOST.encode()))


def add_foreign_fallback(broken: Broken) -> None:
    """A fallback loader that is no known system's: it is kept, and the firmware's entry starts the system."""
    place = broken.folder / "foreign.efi"
    # A PE header, so that it is a loader, and nothing that runs.
    header = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + b"\x64\x86" + bytes(900)
    place.write_bytes(header + b"another system's loader" * 64)
    broken.mtools("mmd", "::/EFI/BOOT")
    broken.mtools("mcopy", place, "::/EFI/BOOT/BOOTX64.EFI")


def damage_initramfs(broken: Broken) -> None:
    """The middle of the initramfs is zeroed."""
    for name in broken.names("initrd.img-"):
        place = broken.folder / "initrd"
        broken.debugfs(f"dump /boot/{name} {place}")
        content = bytearray(place.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 65536] = bytes(65536)
        broken.write(f"/boot/{name}", bytes(content))


def remove_initramfs(broken: Broken) -> None:
    """There is no initramfs."""
    for name in broken.names("initrd.img-"):
        broken.debugfs(f"rm /boot/{name}")


def remove_modules(broken: Broken) -> None:
    """The kernel has no index of its modules."""
    version = broken.names("vmlinuz-")[0].removeprefix("vmlinuz-")
    broken.debugfs(f"rm /lib/modules/{version}/modules.dep")


def clear_part_type(broken: Broken) -> None:
    """The entry names no root, and the partition is not of the type for that: Linux data, as sfdisk's `L`."""
    edit_entry(broken, lambda text: text.replace(f"root=UUID={ROOT_UUID} ".encode(), b""))


def break_uki(broken: Broken) -> None:
    """The command line inside of the image names another root of the same length."""
    name = broken.mtools("mdir", "-b", "::/EFI/Linux").split()[-1].removeprefix("::/")
    edit_esp(broken, name, lambda data: data.replace(ROOT_UUID.encode(), LOST.encode()))


def break_kernel_entry(broken: Broken) -> None:
    """The entry's kernel is gone."""
    edit_entry(broken, lambda text: text + b"\n")
    folder = re.search(rb"linux\s+/(\S+)/linux", entry_text(broken))
    expect(folder is not None, "the entry has no kernel")
    broken.mtools("mdel", f"::/{folder[1].decode()}/linux")  # type: ignore[index]


def entry_text(broken: Broken) -> bytes:
    """The text of the entry."""
    return broken.mtools("mtype", f"::/{entry_path(broken)}").encode()


def zero_esp(broken: Broken) -> None:
    """The boot sector of the ESP and its copy hold zeros behind the jump, so that it is no FAT that can be read."""
    patch(broken, broken.starts[broken.esp] + 11, bytes(40))
    patch(broken, broken.starts[broken.esp] + 6 * 512 + 11, bytes(40))


def lines(path: str, *new: str) -> Callable[[Broken], None]:
    """Appends lines to a file."""
    return lambda broken: edit(broken, path, lambda text: text + "".join(f"{line}\n" for line in new))


def words(path: str, old: str, new: str) -> Callable[[Broken], None]:
    """Replaces words in a file."""
    return lambda broken: edit(broken, path, lambda text: text.replace(old, new))


def both(*damages: Callable[[Broken], None]) -> Callable[[Broken], None]:
    """One after the other."""

    def all_of_them(broken: Broken) -> None:
        for damage in damages:
            damage(broken)

    return all_of_them


def nothing(_: Broken) -> None:
    """The disk is as it was made."""


ADD_ENTRY = f"efibootmgr -q -c -d {TARGET} -p 2 -L debian -l '\\EFI\\debian\\grubx64.efi'"
MENU_FILE = "/boot/grub/grub.cfg"
UEFI: dict[str, Any] = {"firmware": "uefi"}
NOTE: dict[str, Any] = {"stops": False}
UNFIXED: dict[str, Any] = {"fixed": False}
SDBOOT: dict[str, Any] = {"firmware": "uefi", "layout": "systemd-boot"}

CASES = {
    # The machine.
    "no-bios-boot": Case(nothing, layout="uefi-only", **UNFIXED),
    "no-uefi-boot": Case(nothing, layout="mbr", firmware="uefi", **UNFIXED),
    "firmware-entry-missing": Case(nothing, **UEFI, **NOTE),
    "firmware-entry-not-first": Case(nothing, before=f"{ADD_ENTRY}; efibootmgr -q -b 0000 -A; true", **UEFI, **NOTE),
    "firmware-entry-stale": Case(
        nothing, before=f"{ADD_ENTRY}; sfdisk -q --part-uuid {TARGET} 2 {OTHER_GUID}; true", **UEFI, **NOTE
    ),
    # The table, the ESP, the boot code.
    "table-missing": Case(lambda broken: run("wipefs", "-a", "-f", broken.disk), **UNFIXED),
    "esp-unreadable": Case(zero_esp, **UEFI, **UNFIXED),
    "fallback-foreign": Case(add_foreign_fallback, also=frozenset({"firmware-entry-missing"}), **UEFI, **NOTE),
    "boot-code-foreign": Case(lambda broken: patch(broken, 0, b"\xeb\xfe" + bytes(438)), **UEFI, **NOTE),
    "grub-boot-code-missing": Case(break_boot_code),
    "grub-core-misdirected": Case(break_core_place),
    "grub-core-missing": Case(break_core),
    "extlinux-boot-code": Case(both(right_extlinux, break_boot_code), layout="extlinux"),
    "extlinux-mark": Case(
        both(right_extlinux, lambda broken: run("sfdisk", "-q", "--no-reread", "--part-attrs", broken.disk, "1", "")),
        layout="extlinux",
    ),
    "extlinux-moved": Case(
        both(right_extlinux, lambda broken: patch(broken, broken.starts[0], bytes(512))), layout="extlinux"
    ),
    # Loaders.
    "grub-loader-missing": Case(lambda broken: broken.mtools("mdel", "::/EFI/debian/grubx64.efi"), **UEFI),
    "grub-loader-lost": Case(break_grub_uuid, **UEFI),
    "esp-not-mounted": Case(
        both(
            lambda broken: edit(broken, "/etc/fstab", lambda text: re.sub(r"(?m)^\S+ /boot/efi .*\n", "", text)),
            lambda broken: broken.mtools("mdel", "::/EFI/debian/grubx64.efi"),
        ), stops=False, also=frozenset({"grub-loader-missing"}), **UEFI,
    ),
    "systemd-boot-missing": Case(
        both(
            lambda broken: edit_entry(broken, lambda text: text),
            lambda broken: broken.mtools("mdel", "::/EFI/systemd/systemd-bootx64.efi"),
        ), **SDBOOT,
    ),
    # Menus and entries.
    "grub-menu-wrong": Case(break_menu),
    "grub-mbr-names": Case(words(MENU_FILE, "hd0,gpt3", "hd0,msdos3"), **NOTE),
    "entries-missing": Case(lambda broken: broken.mtools("mdel", f"::/{entry_path(broken)}"), **SDBOOT),
    "entry-root-missing": Case(clear_part_type, **SDBOOT),
    "entry-root-lost": Case(nothing, blank=True, **SDBOOT),
    "entry-resume-lost": Case(
        lambda broken: edit_entry(broken, lambda text: text.replace(SWAP_UUID.encode(), LOST.encode())), **SDBOOT, **NOTE
    ),
    "entry-file-missing": Case(break_kernel_entry, **SDBOOT),
    "uki-reference-lost": Case(break_uki, layout="uki", **UEFI),
    "uki-damaged": Case(
        lambda broken: broken.mtools("mcopy", "/etc/hostname", "::/EFI/Linux/damaged.efi"), layout="uki", **UEFI, **NOTE
    ),
    "extlinux-file-missing": Case(
        both(right_extlinux, words("/boot/extlinux/extlinux.conf", "/boot/initrd", "/boot/gone")), layout="extlinux", **UNFIXED
    ),
    # Kernel and initramfs.
    "kernel-missing": Case(break_kernel, **UNFIXED),
    "kernel-modules-missing": Case(remove_modules, **NOTE, **UNFIXED),
    "initramfs-missing": Case(remove_initramfs, **NOTE),
    "initramfs-damaged": Case(damage_initramfs),
    "driver-missing": Case(break_initramfs),
    # The system's references.
    "fstab-root-elsewhere": Case(words("/etc/fstab", ROOT_UUID, LOST), **NOTE, **UNFIXED),
    "fstab-elsewhere": Case(break_fstab, **NOTE, **UNFIXED),
    "fstab-device-name": Case(words("/etc/fstab", f"UUID={SWAP_UUID}", "/dev/sda4"), **NOTE),
    "crypttab-lost": Case(lines("/etc/crypttab", f"data UUID={LOST} none luks"), **NOTE, **UNFIXED),
    "resume-lost": Case(words("/etc/initramfs-tools/conf.d/resume", SWAP_UUID, LOST), **NOTE, **UNFIXED),
    "command-line-lost": Case(words("/etc/default/grub", 'DEFAULT=""', 'DEFAULT="resume=/dev/sda4"'), **NOTE),
    "network-name-lost": Case(
        lambda broken: broken.write("/etc/network/interfaces", b"auto enp99s0\niface enp99s0 inet dhcp\n"), **NOTE, **UNFIXED
    ),
    "system-missing": Case(lambda broken: broken.debugfs("rm /etc/os-release"), **NOTE, **UNFIXED),
}  # fmt: skip


# MARK: the tests


def disk_of(ctx: Context, layout: str) -> Broken:
    """A copy of a disk that can be broken."""
    if layout == "plain":
        return Broken(ctx, layout)
    system, root = {
        "mbr": (MBR, 0), "uefi-only": (UEFI_ONLY, 1), "systemd-boot": (SYSTEMD_BOOT, 1), "uki": (UKI, 1),
        "extlinux": (EXTLINUX, 0),
    }[layout]  # fmt: skip
    return Broken(ctx, layout, system.disk(ctx), root=root, esp=0)


def object_in(said: str) -> dict[str, Any]:
    """The JSON object that a command printed."""
    start = said.find("{")
    expect(start >= 0, f"no JSON:\n{said[-2000:]}")
    found: dict[str, Any] = json.JSONDecoder().raw_decode(said[start:])[0]
    return found


def diagnosed(machine: Machine) -> dict[str, list[str]]:
    """The codes of the doctor by severity."""
    report = object_in(shell(machine, f"reforge doctor {TARGET} --json", 300))
    found: dict[str, list[str]] = {"stops": [], "may-stop": [], "note": []}
    for finding in report["findings"]:
        found[finding["severity"]].append(finding["code"])
    return found


def expect_diagnosis(code: str, case: Case, found: dict[str, list[str]]) -> None:
    """The code is there, and nothing else stops."""
    stops = set(found["stops"])
    expect(any(code in named for named in found.values()), f"{code} was not found: {found}")
    expect(stops <= case.also | ({code} if case.stops else set()), f"something else stops: {found}")
    expect(not case.stops or code in stops, f"{code} does not stop: {found}")


def run_case(ctx: Context, code: str, case: Case) -> None:
    """Diagnoses, repairs, diagnoses again, and boots."""
    broken = disk_of(ctx, case.layout)
    case.damage(broken)
    nvram = ctx.folder / "nvram.fd" if case.firmware == "uefi" else None
    disks = [Disk(broken.disk, "nvme", "TARGET")]
    with ctx.machine(
        "repair", firmware=case.firmware, kernel=ctx.medium("vmlinuz"), initrd=ctx.medium("initramfs.img"), disks=disks,
        append="console=ttyS0,115200n8 loglevel=4 SWIFT_BACKTRACE=enable=no", nvram=nvram, time_limit=1200,
    ) as machine:  # fmt: skip
        machine.wait_for(MENU + r"(?s:.*)Number: ", 240, unless=PANIC)
        if case.before:
            shell(machine, case.before)
        found = diagnosed(machine)
        note(f"found: {found}")
        expect_diagnosis(code, case, found)
        if case.fixed:
            said = shell(machine, f"reforge boot-repair {TARGET}; echo STATUS=$?", 900)
            after = diagnosed(machine)
            left = code in {named for codes in after.values() for named in codes}
            # The steps of a note are taken too; a loader that is kept stays a note.
            expect(not left or code in ("fallback-foreign", "boot-code-foreign"), f"{code} is still found: {after}\n{said}")
            expect(after["stops"] == [], f"something stops: {after}\n{said}")
            machine.send("poweroff\n")
            machine.wait_for_exit(120, unless=PANIC)
    if case.fixed:
        booted = [Disk(broken.disk, "nvme", "BOOTED", snapshot=True)]
        with ctx.machine(
            "boot", firmware=case.firmware, disks=booted, nvram=None if case.blank else nvram, time_limit=900
        ) as machine:
            proof = wait_for_proof(machine, 600)
        expect_whole(proof, firmware=case.firmware, bus="nvme", esp=case.layout != "extlinux")
        note(f"booted by {case.firmware} in {proof.seconds:.0f} s")
    broken.disk.unlink()


def case_test(code: str, case: Case) -> Test:
    """The test of a code."""

    def test(ctx: Context) -> None:
        run_case(ctx, code, case)

    test.__name__ = code.replace("-", "_")
    return time_limit(2400)(full_only(test))


MORE_TESTS = {code.replace("-", "_"): case_test(code, case) for code, case in CASES.items()}

# Diagnosed by the unit tests of the references: with them, the system itself starts.
OTHERS = {
    "initramfs-reference-lost": "InitramfsPlanTests: dracut's and cryptsetup's files inside of an initramfs",
    "other-systems": "MountedSystemTests: several systems on one disk",
}


def test_every_code_has_a_negative(_: Context) -> None:
    """Each code of docs/boot.md is broken here, or its place and reason are listed."""
    text = (Path(__file__).resolve().parents[2] / "docs/boot.md").read_text()
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text.partition("## Every code")[2], re.MULTILINE))
    named = [*CASES, *ELSEWHERE, *OTHERS]
    expect(len(named) == len(set(named)), "a code is listed twice")
    expect(set(named) == documented, f"missing: {documented - set(named)}, unknown: {set(named) - documented}")
