#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot matrix: which systems are restored onto which machines by test_matrix.py, one cell a machine test.

    matrix.py --list              prints the cells, as in matrix.txt
    matrix.py --write             writes matrix.txt
    matrix.py --table [RESULTS]   prints the table of docs/boot.md from the results of runs

A cell has a value of each factor. Not all pairs of values are possible (`impossible`), and some possible cells are
restored for a proof that they are refused (`outcome`). The list is made by a deterministic greedy search: each pair of
values that a cell can start with is in a cell that starts, each other possible pair in a cell of a refusal or finding.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIST = HERE / "matrix.txt"

FACTORS = {
    "loader": [
        "grub-ext4", "grub-lvm", "grub-btrfs", "grub-luks1", "grub-md", "systemd-boot", "uki", "extlinux", "dracut",
        "mkinitcpio",
    ],
    "firmware": ["bios", "uefi", "secure"],
    "bus": ["nvme", "ahci", "scsi", "usb", "sd"],
    "size": ["larger", "smaller", "same", "4kn"],
    "change": ["same", "bios-to-uefi", "uefi-to-bios"],
}  # fmt: skip
LEAST_CELLS = 60
COMMONEST = "grub-ext4"

# Started by UEFI from files that Debian 12 does not sign.
UNSIGNED = {"systemd-boot", "uki"}
# Reforge makes only GRUB for the other firmware.
NOT_CONVERTED = {"systemd-boot", "uki", "extlinux"}
# An ext4 root, and little else: these fit into 2 GiB.
SMALL = {"grub-ext4", "extlinux", "dracut", "mkinitcpio"}


@dataclass(frozen=True)
class Cell:
    """One system on one machine. `firmware` is the target machine's; `change` says where the system started before."""

    loader: str
    firmware: str
    bus: str
    size: str
    change: str

    @property
    def pairs(self) -> frozenset[tuple[tuple[str, str], tuple[str, str]]]:
        """Each pair of (factor, value)."""
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return frozenset(itertools.combinations(values, 2))

    @property
    def triples(self) -> frozenset[tuple[str, ...]]:
        """Each three of its values."""
        return frozenset(itertools.combinations(astuple(self), 3))

    @property
    def proves(self) -> frozenset[tuple]:
        """What the cell counts for: its pairs, and its outcome."""
        return self.pairs | {("outcome", outcome(self))}

    @property
    def source(self) -> str:
        """The firmware that the captured system starts by."""
        if self.change == "same":
            return self.firmware
        return "bios" if self.change == "bios-to-uefi" else "uefi"


def impossible(cell: Cell) -> str | None:
    """Why there is no such cell; None if there is."""
    if (cell.change, cell.firmware == "bios") in (("bios-to-uefi", True), ("uefi-to-bios", False)):
        return "a change ends at the firmware that it names"
    if cell.loader == "extlinux" and cell.source != "bios":
        return "extlinux of Debian 12 starts by BIOS only"
    if cell.loader in UNSIGNED and cell.source == "bios":
        return "systemd-boot and unified kernel images start by UEFI only"
    if cell.size == "4kn" and cell.bus in ("ahci", "sd"):
        return "QEMU's ATA disks and SD cards have sectors of 512 bytes only"
    if cell.bus == "sd" and cell.firmware != "bios":
        return "OVMF has no driver for SD host controllers; SeaBIOS has one"
    if cell.bus == "sd" and cell.size == "smaller" and cell.loader not in SMALL:
        return "the length of an SD card is a power of two: 2 GiB below the 4 GiB of the source, too few for it"
    return None


def outcome(cell: Cell) -> str:
    """`starts`, `refused` (before the first write), or the code of the finding that says why it does not start."""
    if cell.change != "same" and cell.loader in NOT_CONVERTED:
        return "refused"
    if cell.change == "uefi-to-bios" and cell.size == "4kn":
        return "refused"  # neither GRUB nor extlinux starts by BIOS from sectors of 4096 bytes
    if (cell.loader, cell.source, cell.change, cell.size) == (COMMONEST, "bios", "same", "4kn"):
        return "refused"  # it starts from an MBR, whose loaders count in its sectors
    if cell.firmware == "bios" and cell.size == "4kn":
        return "extlinux-sector-size" if cell.loader == "extlinux" else "grub-sector-size"
    if cell.firmware == "secure" and cell.loader in UNSIGNED:
        return "secure-boot-unsigned"
    return "starts"


def possible_cells() -> list[Cell]:
    """All possible cells, in the order of the factors' values."""
    cells = (Cell(*values) for values in itertools.product(*FACTORS.values()))
    return [cell for cell in cells if impossible(cell) is None]


def required_pairs() -> tuple[set[tuple], set[tuple]]:
    """What cells that start must prove, and what is left for the others; each outcome is proved, too."""
    starting: set[tuple] = set()
    others: set[tuple] = set()
    for cell in possible_cells():
        (starting if outcome(cell) == "starts" else others).update(cell.proves)
    return starting, others - starting


def generate() -> list[Cell]:
    """The cells of the list: greedy, the first of equals; then the commonest system on each controller."""
    cells = possible_cells()
    starting, others = required_pairs()
    chosen: list[Cell] = []
    for wanted, are_starting in ((starting, True), (others, False)):
        pool = [cell for cell in cells if (outcome(cell) == "starts") == are_starting]
        left = set(wanted)
        while left:
            best = max(pool, key=lambda cell: len(cell.proves & left))  # max gives the first of equals
            chosen.append(best)
            left -= best.proves
    triples = set().union(*(cell.triples for cell in chosen))
    for firmware, bus in itertools.product(("bios", "uefi"), FACTORS["bus"]):
        here = [cell for cell in cells if astuple(cell)[:3] == (COMMONEST, firmware, bus) and outcome(cell) == "starts"]
        if here and not any(cell in chosen for cell in here):
            chosen.append(max(here, key=lambda cell: len(cell.triples - triples)))
            triples |= chosen[-1].triples
    return sorted(chosen, key=cells.index)


def as_text(cells: list[Cell]) -> str:
    """The list as a table, one line a cell; its number is its name."""
    rows = [["cell", *FACTORS, "outcome"]]
    rows += [[f"{number:02}", *astuple(cell), outcome(cell)] for number, cell in enumerate(cells, 1)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(" ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() + "\n" for row in rows)


def committed() -> dict[str, Cell]:
    """The cells of matrix.txt by their names."""
    rows = [line.split() for line in LIST.read_text().splitlines()[1:]]
    return {f"cell_{row[0]}": Cell(*row[1:6]) for row in rows}


def table(results: Path) -> str:
    """The table of docs/boot.md: the last result of each cell."""
    last = {}
    if results.exists():
        for line in results.read_text().splitlines():
            record = json.loads(line)
            last[record["cell_is"]] = record  # the numbers of cells change with the list
    lines = ["| cell | loader | starts by | disk | size | firmware | outcome | seconds |", "|---" * 7 + "|---:|"]
    names = {"same": "kept", "bios-to-uefi": "BIOS → UEFI", "uefi-to-bios": "UEFI → BIOS"}
    for name, cell in committed().items():
        record = last.get(astuple_text(cell), {})
        seconds = f"{record['seconds']:.0f}" if record.get("result") == "passed" else record.get("result", "not run")
        values = [name.removeprefix("cell_"), cell.loader, cell.firmware, cell.bus, cell.size, names[cell.change]]
        found = outcome(cell)
        values.append(f"`{found}`" if "-" in found else found)
        lines.append("| " + " | ".join([*values, seconds]) + " |")
    return "\n".join(lines) + "\n"


def astuple_text(cell: Cell) -> str:
    """The values of a cell in one line."""
    return " ".join(astuple(cell))


def main() -> int:
    """Parses the options and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true")
    what.add_argument("--write", action="store_true")
    what.add_argument("--table", nargs="?", const="", metavar="RESULTS")
    options = parser.parse_args()
    if options.write:
        LIST.write_text(as_text(generate()))
    elif options.list:
        sys.stdout.write(as_text(generate()))
    else:
        from matrix_disks import results_file

        sys.stdout.write(table(Path(options.table) if options.table else results_file()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
