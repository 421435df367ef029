"""The report that make-debian-disk's Debian prints at each boot (guest/proof), read from a machine's console."""

from __future__ import annotations

import re
from dataclasses import dataclass

from machine import Machine

# A boot does not continue after one of these: the wait ends before its time limit.
DEAD_ENDS = "|".join([
    r"Kernel panic",
    r"You are in emergency mode",
    r"Cannot open access to console, the root account",
    r"\(initramfs\)",
    r"^grub>|grub rescue>",
    r"error: no such (?:device|partition)",
    r"No bootable device",
    r"Shell>",
    r"ALERT!",
])  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """The facts by name; a repeated fact (`efi-entry`) has its values in order."""

    facts: dict[str, list[str]]
    seconds: float  # from power-on to power-off

    def __getitem__(self, name: str) -> str:
        """The value of a fact that occurs once; empty when it is missing."""
        return self.facts.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """All values of a fact."""
        return self.facts.get(name, [])

    def number(self, name: str) -> int:
        """The number at the start of a fact; -1 without one."""
        match = re.match(r"-?\d+", self[name])
        return int(match[0]) if match else -1

    def complaints(self, *, firmware: str, bus: str | None = None, root_over: int = 0, esp: bool = True) -> list[str]:
        """Defects of the system; empty when it is whole.

        `root_over`: bytes that the root must exceed; `esp`: whether the system has an ESP.
        """
        device = {"virtio": "vd", "nvme": "nvme", "sata": "sd", "usb": "sd", "scsi": "sd", "sd": "mmcblk", None: ""}[bus]
        swap = self["swap"].split()
        checks = {
            f"the firmware is {self['firmware']}, not {firmware}": self["firmware"] == firmware,
            f"it runs from {self['disk']}": self["disk"].startswith(device),
            f"the system is {self['state']}": self["state"] == "running",
            f"failed units: {self['failed-units']}": self["failed-units"] == "0",
            f"errors in the kernel's log: {self.all('kernel-error')}": self["kernel-errors"] == "0",
            f"checksums: {self['checksums']} {self.all('bad-file')}": self["checksums"].startswith("ok "),
            f"metadata: {self['metadata']}": self["metadata"].startswith("ok "),
            f"extended attributes: {self['xattrs']}": self["xattrs"].startswith("ok "),
            f"swap: {self['swap']!r}": len(swap) == 2 and int(swap[1]) > 200 << 20,
            f"the ESP is not mounted: {self['esp']!r}": self["esp"].endswith(" vfat") or not esp,
            f"the root has {self.number('root-size')} bytes, wanted over {root_over}":
                self.number("root-size") > root_over,
            "the root filesystem is smaller than its partition by over 1 MiB":
                0 <= self.number("root-partition-size") - self.number("root-size") < 1 << 20,
        }  # fmt: skip
        return [complaint for complaint, holds in checks.items() if not holds]


def parse(text: str) -> dict[str, list[str]]:
    """The facts between the last PROOF-BEGIN and PROOF-END of a console's text."""
    block = text.rpartition("PROOF-BEGIN")[2].partition("PROOF-END")[0]
    facts: dict[str, list[str]] = {}
    for name, value in re.findall(r"PROOF ([a-z-]+)=(.*)$", block, re.MULTILINE):
        facts.setdefault(name, []).append(value.strip())
    return facts


def wait_for_proof(machine: Machine, timeout: float = 300) -> Proof:
    """Waits for the proof of a running machine and its power-off."""
    machine.wait_for(r"^PROOF-END$", timeout, unless=DEAD_ENDS)
    facts = parse(machine.text())
    return Proof(facts, machine.wait_for_exit(90))
