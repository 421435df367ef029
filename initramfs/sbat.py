#!/usr/bin/env python3
"""Prints the SBAT generations of EFI programs, and refuses those that firmware revokes.

  sbat.py MINIMUM SHIM PROGRAM...

MINIMUM has lines `component,generation`: what firmware and other systems' updates revoke below. The shim is also asked
what it would set by itself (its section .sbatlevel): a program below that would not start after it.
Formats: shim's SBAT.md; PE/COFF specification, "Section Table"; shim's include/sbat.h for .sbatlevel.
"""
import struct
import sys


def sections(path):
    """The sections of a PE file by name, without padding."""
    with open(path, "rb") as file:
        data = file.read()
    pe = struct.unpack_from("<I", data, 0x3C)[0]
    if data[pe : pe + 4] != b"PE\0\0":
        raise SystemExit(f"error: {path} is no PE file")
    count, optional = struct.unpack_from("<H", data, pe + 6)[0], struct.unpack_from("<H", data, pe + 20)[0]
    symbols, symbol_count = struct.unpack_from("<II", data, pe + 12)
    strings = symbols + 18 * symbol_count
    found = {}
    for index in range(count):
        at = pe + 24 + optional + 40 * index
        name, virtual_size, _, raw_size, raw_place = struct.unpack_from("<8sIIII", data, at)
        name = name.rstrip(b"\0")
        # Names of more than 8 bytes are in the string table: a slash, and the offset in decimal digits.
        if name[:1] == b"/" and name[1:].isdigit():
            name = data[strings + int(name[1:]) :].split(b"\0", 1)[0]
        found[name.decode("ascii", "replace")] = data[raw_place : raw_place + min(virtual_size, raw_size)]
    return found


def rows(text):
    """`component,generation[,…]` a line, as a dictionary. The date of a revocation list is no generation."""
    found = {}
    for line in text.decode("utf-8", "replace").strip("\0").splitlines():
        fields = line.strip().split(",")
        if len(fields) >= 2 and fields[1].isdigit() and not line.startswith("#"):
            found[fields[0]] = int(fields[1])
    return found


def latest_level(section):
    """The newer of a shim's two revocation lists: version, offsets of both (from behind the version), two texts."""
    if len(section) < 12:
        return {}
    latest = struct.unpack_from("<III", section)[2]
    return rows(section[4 + latest :].split(b"\0")[0])


def main():
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    with open(sys.argv[1], "rb") as file:
        minimum = rows(file.read())
    revoked, shim = {"minimum": minimum}, sys.argv[2]
    revoked["the shim's own level"] = latest_level(sections(shim).get(".sbatlevel", b""))
    bad = 0
    for path in sys.argv[2:]:
        own = rows(sections(path).get(".sbat", b"").split(b"\0")[0])
        print(f"{path.rsplit('/', 1)[-1]}: " + " ".join(f"{name},{number}" for name, number in own.items()), file=sys.stderr)
        if not own:
            print(f"error: {path} has no SBAT data: Secure Boot refuses it", file=sys.stderr)
            bad = 1
        if path == shim and "shim" not in own:
            print(f"error: {path} is no shim", file=sys.stderr)
            bad = 1
        for source, level in revoked.items():
            for name, number in level.items():
                if own.get(name, number) < number:
                    print(f"error: {path} is revoked: {name} is of generation {own[name]}, {source} is {number}", file=sys.stderr)
                    bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
