#!/usr/bin/env python3
"""Lays out the raw stick image: protective MBR with GRUB's boot.img, GPT, core.img, ESP, REFORGE volume.

  LBA 0      GRUB's boot.img (its 440 bytes of code) and the protective MBR
  1 MiB      partition 1: BIOS boot, core.img
  2 MiB      partition 2: ESP
  then       partition 3: exFAT, named REFORGE, the last one, so that it can grow to the end of the stick

GRUB's embedding is what grub-bios-setup does (util/setup.c): boot.img holds the sector of core.img at 0x5c, and core.img's
first sector (diskboot.img) holds the list of the others at its end. GPT: UEFI specification 2.10, section 5.3.
"""
import argparse
import os
import struct
import uuid
import zlib

SECTOR = 512
MIB = 1 << 20
ENTRY_COUNT, ENTRY_SIZE = 128, 128
TABLE_SECTORS = ENTRY_COUNT * ENTRY_SIZE // SECTOR
TYPES = {
    "bios": uuid.UUID("21686148-6449-6e6f-744e-656564454649"),
    "esp": uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    "data": uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),  # Microsoft basic data
}


def boot_sector(boot_image, core_sector, disk_sectors):
    sector = bytearray(SECTOR)
    sector[:440] = boot_image[:440]
    struct.pack_into("<Q", sector, 0x5C, core_sector)
    # boot_drive_check: with firmware that passes a wrong drive number, the first hard disk is used (grub-bios-setup does
    # this for anything but a floppy).
    sector[0x66:0x68] = b"\x90\x90"
    chs_start, chs_end = b"\x00\x02\x00", b"\xff\xff\xff"
    sector[446:462] = struct.pack("<B3sB3sII", 0, chs_start, 0xEE, chs_end, 1, min(disk_sectors - 1, 0xFFFFFFFF))
    # Some BIOSes start no disk without an active partition, and EDK2 sees no GPT if the 0xEE entry is the active one.
    # So an empty second entry is active, as with xorriso's -mbr-force-bootable.
    sector[462:478] = struct.pack("<B3sB3sII", 0x80, b"\x00\x01\x00", 0, b"\x00\x01\x00", 0, 1)
    sector[510:] = b"\x55\xaa"
    return sector


def core_with_block_list(core, first_sector):
    """diskboot.img's last 12 bytes: first sector, number of sectors, load segment 0x820."""
    core = bytearray(core + bytes(-len(core) % SECTOR))
    struct.pack_into("<QHH", core, SECTOR - 12, first_sector + 1, len(core) // SECTOR - 1, 0x820)
    return core


def gpt_header(table, disk_guid, own_sector, other_sector, table_sector, disk_sectors):
    first, last = 2 + TABLE_SECTORS, disk_sectors - 2 - TABLE_SECTORS
    def pack(checksum):
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, own_sector, other_sector, first, last,
                           disk_guid.bytes_le, table_sector, ENTRY_COUNT, ENTRY_SIZE, zlib.crc32(table))
    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def copy_sparse(image, position, path):
    """Zeros are not written: they remain holes."""
    with open(path, "rb") as source:
        while block := source.read(64 << 10):
            if block.strip(b"\0"):
                os.pwrite(image, block, position)
            position += len(block)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("output", "boot_img", "core_img", "esp", "volume"):
        parser.add_argument(name)
    parser.add_argument("--seed", required=True, help="the GUIDs are made from it: the build id")
    options = parser.parse_args()

    def guid(name):
        return uuid.uuid5(uuid.NAMESPACE_URL, f"reforge-stick:{options.seed}:{name}")

    partitions, position = [], MIB
    for kind, name, size in (("bios", "BIOS boot", MIB),
                             ("esp", "EFI system", os.path.getsize(options.esp)),
                             ("data", "REFORGE", os.path.getsize(options.volume))):
        if size % MIB:
            raise SystemExit(f"error: {name} is not a whole number of MiB")
        partitions.append((kind, name, position, size))
        position += size
    disk_size = position + MIB
    disk_sectors = disk_size // SECTOR

    table = b"".join(
        struct.pack("<16s16sQQQ72s", TYPES[kind].bytes_le, guid(name).bytes_le, start // SECTOR,
                    (start + size) // SECTOR - 1, 0, name.encode("utf-16-le"))
        for kind, name, start, size in partitions).ljust(ENTRY_COUNT * ENTRY_SIZE, b"\0")

    core_position = partitions[0][2]
    with open(options.boot_img, "rb") as file:
        boot_image = file.read()
    with open(options.core_img, "rb") as file:
        core = core_with_block_list(file.read(), core_position // SECTOR)
    if len(core) > partitions[0][3]:
        raise SystemExit(f"error: GRUB's core image has {len(core)} bytes, more than its partition")

    image = os.open(options.output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    os.truncate(image, disk_size)
    last = disk_sectors - 1
    os.pwrite(image, boot_sector(boot_image, core_position // SECTOR, disk_sectors), 0)
    os.pwrite(image, gpt_header(table, guid("disk"), 1, last, 2, disk_sectors), SECTOR)
    os.pwrite(image, table, 2 * SECTOR)
    os.pwrite(image, core, core_position)
    copy_sparse(image, partitions[1][2], options.esp)
    copy_sparse(image, partitions[2][2], options.volume)
    os.pwrite(image, table, (last - TABLE_SECTORS) * SECTOR)
    os.pwrite(image, gpt_header(table, guid("disk"), last, 1, last - TABLE_SECTORS, disk_sectors), last * SECTOR)
    os.close(image)


if __name__ == "__main__":
    main()
