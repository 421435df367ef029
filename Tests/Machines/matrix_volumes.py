# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of the boot matrix that the build machine's kernel cannot make: it has neither device-mapper nor md."""

from __future__ import annotations

import hashlib
import struct
import uuid
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from debian_disk import MIB, SECTOR, write_ext4
from debian_tree import log, run
from matrix_initramfs import LUKS_PASSPHRASE

LUKS1_UUID = "5eed0009-0000-4000-8000-000000000009"
MD_UUID = "5eed000a-0000-4000-8000-00000000000a"
MD_DATA_START = MIB


def write_luks1(content: Path, tree: Path, work: Path, length: int) -> Path:
    """A LUKS1 of that length with the tree in an ext4; GRUB 2.06 opens it."""
    place, key_file, volume_key = work / "luks1", work / "key", work / "volume-key"
    key = hashlib.sha512(b"the volume key of a LUKS1").digest()
    volume_key.write_bytes(key)
    key_file.write_text(LUKS_PASSPHRASE)
    with open(place, "wb") as handle:
        handle.truncate(length)
    run(
        "cryptsetup", "luksFormat", "-q", "--type", "luks1", "--uuid", LUKS1_UUID, "--cipher", "aes-xts-plain64",
        "--key-size", "512", "--hash", "sha256", "--pbkdf-force-iterations", "1000", "--volume-key-file", volume_key,
        "--key-file", key_file, place,
    )  # fmt: skip
    with open(place, "rb") as handle:
        # LUKS1's header, big endian: the payload's start in sectors at 104.
        start = struct.unpack(">I", handle.read(108)[104:])[0] * SECTOR
    with open(content, "wb") as handle:
        handle.truncate(length - start)
    write_ext4(content, tree, 0, length - start)
    log("LUKS1")
    with open(content, "rb") as plain_text, open(place, "r+b") as out:
        out.seek(start)
        sector = 0
        while piece := plain_text.read(SECTOR):
            tweak = sector.to_bytes(16, "little")
            out.write(Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor().update(piece))
            sector += 1
    content.unlink()
    return place


def write_md(content: Path, tree: Path, work: Path, length: int) -> Path:
    """The only member of a RAID 1 of two, with the tree in an ext4: a superblock 1.2, 4 KiB after the start.

    Fields as in the kernel's include/uapi/linux/raid/md_p.h, struct mdp_superblock_1.
    """
    with open(content, "wb") as handle:
        handle.truncate(length)
    size = (length - MD_DATA_START) // SECTOR
    write_ext4(content, tree, MD_DATA_START, size * SECTOR)
    most, nowhere, when = 128, 0xFFFF, 1_700_000_000
    block = bytearray(256 + 2 * most)
    array, device = uuid.UUID(MD_UUID).bytes, hashlib.md5(b"a member").digest()
    struct.pack_into("<4I16s32sQ2IQ3I", block, 0, 0xA92B4EFC, 1, 0, 0, array, b"proof:0", when, 1, 0, size, 0, 2, 0)
    # Data: start and length; the superblock's own sector.
    struct.pack_into("<3Q", block, 128, MD_DATA_START // SECTOR, size, 8)
    struct.pack_into("<2I16s", block, 160, 0, 0, device)
    # Last write, events, and a resynchronization that has ended.
    struct.pack_into("<3Q", block, 192, when, 17, (1 << 64) - 1)
    struct.pack_into("<2I", block, 216, 0, most)
    struct.pack_into(f"<{most}H", block, 256, 0, *[nowhere] * (most - 1))
    total = sum(struct.unpack(f"<{len(block) // 4}I", block))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    with open(content, "r+b") as handle:
        handle.seek(4096)
        handle.write(block)
    log(run("mdadm", "--examine", content).stdout.splitlines()[0])
    return content
