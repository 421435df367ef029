#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and reads registry hives with hivex, a reader and writer that is not Reforge's.

    hives.py make FIRST COUNT FOLDER   random stores (N.bcd) and SYSTEM hives (N.system) for the seeds FIRST, …
    hives.py boot FILE DISK ESP WINDOWS   the store of one Windows, by the GUIDs of its disk and partitions
    hives.py dump FILE…                all values of each hive, below its name: path, name, type, data; one a line
"""

import random
import struct
import sys
import uuid
import zlib
from pathlib import Path

import hivex

BOOT_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
DRIVERS = "storahci stornvme msahci pciide intelide atapi iaStorVD iaStorAC viostor vioscsi storvsc vmbus pvscsi megasas LSI_SAS".split()


def empty_hive() -> bytes:
    """A hive of one bin with a root key, as small as the format allows."""
    cells = bytearray(4096 - 32)
    descriptor = bytes.fromhex("010004801400000024000000000000003400000001020000000000052000000020020000") + bytes(28)
    root = bytearray(80 + 8)
    struct.pack_into("<i2sH", root, 0, -88, b"nk", 0x2C)
    struct.pack_into("<I", root, 20, 0xFFFFFFFF)  # no parent
    for offset in (32, 36, 44, 52):
        struct.pack_into("<I", root, offset, 0xFFFFFFFF)
    struct.pack_into("<II", root, 24, 0, 0)
    struct.pack_into("<I", root, 40, 0)
    struct.pack_into("<I", root, 48, 32 + 88)  # security
    struct.pack_into("<HH", root, 76, 4, 0)
    root[80:84] = b"ROOT"
    security = bytearray(24 + len(descriptor))
    security += bytes(-len(security) % 8)
    struct.pack_into("<i2sHIII", security, 0, -len(security), b"sk", 0, 120, 120, 1)
    struct.pack_into("<I", security, 20, len(descriptor))
    security[24 : 24 + len(descriptor)] = descriptor
    cells[0:88] = root
    cells[88 : 88 + len(security)] = security
    free = 88 + len(security)
    struct.pack_into("<i", cells, free, len(cells) - free)
    hive_bin = b"hbin" + struct.pack("<IIQQI", 0, 4096, 0, 0x01DA000000000000, 0) + bytes(cells)
    head = bytearray(4096)
    struct.pack_into("<4sIIQIIIIIII", head, 0, b"regf", 1, 1, 0x01DA000000000000, 1, 3, 0, 1, 32, 4096, 1)
    total = 0
    for word in struct.unpack("<127I", head[:508]):
        total ^= word
    struct.pack_into("<I", head, 508, total)
    return bytes(head) + hive_bin


class Maker:
    """Fills a hive at random."""

    def __init__(self, path: Path, seed: int):
        path.write_bytes(empty_hive())
        self.path = path
        self.hive = hivex.Hivex(str(path), write=True)
        self.random = random.Random(seed)

    def key(self, parent: int, name: str, values=()) -> int:
        node = self.hive.node_add_child(parent, name)
        if values:
            self.hive.node_set_values(node, [{"key": k, "t": t, "value": v} for k, t, v in values])
        return node

    def noise(self) -> list:
        """Values that nobody asks for."""
        made = {}
        for _ in range(self.random.randrange(4)):
            name = self.random.choice(["", "Group", "Tag", "Grüße", "日本", "ErrorControl", "a name with blanks"])
            size = self.random.choice([0, 1, 2, 3, 4, 5, 8, 100, 5000, 20000])
            made[name] = (name, self.random.choice([1, 3, 4, 7]), self.random.randbytes(size))
        return list(made.values())

    def guid(self) -> bytes:
        return self.random.randbytes(16)

    def device(self) -> bytes:
        """A device element: mostly one that names a partition."""
        kind = self.random.randrange(10)
        if kind == 0:
            return bytes(16) + struct.pack("<IIII", 5, 0, 0x48, 0) + bytes(56)
        if kind == 1:  # a file on a partition
            return bytes(16) + struct.pack("<IIII", 0, 0, 0x9E, 0) + self.random.randbytes(142)
        data = bytearray(88)
        struct.pack_into("<IIII", data, 16, 6, 0, 0x48, 0)
        if kind < 7:
            data[32:48], data[56:72] = self.guid(), self.guid()
        else:
            struct.pack_into("<Q", data, 32, self.random.randrange(1 << 40) * 512)
            struct.pack_into("<II", data, 52, 1, self.random.getrandbits(32))
        return bytes(data)

    def store(self) -> None:
        root = self.hive.root()
        self.key(root, "Description", [("KeyName", 1, "BCD00000001\0".encode("utf-16-le"))])
        objects = self.key(root, "Objects")
        names = [BOOT_MANAGER]
        for _ in range(self.random.randrange(1, 9)):
            text = self.guid().hex()
            names.append("{%s-%s-%s-%s-%s}" % (text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
        for index, name in enumerate(names):
            kind = 0x10100002 if index == 0 else self.random.choice([0x10200003, 0x10200003, 0x10200004, 0x20200003, 0x30000000])
            entry = self.key(objects, name)
            self.key(entry, "Description", [("Type", 4, struct.pack("<I", kind))])
            elements = self.key(entry, "Elements")
            for element in self.random.sample(["11000001", "21000001", "31000003"], self.random.randrange(4)):
                self.key(elements, element, [("Element", 3, self.device())])
            for element, text in (("12000002", "\\Windows\\system32\\winload.efi"), ("22000002", "\\Windows"), ("12000004", "Wïndows")):
                if self.random.randrange(3):
                    self.key(elements, element, [("Element", 1, (text + "\0").encode("utf-16-le"))])
            if index == 0 and len(names) > 1:
                self.key(elements, "23000003", [("Element", 1, (names[1] + "\0").encode("utf-16-le"))])
                self.key(elements, "24000001", [("Element", 7, "".join(n + "\0" for n in names[1:]).encode("utf-16-le") + b"\0\0")])
            if self.random.randrange(4) == 0:
                self.key(entry, "Other", self.noise())

    def boot(self, disk: str, esp: str, windows: str) -> None:
        """A boot manager and one loader, as Windows' setup makes them."""
        objects = self.key(self.hive.root(), "Objects")
        loader = "{b2721d73-1db4-4c62-bf78-c548a880142d}"
        rows = [(BOOT_MANAGER, 0x10100002, esp, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"), (loader, 0x10200003, windows, "\\Windows\\system32\\winload.efi")]
        for name, kind, partition, path in rows:
            entry = self.key(objects, name)
            self.key(entry, "Description", [("Type", 4, struct.pack("<I", kind))])
            elements = self.key(entry, "Elements")
            data = bytearray(88)
            struct.pack_into("<IIII", data, 16, 6, 0, 0x48, 0)
            data[32:48], data[56:72] = uuid.UUID(partition).bytes_le, uuid.UUID(disk).bytes_le
            self.key(elements, "11000001", [("Element", 3, bytes(data))])
            self.key(elements, "12000002", [("Element", 1, (path + "\0").encode("utf-16-le"))])
            if name == BOOT_MANAGER:
                self.key(elements, "23000003", [("Element", 1, (loader + "\0").encode("utf-16-le"))])
            else:
                self.key(elements, "21000001", [("Element", 3, bytes(data))])

    def system(self) -> None:
        root = self.hive.root()
        current = self.random.choice([1, 1, 1, 2, 3])
        default = self.random.choice([current, current, 1])
        self.key(root, "Select", [("Current", 4, struct.pack("<I", current)), ("Default", 4, struct.pack("<I", default))] + [
            ("LastKnownGood", 4, struct.pack("<I", 9))])
        for number in sorted({1, current, default}):
            control_set = self.key(root, f"ControlSet{number:03}")
            self.key(control_set, "Control", self.noise())
            services = self.key(control_set, "Services")
            names = [n for n in DRIVERS if self.random.randrange(3)]
            names += ["service %d" % n for n in self.random.sample(range(1000), self.random.randrange(40))]
            self.random.shuffle(names)
            for name in names:
                values = [v for v in self.noise() if v[0] != "Start"]
                values.append(("Start", 4, struct.pack("<I", self.random.choice([0, 1, 3, 3, 4]))))
                if self.random.randrange(2):
                    values.append(("ImagePath", 2, f"System32\\drivers\\{name}.sys\0".encode("utf-16-le")))
                self.random.shuffle(values)
                node = self.key(services, name, values)
                if self.random.randrange(2):
                    self.key(node, "Parameters", self.noise())
                if self.random.randrange(3) == 0:
                    self.key(node, "StartOverride", [("0", 4, struct.pack("<I", self.random.choice([0, 3])))])

    def close(self) -> None:
        self.hive.commit(None)


def dump(path: str) -> None:
    hive = hivex.Hivex(path)
    lines = []

    def walk(node: int, place: str) -> None:
        lines.append(place + "\t\t\t")
        for value in hive.node_values(node):
            kind, data = hive.value_value(value)
            # The whole output must stay small.
            text = data.hex() if len(data) <= 200 else f"{len(data)} bytes, CRC-32 {zlib.crc32(data)}"
            lines.append("\t".join([place, hive.value_key(value), str(kind), text]))
        for child in hive.node_children(node):
            walk(child, place + "\\" + hive.node_name(child))

    walk(hive.root(), "")
    print(f"# {Path(path).name}")
    print("\n".join(sorted(lines)))


def main() -> None:
    if sys.argv[1] == "make":
        first, count, folder = int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
        for seed in range(first, first + count):
            for kind in ("bcd", "system"):
                maker = Maker(folder / f"{seed}.{kind}", seed)
                maker.store() if kind == "bcd" else maker.system()
                maker.close()
    elif sys.argv[1] == "boot":
        maker = Maker(Path(sys.argv[2]), 0)
        maker.boot(*sys.argv[3:6])
        maker.close()
    else:
        for path in sys.argv[2:]:
            dump(path)


main()
