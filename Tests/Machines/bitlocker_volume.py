#!/usr/bin/env python3
"""Encrypts a small volume like BitLocker does, since no free tool makes such a volume.

  bitlocker_volume.py PLAIN OUTPUT RECOVERY-KEY

AES-XTS-128 with a recovery key as the only protector. Format: J. Metz, "BitLocker Drive Encryption (BDE) format"
(libbde); judge: cryptsetup's own reader (`cryptsetup bitlkDump`, `open --type bitlk`). The plain volume's last quarter
must be unused: the three copies of the metadata and the moved first sectors lie there.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

SECTOR = 512
METADATA_BYTES = 65536
HEADER_BYTES = 8192  # the moved first sectors
AES_XTS_128 = 0x8004
IDENTIFIER = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")  # 4967d63b-2e29-4ad8-8399-f6a339e3d001
RECOVERY = 0x0800
SALT, VOLUME_MASTER_KEY, VOLUME_KEY = bytes(range(16)), bytes(range(32, 64)), bytes(range(100, 132))


def recovery_key(seed: int) -> str:
    """Eight groups of six digits, each a multiple of 11 below 720896."""
    return "-".join(f"{(seed * (index + 3) * 7919 + 12345) % 65536 * 11:06d}" for index in range(8))


def stretched(key: str) -> bytes:
    """The key that the recovery key becomes: 2^20 rounds of SHA-256."""
    raw = b"".join(struct.pack("<H", int(group) // 11) for group in key.split("-"))
    first, last = hashlib.sha256(raw).digest(), bytes(32)
    middle = first + SALT
    for count in range(1 << 20):
        last = hashlib.sha256(last + middle + struct.pack("<Q", count)).digest()
    return last


def entry(kind: int, value: int, data: bytes) -> bytes:
    """A metadata entry: size, type, value type, version."""
    return struct.pack("<HHHH", 8 + len(data), kind, value, 1) + data


def sealed(key: bytes, nonce: int, plain_key: bytes, method: int) -> bytes:
    """An AES-CCM encrypted key: nonce (time and counter), tag, then the key with its header of 12 bytes."""
    body = struct.pack("<HHHHHH", 12 + len(plain_key), 0, 1, 1, method, 0) + plain_key
    number = struct.pack("<QI", 0x01D0_0000_0000_0000, nonce)
    done = AESCCM(key, tag_length=16).encrypt(number, body, None)
    return number + done[-16:] + done[:-16]


def metadata(key: str, byte_count: int, places: list[int], header_place: int) -> bytes:
    """One copy of the metadata block."""
    protector = IDENTIFIER + struct.pack("<QHH", 0x01D0_0000_0000_0000, 0, RECOVERY)
    protector += entry(0, 3, struct.pack("<I", 0x1000) + SALT)
    protector += entry(0, 5, sealed(stretched(key), 1, VOLUME_MASTER_KEY, 0x2003))
    entries = entry(2, 8, protector)
    entries += entry(3, 5, sealed(VOLUME_MASTER_KEY, 2, VOLUME_KEY, AES_XTS_128))
    entries += entry(15, 15, struct.pack("<QQ", header_place, HEADER_BYTES))
    size = 48 + len(entries)
    head = b"-FVE-FS-" + struct.pack("<HHHHQII3QQ", 64, 2, 4, 4, byte_count, 0, HEADER_BYTES // SECTOR, *places, header_place)
    head += struct.pack("<IIII16sIHHQ", size, 1, 48, size, IDENTIFIER, 3, AES_XTS_128, 0, 0x01D0_0000_0000_0000)
    return (head + entries).ljust(METADATA_BYTES, b"\0")


def xts(data: bytes, first_sector: int) -> bytes:
    """Encrypts sectors of 512 bytes, with their numbers as tweaks."""
    parts = []
    for index in range(0, len(data), SECTOR):
        tweak = struct.pack("<QQ", first_sector + index // SECTOR, 0)
        parts.append(Cipher(algorithms.AES(VOLUME_KEY), modes.XTS(tweak)).encryptor().update(data[index : index + SECTOR]))
    return b"".join(parts)


def encrypt(plain: Path, output: Path, key: str) -> None:
    """Writes the BitLocker volume of a plain one."""
    data = plain.read_bytes()
    quarter = len(data) // 4 * 3 // METADATA_BYTES * METADATA_BYTES
    places = [quarter, quarter + 2 * METADATA_BYTES, quarter + 4 * METADATA_BYTES]
    header_place = quarter + 6 * METADATA_BYTES
    whole = bytearray(xts(data, 0))
    whole[header_place : header_place + HEADER_BYTES] = xts(data[:HEADER_BYTES], header_place // SECTOR)
    block = metadata(key, len(data), places, header_place)
    for place in places:
        whole[place : place + METADATA_BYTES] = block
    boot = bytearray(SECTOR)
    boot[0:11] = b"\xeb\x58\x90-FVE-FS-"
    boot[11:13] = struct.pack("<H", SECTOR)
    boot[160:176] = IDENTIFIER
    boot[176:200] = struct.pack("<3Q", *places)
    boot[510:512] = b"\x55\xaa"
    whole[:HEADER_BYTES] = boot.ljust(HEADER_BYTES, b"\0")
    output.write_bytes(whole)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    encrypt(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
