#!/usr/bin/env python3
"""Makes the REFORGE volume of the stick, and grows it in place.

The stick's image is small, the stick is not, and no Linux tool grows an exFAT. So the volume is made for the largest
stick (2 TiB) and then declared small: the FAT and the allocation bitmap already have space for every later cluster.
Growing touches four numbers and moves nothing. `grow` is the reference for the Swift init, which does it on first boot.

Layout (exFAT specification 1.00, Microsoft; section numbers in brackets; all numbers little-endian; 512-byte sectors):

  boot sector, sector 0 of the volume; its backup is sector 12 (3.1)
    offset  64  u64  PartitionOffset         0: "ignore"
            72  u64  VolumeLength            sectors                                      <- grow writes
            80  u32  FatOffset               sectors
            84  u32  FatLength               sectors; FatLength * 512 / 4 - 2 clusters at most
            88  u32  ClusterHeapOffset       sectors
            92  u32  ClusterCount            clusters are numbered 2 ..< ClusterCount + 2  <- grow writes
            96  u32  FirstClusterOfRootDirectory
           100  u32  VolumeSerialNumber
           106  u16  VolumeFlags             bit 1: dirty (not covered by the checksum)
           108   u8  BytesPerSectorShift     9
           109   u8  SectorsPerClusterShift  10: 512 KiB
           112   u8  PercentInUse            (not covered by the checksum)
  boot checksum, sector 11 (backup: 23): one u32 repeated over the sector (3.4)             <- grow writes
    sum = 0; for each byte of sectors 0..10 except bytes 106, 107 and 112: sum = rotate_right(sum, 1) + byte  (mod 2^32)
  allocation bitmap's entry in the root directory (7.1): byte 0 is 0x81
            20  u32  FirstCluster            cluster n starts at sector ClusterHeapOffset + (n - 2 << shift)
            24  u64  DataLength              bytes: ceil(ClusterCount / 8)                  <- grow writes
  allocation bitmap: bit (n - 2) of its bytes, lowest bit first: cluster n is in use. It is one cluster long, which is
    space for 512 Ki * 8 clusters = 2 TiB; the bits of new clusters are zero (ensured by grow).

grow, with a flush after each step, so that every crash leaves a volume that mounts, small or large:
  1. zero the bitmap's bits from the old ClusterCount to the new one
  2. the bitmap entry's DataLength (Linux accepts a bitmap that is longer than needed, not a shorter one)
  3. the backup boot region, sectors 12..23, in one write
  4. the main boot region, sectors 0..11, in one write
new ClusterCount = min((partition sectors - ClusterHeapOffset) >> shift, FatLength * 128 - 2, one cluster * 8)
new VolumeLength = ClusterHeapOffset + (ClusterCount << shift)
"""
import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time

SECTOR = 512
BOOT_REGION_SECTORS = 12
ENTRY = 32


def fail(message):
    sys.exit(f"error: {message}")


def parse_size(text):
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    return int(text[:-1]) << units[text[-1]] if text[-1:] in units else int(text)


class Volume:
    """An exFAT volume inside a file or block device, from byte `offset` on."""

    def __init__(self, file, offset=0):
        self.file, self.offset = file, offset
        boot = self.read(0, SECTOR)
        if boot[3:11] != b"EXFAT   " or boot[510:] != b"\x55\xaa":
            fail("not an exFAT volume")
        if boot[108] != 9:
            fail(f"sectors of 2^{boot[108]} bytes: only 512 is handled")
        self.fat_offset, self.fat_length, self.heap_offset, self.cluster_count, self.root_cluster = struct.unpack_from(
            "<5I", boot, 80)
        self.volume_length = struct.unpack_from("<Q", boot, 72)[0]
        self.cluster_shift = boot[109]
        self.cluster_bytes = SECTOR << self.cluster_shift

    def read(self, position, count):
        data = os.pread(self.file, count, self.offset + position)
        if len(data) != count:
            fail(f"the volume ends before byte {position + count}")
        return data

    def write(self, position, data):
        if os.pwrite(self.file, data, self.offset + position) != len(data):
            fail(f"short write at byte {position}")

    def flush(self):
        os.fsync(self.file)

    def cluster_position(self, cluster):
        return (self.heap_offset + ((cluster - 2) << self.cluster_shift)) * SECTOR

    def root_entries(self):
        """(position, entry) of the root directory's first cluster; this tool's volumes have no more at this time."""
        start = self.cluster_position(self.root_cluster)
        data = self.read(start, self.cluster_bytes)
        for at in range(0, len(data), ENTRY):
            if data[at] == 0:
                yield start + at, None  # the end of the directory: a free entry
                return
            yield start + at, data[at:at + ENTRY]

    def bitmap_entry(self):
        for position, entry in self.root_entries():
            if entry and entry[0] == 0x81 and not entry[1] & 1:
                return position, *struct.unpack_from("<IQ", entry, 20)
        fail("no allocation bitmap in the root directory")

    def set_cluster_count(self, count):
        """Steps 2 to 4 of the description above; also shrinks the volume (used only by `make`)."""
        entry_position, _, _ = self.bitmap_entry()
        self.write(entry_position + 24, struct.pack("<Q", (count + 7) // 8))
        self.flush()
        region = bytearray(self.read(0, (BOOT_REGION_SECTORS - 1) * SECTOR))
        struct.pack_into("<Q", region, 72, self.heap_offset + (count << self.cluster_shift))
        struct.pack_into("<I", region, 92, count)
        self.write_boot_regions(region)
        self.cluster_count = count

    def write_boot_regions(self, region):
        region = bytes(region) + struct.pack("<I", boot_checksum(region)) * (SECTOR // 4)
        for first_sector in (BOOT_REGION_SECTORS, 0):  # the backup first: one of the two is always intact
            self.write(first_sector * SECTOR, region)
            self.flush()


def boot_checksum(region):
    total = 0
    for index, byte in enumerate(region):
        if index not in (106, 107, 112):
            total = ((total >> 1 | (total & 1) << 31) + byte) & 0xFFFFFFFF
    return total


def checksum16(data, skipped=()):
    """The sum of a directory entry set (6.3.3, without bytes 2 and 3) and of an up-cased name (7.6.4)."""
    total = 0
    for index, byte in enumerate(data):
        if index not in skipped:
            total = ((total >> 1 | (total & 1) << 15) + byte) & 0xFFFF
    return total


def entry_set(name, first_cluster, length, timestamp):
    """File, Stream Extension and File Name entries (7.4, 7.6, 7.7) of a contiguous file (NoFatChain)."""
    if not name.isascii() or len(name) > 255:
        fail(f"{name}: only short ASCII names are written here")
    name_entries = [name[at:at + 15] for at in range(0, len(name), 15)]
    at = time.gmtime(timestamp)
    stamp = (at.tm_year - 1980) << 25 | at.tm_mon << 21 | at.tm_mday << 16 | at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2
    utc = 0x80  # offset valid, 0 quarter hours
    file = struct.pack("<BBHHHIIIBBBBB7x", 0x85, 1 + len(name_entries), 0, 0x20, 0, stamp, stamp, stamp, 0, 0, utc, utc, utc)
    flags = 3 if length else 1  # AllocationPossible, NoFatChain
    stream = struct.pack("<BBxBHxxQ4xIQ", 0xC0, flags, len(name), checksum16(name.upper().encode("utf-16-le")),
                         length, first_cluster, length)
    names = b"".join(b"\xc1\0" + part.encode("utf-16-le").ljust(30, b"\0") for part in name_entries)
    data = bytearray(file + stream + names)
    struct.pack_into("<H", data, 2, checksum16(data, skipped=(2, 3)))
    return bytes(data)


def add_file(volume, name, content, timestamp):
    _, bitmap_cluster, bitmap_length = volume.bitmap_entry()
    bitmap_position = volume.cluster_position(bitmap_cluster)
    head = bytearray(volume.read(bitmap_position, min(bitmap_length, 4096)))
    first = next(bit for bit in range(len(head) * 8) if not head[bit // 8] >> bit % 8 & 1)
    count = -(-len(content) // volume.cluster_bytes)
    for bit in range(first, first + count):
        head[bit // 8] |= 1 << bit % 8
    if count:
        volume.write(volume.cluster_position(first + 2), content)
    volume.write(bitmap_position, head)
    end, _ = list(volume.root_entries())[-1]
    volume.write(end, entry_set(name, first + 2 if count else 0, len(content), timestamp))


def make(options):
    directory = os.path.dirname(os.path.abspath(options.volume))
    handle, path = tempfile.mkstemp(dir=directory, prefix=".exfat-")
    try:
        os.truncate(handle, options.max_size)
        subprocess.run(["mkfs.exfat", "-c", str(options.cluster_size), "-b", "1M", "-L", options.label, path],
                       check=True, stdout=subprocess.DEVNULL)
        volume = Volume(handle)
        region = bytearray(volume.read(0, (BOOT_REGION_SECTORS - 1) * SECTOR))
        struct.pack_into("<I", region, 100, options.serial)  # mkfs uses the time of day
        volume.write_boot_regions(region)
        for argument in options.files:
            name, _, source = argument.partition("=")
            with open(source, "rb") as file:
                add_file(volume, name, file.read(), options.timestamp)
        volume.set_cluster_count((options.size // SECTOR - volume.heap_offset) >> volume.cluster_shift)
        os.truncate(handle, options.size)
        os.chmod(path, 0o644)
        os.rename(path, options.volume)
    except BaseException:
        os.unlink(path)
        raise


def grow(options):
    handle = os.open(options.volume, os.O_RDWR)
    volume = Volume(handle, options.offset)
    size = options.size or os.lseek(handle, 0, os.SEEK_END) - options.offset
    _, bitmap_cluster, _ = volume.bitmap_entry()
    count = min((size // SECTOR - volume.heap_offset) >> volume.cluster_shift,
                volume.fat_length * (SECTOR // 4) - 2,
                volume.cluster_bytes * 8)
    if count < volume.cluster_count:
        fail(f"room for {count} clusters, but the volume has {volume.cluster_count}: it only grows")
    if count > volume.cluster_count:
        position = volume.cluster_position(bitmap_cluster)
        first_byte, end_byte = volume.cluster_count // 8, (count + 7) // 8
        bits = bytearray(end_byte - first_byte)
        bits[0] = volume.read(position + first_byte, 1)[0] & (1 << volume.cluster_count % 8) - 1
        volume.write(position + first_byte, bits)
        volume.flush()
        volume.set_cluster_count(count)
    print(f"{count} clusters of {volume.cluster_bytes} bytes")
    os.close(handle)


def main():
    parser = argparse.ArgumentParser(description="Makes the REFORGE volume, and grows it in place.")
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="a volume of --size bytes that can grow to --max-size")
    making.add_argument("volume")
    making.add_argument("--file", action="append", default=[], dest="files", metavar="NAME=PATH",
                        help="a file for its root directory")
    making.add_argument("--size", type=parse_size, required=True)
    making.add_argument("--max-size", type=parse_size, default=2 << 40)
    making.add_argument("--cluster-size", type=parse_size, default=512 << 10)
    making.add_argument("--label", default="REFORGE")
    making.add_argument("--serial", type=lambda text: int(text, 16), default=0x5EF02E00)
    making.add_argument("--timestamp", type=int, default=int(os.environ.get("SOURCE_DATE_EPOCH", "315532800")))
    making.set_defaults(run=make)
    growing = commands.add_parser("grow", help="fill a file, or --size bytes of it from --offset on")
    growing.add_argument("volume")
    growing.add_argument("--offset", type=parse_size, default=0)
    growing.add_argument("--size", type=parse_size)
    growing.set_defaults(run=grow)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
