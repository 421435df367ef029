#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second reader of images and repositories, written from the format documents only, independent of the sources.

  oracle.py image FILE [--password-file F] --to RAW
  oracle.py repository DIR [--password-file F] [--snapshot PREFIX] --to RAW
  oracle.py list DIR [--password-file F]

Needs python3-zstandard and python3-cryptography. Exits 0, or 1 with a reason."""

from __future__ import annotations

import argparse, base64, binascii, datetime, hashlib, hmac, json, lzma, os, re, struct, sys, uuid
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]
Ranges = list[tuple[int, int]]                    # (start, end), ascending
MAGIC, MIB, GIB = 0x184D2A50, 1 << 20, 1 << 30
DATA, ZERO, UNUSED = 0, 1, 2
HEX = re.compile(r"[0-9a-f]+")


class Disagreement(Exception):
    """The data contradicts the documents."""


def need(holds: object, reason: str) -> None:
    if not holds:
        raise Disagreement(reason)


# ---------------------------------------------------------------- small things

def crc32(data: bytes) -> int:
    return binascii.crc32(data) & 0xFFFFFFFF


def u(fmt: str, data: bytes, offset: int = 0) -> tuple[Any, ...]:
    need(offset + struct.calcsize("<" + fmt) <= len(data), "too short")
    return struct.unpack_from("<" + fmt, data, offset)


def is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)


def leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        need(at < len(data), "LEB128 is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            need(byte or count == 0, "LEB128 is longer than it need be")
            return value, at
    raise Disagreement("LEB128 of more than 9 bytes")


def ranges(data: bytes, at: int, start: int, end: int) -> tuple[Ranges, int]:
    """Reads ranges: their number, then gap and length of each."""
    count, at = leb128(data, at)
    result: Ranges = []
    position = start
    for index in range(count):
        gap, at = leb128(data, at)
        length, at = leb128(data, at)
        need(length > 0, "an empty range in a map")
        need(gap > 0 or index == 0, "two ranges of a map touch")
        result.append((position + gap, position + gap + length))
        position += gap + length
        need(position <= end, "a range of a map goes beyond its end")
    return result, at


def within(used: Ranges, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of the ranges between start and end."""
    for index in range(max(bisect_right(used, (start, 1 << 62)) - 1, 0), len(used)):
        low, high = max(used[index][0], start), min(used[index][1], end)
        if used[index][0] >= end:
            return
        if low < high:
            yield low, high


def from_json(data: bytes, limit: int, what: str, is_sorted: bool = False) -> Json:
    def pairs(items: list[tuple[str, Any]]) -> Json:
        names = [name for name, _ in items]
        need(len(set(names)) == len(names), f"{what}: a member is there twice")
        need(not is_sorted or names == sorted(names), f"{what}: its keys are not sorted")
        return dict(items)
    need(len(data) <= limit, f"{what}: too long")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs)
    except ValueError as error:
        raise Disagreement(f"{what}: no JSON: {error}") from error
    need(isinstance(value, dict), f"{what}: not an object")
    return value


def time(text: Any, what: str) -> datetime.datetime:
    need(isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text), f"{what}: {text!r} is no time in UTC")
    return datetime.datetime.fromisoformat(text)


def zstd(frame: bytes, length: int | None, limit: int, what: str, has_checksum: bool = True) -> bytes:
    """Decompresses exactly one frame with content size and checksum."""
    try:
        facts = zstandard.get_frame_parameters(frame)
        need(facts.content_size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR), f"{what}: the frame has no content size")
        need(facts.has_checksum or not has_checksum, f"{what}: the frame has no checksum")
        need(facts.dict_id == 0, f"{what}: the frame wants a dictionary")
        need(facts.content_size <= limit and length in (None, facts.content_size), f"{what}: the frame's content size is wrong")
        stream = zstandard.ZstdDecompressor().decompressobj()
        content = stream.decompress(frame)
        need(stream.eof and not stream.unused_data, f"{what}: not exactly one zstd frame")
    except zstandard.ZstdError as error:
        raise Disagreement(f"{what}: {error}") from error
    need(len(content) == facts.content_size, f"{what}: wrong length")
    return content


# ---------------------------------------------------------------- keys

def hkdf(key: bytes, info: str) -> bytes:
    pseudo_random = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(pseudo_random, info.encode() + b"\x01", "sha256")


def unseal(key: bytes, seal: bytes, context: bytes, what: str) -> bytes:
    need(len(seal) >= 28, f"{what}: too short for a seal")
    try:
        return AESGCM(key).decrypt(seal[:12], seal[12:], context)
    except InvalidTag:
        raise Disagreement(f"{what}: the seal does not open") from None


def read_password(path: str | None) -> bytes | None:
    if path is None:
        return None
    data = Path(path).read_bytes()
    data = data[:-2] if data.endswith(b"\r\n") else data[:-1] if data.endswith(b"\n") else data
    need(1 <= len(data) <= 4096, "the password is empty or too long")
    return data


@dataclass
class KeyFile:
    fact: Json
    clear: bytes

    @staticmethod
    def parse(data: bytes) -> KeyFile:
        what = "key file"
        fact = from_json(data, 16 << 10, what)
        need(fact.get("format") == "reforge key" and fact.get("version") == 1, f"{what}: not of version 1")
        need(set(fact) == {"format", "version", "id", "label", "created", "scrypt", "salt", "masterID", "sealed", "checksum"}, f"{what}: other members")
        need(set(fact["scrypt"]) == {"rounds", "blockSize", "parallelism"}, f"{what}: other members of scrypt")
        for name, low, high in (("id", 16, 16), ("salt", 32, 128), ("masterID", 16, 16), ("sealed", 184, 184), ("checksum", 64, 64)):
            need(HEX.fullmatch(fact[name]) and low <= len(fact[name]) <= high and len(fact[name]) % 2 == 0, f"{what}: {name}")
        label = fact["label"]
        need(len(label.encode()) <= 256 and not re.search(r"[\x00-\x1f\x7f-\x9f]", label), f"{what}: label")
        time(fact["created"], what)
        n, r, p = (fact["scrypt"][name] for name in ("rounds", "blockSize", "parallelism"))
        need(2 <= n <= 1 << 23 and n & (n - 1) == 0 and 1 <= r <= 16 and 1 <= p <= 16, f"{what}: the cost is out of bounds")
        need(128 * n * r <= GIB and 128 * n * r * p <= 4 * GIB, f"{what}: the cost is out of bounds")
        clear = "\n".join(["reforge key 1", fact["id"], fact["created"], f"{n} {r} {p}", fact["salt"], fact["masterID"], label]).encode()
        need(hashlib.sha256(fact["sealed"].encode() + b"\n" + clear).hexdigest() == fact["checksum"], f"{what}: checksum")
        return KeyFile(fact, clear)

    def open(self, password: bytes) -> tuple[bytes, bytes]:
        n, r, p = (self.fact["scrypt"][name] for name in ("rounds", "blockSize", "parallelism"))
        key = hashlib.scrypt(password, salt=bytes.fromhex(self.fact["salt"]), n=n, r=r, p=p, maxmem=128 * r * (n + p + 2) + MIB, dklen=32)
        keys = unseal(key, bytes.fromhex(self.fact["sealed"]), self.clear, "key file")
        need(hkdf(keys[:32], "reforge key file identity")[:8].hex() == self.fact["masterID"], "key file: masterID is not that of its keys")
        return keys[:32], keys[32:]


def open_keys(files: list[KeyFile], password: bytes | None) -> tuple[bytes, bytes]:
    need(1 <= len(files) <= 64, "not 1 to 64 key files")
    need(len({file.fact["masterID"] for file in files}) == 1, "key files of different master keys")
    need(password is not None, "it is encrypted: --password-file is needed")
    for file in files:
        try:
            return file.open(password or b"")
        except Disagreement as error:
            need("does not open" in str(error), str(error))
    raise Disagreement("the password opens no key file")


# ---------------------------------------------------------------- manifest, regions, chunks

@dataclass
class Region:
    index: int
    start: int
    end: int
    used_count: int
    used: Ranges


class Layout:
    """The manifest's facts, and the checks of chunks and runs against them."""

    def __init__(self, manifest: Json, codec: str = "zstd") -> None:
        self.manifest = manifest
        for feature in manifest["incompatibleFeatures"]:
            need(feature == "unreadable", f"unknown incompatible feature {feature}")
        geometry = manifest["geometry"]
        self.length: int = geometry["byteCount"]
        self.sector: int = geometry["logicalSectorSize"]
        self.chunk: int = manifest["chunkByteCount"]
        need(0 < self.length <= 1 << 60 and self.sector in (512, 4096), "manifest: geometry")
        need(64 << 10 <= self.chunk <= 64 << 20 and self.chunk & (self.chunk - 1) == 0, "manifest: chunkByteCount")
        need(manifest["codec"] == codec, "manifest: codec")
        need(1 <= manifest["captureSet"]["index"] <= manifest["captureSet"]["count"], "manifest: captureSet")
        for text in (manifest["imageUUID"], manifest["captureSet"]["uuid"]):
            uuid.UUID(text)
        time(manifest["started"], "manifest: started")
        partitions = {entry["number"]: entry["range"] for entry in manifest["table"].get("partitions", [])}
        self.regions: list[Region] = []
        position = 0
        for index, fact in enumerate(manifest["regions"]):
            start, end = fact["range"]
            need(start == position < end, f"region {index}: hole, overlap, or empty")
            need(fact["kind"] in ("partition", "gap", "disk"), f"region {index}: kind")
            if fact["kind"] == "partition":
                need(partitions.get(fact["partition"]) == [start, end], f"region {index}: no partition of the table has its range")
            self.regions.append(Region(index, start, end, fact["usedByteCount"], []))
            position = end
        need(position == self.length and len(self.regions) <= 65535, "the regions do not cover the disk")
        need(manifest["usedByteCount"] == sum(region.used_count for region in self.regions), "manifest: usedByteCount")

    def set_map(self, region: Region, used: Ranges) -> None:
        need(len(used) <= 1 << 20, f"region {region.index}: more than 2^20 ranges")
        need(sum(high - low for low, high in used) == region.used_count, f"region {region.index}: usedByteCount is not that of its map")
        region.used = used

    def check_run(self, region: Region, kind: int, start: int, length: int) -> None:
        what = f"run at {start}"
        need(kind in (ZERO, UNUSED), f"{what}: kind {kind}")
        need(length > 0 and (start - region.start) % self.chunk == 0 and start + length <= region.end, f"{what}: not on the grid")
        need((start + length - region.start) % self.chunk == 0 or start + length == region.end, f"{what}: does not end on the grid")
        if kind == UNUSED:
            need(not any(within(region.used, start, start + length)), f"{what}: called unused, but the map lists bytes of it")
        else:
            for at in range(start, start + length, self.chunk):
                need(any(within(region.used, at, min(at + self.chunk, region.end))), f"{what}: called zero, but a chunk of it is unused")

    def check_chunk(self, region: Region, start: int, content: bytes) -> None:
        what = f"chunk at {start}"
        need((start - region.start) % self.chunk == 0 and len(content) == min(self.chunk, region.end - start), f"{what}: not one chunk of the grid")
        position = start
        for low, high in [*within(region.used, start, start + len(content)), (start + len(content),) * 2]:
            need(is_zero(content[position - start:low - start]), f"{what}: not zero outside the map")
            position = high
        need(not is_zero(content), f"{what}: data, but zero")

    def check_late(self, late: Json) -> None:
        need({"ended", "unreadable", "warnings"} <= set(late), "late facts: members")
        time(late["ended"], "late facts")
        need(not late["unreadable"] or "unreadable" in self.manifest["incompatibleFeatures"], "unreadable ranges without the feature")
        position = -1
        for low, high in late["unreadable"]:
            need(position < low < high <= self.length and low % self.sector == 0, "late facts: unreadable ranges")
            need(high % self.sector == 0 or high == self.length, "late facts: unreadable ranges")
            position = high

    def check_table(self, raw: BinaryIO) -> None:
        for name, seek in (("tableHead", lambda n: 0), ("tableTail", lambda n: self.length - n)):
            stored = base64.b64decode(self.manifest.get(name) or "", validate=True)
            raw.seek(seek(len(stored)))
            need(raw.read(len(stored)) == stored, f"{name} is not what the chunks say")


# ---------------------------------------------------------------- the image

def zero_run(length: int) -> Iterator[bytes]:
    while length > 0:
        count = min(length, GIB)
        full, rest = divmod(count, 128 << 10)
        sizes = [128 << 10] * full + ([rest] if rest else [])
        blocks = [(size << 3 | 1 << 1 | (place == len(sizes) - 1)).to_bytes(3, "little") + b"\0" for place, size in enumerate(sizes)]
        yield bytes.fromhex("28B52FFDC038") + struct.pack("<Q", count) + b"".join(blocks)
        length -= count




class File:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.length = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        need(count <= self.length - self.file.tell(), "the file is cut off")
        return self.file.read(count)


class PlainSource(File):
    def frame(self, kind: int) -> tuple[bytes, int]:
        at = self.file.tell()
        magic, length = u("II", self.read(8))
        need(magic == MAGIC, f"no skippable frame at {at}")
        return self.read(length), at

    def chunk(self, stored: int, digest: bytes) -> bytes:
        return self.read(stored)

    def run(self, stored: int, length: int) -> None:
        end = self.file.tell() + stored
        for frame in zero_run(length):
            need(self.read(len(frame)) == frame, f"a run before {end} is not as it must be")
        need(self.file.tell() == end, "the stored length of a run is wrong")


class SealedSource(File):
    CONTEXT = b"reforge encrypted image 1"

    def __init__(self, file: BinaryIO, password: bytes | None) -> None:
        super().__init__(file)
        start = self.read(16)
        tag, major, _, length = u("8sHHI", start)
        need(tag == b"RFIMGENC" and major == 1, "not an encrypted image of version 1")
        need(length <= 64 * ((16 << 10) + 4), "head: the key files are too long")
        keys = self.read(length)
        need(u("I", self.read(4))[0] == crc32(start + keys), "head: CRC")
        files: list[KeyFile] = []
        while keys:
            count, = u("I", keys)
            need(4 + count <= len(keys), "head: a key file is cut off")
            files.append(KeyFile.parse(keys[4:4 + count]))
            need(files[-1].fact["label"] == "", "head: a key file has a label")
            keys = keys[4 + count:]
        self.key, _ = open_keys(files, password)
        self.numbers = [0] * 6

    def frame(self, kind: int) -> tuple[bytes, int]:
        at = self.file.tell()
        seal = self.read(u("I", self.read(4))[0])
        need(kind != 5 or at == self.length - 160, "the footer is not the last 160 bytes")
        number, self.numbers[kind] = self.numbers[kind], self.numbers[kind] + 1
        return unseal(self.key, seal, self.CONTEXT + bytes([kind]) + struct.pack("<Q", number), f"frame at {at}, kind {kind}"), at

    def chunk(self, stored: int, digest: bytes) -> bytes:
        return unseal(self.key, self.read(stored), self.CONTEXT + b"\x02" + digest, "chunk")

    def run(self, stored: int, length: int) -> None:
        need(stored == 0, "the stored length of a run is not 0")


class Archive(PlainSource):
    """The metadata of name.img.xz, and the archive's blocks."""

    def __init__(self, file: BinaryIO, archive: BinaryIO) -> None:
        super().__init__(file)
        self.archive, self.at = archive, 12
        self.archive_length = os.fstat(archive.fileno()).st_size
        archive.seek(0)
        self.xz = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        self.xz.decompress(archive.read(12))
        need(self.xz.check == lzma.CHECK_CRC64 or self.xz.check == lzma.CHECK_UNKNOWN, "archive: no CRC-64")

    def block(self) -> tuple[int, bytes]:
        """The stored length of a block, and its content. The decompressor checks CRCs, sizes and the index."""
        self.archive.seek(self.at)
        header = self.archive.read(4096)
        need(header and header[0] and header[1] & 0xC0 == 0xC0, "archive: a block without its sizes in its header")
        stored, at = leb128(header, 2)
        length, _ = leb128(header, at)
        total = ((header[0] + 1) * 4 + stored + 3) // 4 * 4 + 8
        self.archive.seek(self.at)
        content = self.xz.decompress(self.archive.read(total))
        need(len(content) == length, "archive: a block is not as long as its header says")
        self.at += total
        return total, content

    def blocks(self, kind: int, offset: int, stored: int, length: int) -> bytes:
        need(offset == self.at, "archive: a record does not begin where the one before ends")
        if kind == DATA:
            total, content = self.block()
            need((total, len(content)) == (stored, length), "archive: a chunk is not one block of the length that its record says")
            return content
        need(length <= 1 << 40, "archive: a run of more than 2^40 bytes")
        while length > 0:
            total, content = self.block()
            need(len(content) == min(length, 16 * MIB) and is_zero(content) and total <= 64 << 10, "archive: a run is not as it must be")
            length, stored = length - len(content), stored - total
        need(stored == 0, "archive: the stored length of a run is wrong")
        return b""

    def tie(self) -> None:
        tie = self.frame(-1)[0]
        need(len(tie) == 64 and tie[:8] == b"RFXZ" + bytes(4) and u("I", tie, 60)[0] == crc32(tie[:60]) and tie[56:60] == bytes(4), "tie")
        self.archive.seek(0)
        ends = self.archive.read(12)
        self.archive.seek(self.at)
        tail = self.archive.read()
        need(u("QQ", tie, 8) == (self.archive_length, self.at), "tie: the archive's length, or where its index starts")
        need(tie[24:56] == hashlib.sha256(ends + tail).digest(), "tie: SHA-256")
        self.xz.decompress(tail)
        need(self.xz.eof and not self.xz.unused_data, "archive: something after its end")


def parse_header(payload: bytes, codec: str) -> Layout:
    tag, major, _, count, stored, length = u("8sHHIII", payload)
    need(tag == b"RFIMGHDR" and major == 1, "header: not of version 1")
    need(count <= 16 * MIB and length <= 64 * MIB and len(payload) == 24 + count + stored + 4, "header: lengths")
    need(u("I", payload, len(payload) - 4)[0] == crc32(payload[:-4]), "header: CRC")
    layout = Layout(from_json(payload[24:24 + count], 16 * MIB, "manifest", is_sorted=True), codec)
    maps = zstd(payload[24 + count:-4], length, 64 * MIB, "maps", has_checksum=False)
    at = 0
    for region in layout.regions:
        used, at = ranges(maps, at, region.start, region.end)
        layout.set_map(region, used)
    need(at == len(maps), "maps: something after the last")
    return layout


def parse_record(record: bytes, layout: Layout, position: int) -> tuple[int, Region, int, int, bytes]:
    need(len(record) == 64, f"record at {position}: length")
    tag, kind, zero, index, start, length, stored, crc, digest = u("4sBBHQQII32s", record)
    need(tag == b"RFCR" and crc == crc32(record[:28] + record[32:]), f"record at {position}: tag or CRC")
    need(zero == 0 and kind <= UNUSED and start == position and index < len(layout.regions), f"record at {position}: out of order")
    region = layout.regions[index]
    need(region.start <= start < start + length <= region.end and length <= 1 << 46, f"record at {position}: not in its region")
    if kind == DATA:
        need((start - region.start) % layout.chunk == 0 and length == min(layout.chunk, region.end - start), f"record at {position}: not one chunk")
    else:
        layout.check_run(region, kind, start, length)
        need(is_zero(digest), f"record at {position}: a run with a hash")
    return kind, region, length, stored, digest


def read_image(source: PlainSource | SealedSource, raw: BinaryIO) -> str:
    archive = source if isinstance(source, Archive) else None
    header, _ = source.frame(0)
    layout = parse_header(header, "xz" if archive else "zstd")
    raw.truncate(layout.length)
    records: list[bytes] = []
    position = 0

    def take(record: bytes, offset: int) -> None:
        nonlocal position
        kind, region, length, stored, digest = parse_record(record, layout, position)
        if archive:
            content = archive.blocks(kind, offset, stored, length)
        elif kind == DATA:
            content = zstd(source.chunk(stored, digest), length, layout.chunk, f"chunk at {position}")
        else:
            source.run(stored, length)
        if kind == DATA:
            need(hashlib.sha256(content).digest() == digest, f"chunk at {position}: SHA-256")
            layout.check_chunk(region, position, content)
            raw.seek(position)
            raw.write(content)
        position += length

    while position < layout.length and not archive:
        record, offset = source.frame(1)
        records.append(record + struct.pack("<Q", offset))
        take(record, offset)
    index_start = source.file.tell()
    entries: list[bytes] = []
    while position < layout.length or len(entries) < len(records):
        payload, _ = source.frame(3)
        need(payload[:4] == b"RFIX" and len(payload) % 72 == 4 and 76 <= len(payload) <= 4 + 72 * 65536, "index frame: tag or length")
        new = [payload[at:at + 72] for at in range(4, len(payload), 72)]
        for entry in new if archive else []:
            take(entry[:64], u("Q", entry, 64)[0])
        entries += new
    need(archive or entries == records, "the index is not that of the records")
    late, late_start = source.frame(4)
    need(late[:4] == b"RFLF", "late facts: tag")
    layout.check_late(from_json(late[4:], 16 * MIB, "late facts"))
    if archive:
        archive.tie()
    footer, _ = source.frame(5)
    need(len(footer) == 128 and footer[:8] == b"RFIMGFTR" and u("I", footer, 124)[0] == crc32(footer[:124]), "footer: tag, length or CRC")
    need(is_zero(footer[104:124]), "footer: not zero")
    need(u("QQQQ", footer, 8) == (index_start, len(entries), late_start, source.length), "footer: offsets, number or length")
    need(source.file.tell() == source.length, "something follows the footer")
    identity = hashlib.sha256(header + b"".join(entries)).digest()
    need(footer[40:72] == identity, "footer: image id")
    need(footer[72:104] == hashlib.sha256(late[4:]).digest(), "footer: SHA-256 of the late facts")
    layout.check_table(raw)
    return f"image {identity.hex()}: {layout.length} bytes, {len(entries)} records"


# ---------------------------------------------------------------- the repository

Place = tuple[str, int, int, int]                 # pack, offset, stored length, length


@dataclass
class Snapshot:
    id: str
    fact: Json
    layout: Layout
    pieces: bytes


class Repository:
    def __init__(self, folder: Path, password: bytes | None) -> None:
        self.folder = folder
        data = (folder / "repository.json").read_bytes()
        fact = from_json(data, 64 << 10, "repository.json")
        need(fact["format"] == "reforge repository" and fact["version"]["major"] == 1, "repository.json: not of version 1")
        need(fact["incompatibleFeatures"] == [], "repository.json: an unknown incompatible feature")
        need(re.fullmatch("[0-9a-f]{8}", fact["checksum"]), "repository.json: checksum")
        blank, count = re.subn(rb'("checksum"\s*:\s*")[0-9a-f]{8}"', rb'\g<1>00000000"', data)
        need(count == 1 and f"{crc32(blank):08x}" == fact["checksum"], "repository.json: checksum")
        self.uuid = uuid.UUID(fact["uuid"]).bytes
        self.chunk: int = fact["chunkByteCount"]
        self.is_sealed: bool = fact["isEncrypted"]
        need(64 << 10 <= self.chunk <= 64 << 20 and self.chunk & (self.chunk - 1) == 0, "repository.json: chunkByteCount")
        time(fact["created"], "repository.json")
        self.keys = self.contents_key = self.files_key = self.id_key = b""
        if self.is_sealed:
            files = [(path.stem, KeyFile.parse(path.read_bytes())) for path in self.names("keys", r"[0-9a-f]{16}\.json")]
            need(all(name == file.fact["id"] for name, file in files), "a key file's name is not its id")
            data_key, self.id_key = open_keys([file for _, file in files], password)
            self.contents_key = hkdf(data_key, "reforge repository contents")
            self.files_key = hkdf(data_key, "reforge repository files")
        self.places: dict[tuple[bytes, int], set[Place]] = {}
        self.open_packs: dict[str, BinaryIO] = {}

    def names(self, folder: str, pattern: str) -> list[Path]:
        return sorted(path for path in (self.folder / folder).iterdir() if re.fullmatch(pattern, path.name))

    def id_of(self, content: bytes) -> bytes:
        return hmac.digest(self.id_key, content, "sha256") if self.is_sealed else hashlib.sha256(content).digest()

    def protected(self, blob: bytes, part: str, name: str, number: int, what: str) -> bytes:
        context = b"reforge repository 1 " + part.encode() + self.uuid + bytes.fromhex(name) + struct.pack("<Q", number)
        what = f"{what}: {part} {number}"
        need(len(blob) >= 28, f"{what}: too short")
        if self.is_sealed:
            return unseal(self.files_key, blob, context, what)
        need(is_zero(blob[-28:-4]) and u("I", blob, len(blob) - 4)[0] == crc32(context + blob[:-4]), f"{what}: CRC")
        return blob[:-28]

    def head(self, head: bytes, tag: bytes, name: str, what: str) -> None:
        need(len(head) == 52 and u("I", head, 48)[0] == crc32(head[:48]), f"{what}: head: length or CRC")
        found, major, _, flags, repository, own = u("8sHHI16s16s", head)
        need(found == tag and major == 1 and flags == self.is_sealed, f"{what}: head: tag, version or flags")
        need(repository == self.uuid and own.hex() == name, f"{what}: head: of another repository, or under another name")

    def content(self, stored: bytes, identity: bytes, kind: int, length: int) -> bytes:
        what = f"content {identity.hex()[:16]}, kind {kind}"
        if self.is_sealed:
            stored = unseal(self.contents_key, stored, b"reforge repository 1 content" + bytes([kind]) + identity, what)
        content = zstd(stored, length, 1 << 28, what)
        need(self.id_of(content) == identity, f"{what}: its id is another")
        return content

    # -- packs

    def check_pack(self, path: Path) -> tuple[set[tuple[bytes, int, Place]], int]:
        data, name, what = path.read_bytes(), path.name, f"pack {path.name[:8]}"
        need(path.parent.name == name[:2], f"{what}: in the wrong folder")
        position = 0

        def frame() -> bytes:
            nonlocal position
            magic, length = u("II", data, position)
            need(magic == MAGIC and position + 8 + length <= len(data), f"{what}: no skippable frame at {position}")
            position += 8 + length
            return data[position - length:position]

        self.head(frame(), b"RFPAKHDR", name, what)
        entries: list[bytes] = []
        found: set[tuple[bytes, int, Place]] = set()
        while True:
            start, payload = position, frame()
            if payload[:4] != b"RFPB":
                break
            offset = position + (8 if self.is_sealed else 0)
            entry = self.protected(payload[4:], "pack record", name, offset, what)
            need(len(entry) == 48 and entry[33:36] == bytes(3), f"{what}: entry")
            identity, kind, at, stored, length = u("32sB3xIII", entry)
            need(kind <= 2 and at == offset and length < 1 << 28, f"{what}: entry")
            if self.is_sealed:
                blob = frame()
            else:
                blob = data[position:position + stored]
                position += stored
            need(len(blob) == stored, f"{what}: a content is not as long as its entry says")
            self.content(blob, identity, kind, length)
            need(kind != 0 or length <= self.chunk, f"{what}: a chunk that is too long")
            entries.append(entry)
            found.add((identity, kind, (name, offset, stored, length)))
        need(payload[:4] == b"RFPT", f"{what}: no table at {start}")
        need(self.protected(payload[4:], "pack table", name, 0, what) == b"".join(entries), f"{what}: its table is not that of its records")
        end = frame()
        need(len(end) == 52 and end[:8] == b"RFPAKEND" and u("I", end, 48)[0] == crc32(end[:48]), f"{what}: end: tag, length or CRC")
        need(u("QQQ", end, 8) == (start, len(entries), len(data)) and end[32:48].hex() == name and position == len(data), f"{what}: end")
        need(len(entries) <= 65536 and len(data) < 1 << 32, f"{what}: too large")
        return found, len(data)

    # -- indexes

    def read_index(self, path: Path) -> None:
        data, name, what = path.read_bytes(), path.name, f"index {path.name[:8]}"
        need(len(data) >= 4096 + 76, f"{what}: too short")
        self.head(data[:52], b"RFIDXHDR", name, what)
        need(is_zero(data[52:4092]) and u("I", data, 4092)[0] == crc32(data[:4092]), f"{what}: head page")
        end = self.protected(data[-76:], "index end", name, 0, what)
        tag, count, pack_count, filter_length, hashes, zero, length = u("8sQQQIIQ", end)
        need(len(end) == 48 and tag == b"RFIDXEND" and zero == 0 and length == len(data) and filter_length % 8 == 0, f"{what}: end")
        position = 4096

        def part(length: int) -> bytes:
            nonlocal position
            position += length
            return data[position - length:position]

        def blocks(length: int, kind: str) -> bytes:
            sizes = [min(MIB, length - at) for at in range(0, length, MIB)]
            return b"".join(self.protected(part(size + 28), kind, name, number, what) for number, size in enumerate(sizes))

        page_count = -(-count // 84)
        pages = [self.protected(part(4096), "index page", name, number, what) for number in range(page_count)]
        packs = blocks(16 * pack_count, "index packs")
        fences = blocks(8 * page_count, "index fences")
        bloom = blocks(filter_length, "index filter")
        need(position + 76 == len(data), f"{what}: the lengths do not add up")
        before: tuple[bytes, int] | None = None
        for number, page in enumerate(pages):
            here, zero, own = u("HHI", page)
            need(here == min(84, count - 84 * number) and zero == 0 and own == number and len(page) == 4068, f"{what}: page {number}")
            need(is_zero(page[8 + 48 * here:]), f"{what}: page {number}: not zero after its entries")
            need(u("Q", fences, 8 * number)[0] == int.from_bytes(page[8:16], "big"), f"{what}: fence {number}")
            for at in range(8, 8 + 48 * here, 48):
                identity, place, offset, stored, mixed = u("32sIIII", page, at)
                kind, key = mixed >> 28, (identity, mixed >> 28)
                need(kind <= 2 and place < pack_count, f"{what}: page {number}: an entry")
                need(before is None or before <= key, f"{what}: page {number}: not ascending")
                before = key
                b, c = int.from_bytes(identity[8:16], "big"), int.from_bytes(identity[16:24], "big") | 1
                for i in range(hashes):
                    bit = (b + i * c) % (1 << 64) % (8 * filter_length)
                    need(bloom[bit // 8] >> bit % 8 & 1, f"{what}: the filter does not know {identity.hex()[:16]}")
                pack = packs[16 * place:16 * place + 16].hex()
                self.places.setdefault(key, set()).add((pack, offset, stored, mixed & (1 << 28) - 1))

    def check_packs(self) -> str:
        for path in self.names("indexes", "[0-9a-f]{32}"):
            self.read_index(path)
        indexed = {(identity, kind, place) for (identity, kind), places in self.places.items() for place in places}
        known = {place[0] for _, _, place in indexed}
        found: set[tuple[bytes, int, Place]] = set()
        packs, strays, byte_count = 0, 0, 0
        for folder in self.names("packs", "[0-9a-f]{2}"):
            for path in self.names(f"packs/{folder.name}", "[0-9a-f]{32}"):
                entries, length = self.check_pack(path)
                packs, byte_count = packs + 1, byte_count + length
                found |= entries
                if path.name in known:
                    need(entries <= indexed, f"pack {path.name[:8]}: no index has all that it holds")
                else:
                    strays += 1
        for identity, _, place in indexed - found:
            raise Disagreement(f"an index has {identity.hex()[:16]} in pack {place[0][:8]} at {place[1]}, where it is not")
        return f"{packs} packs ({strays} in no index), {len(found)} contents, {byte_count} bytes"

    def fetch(self, identity: bytes, kind: int) -> bytes:
        places = self.places.get((identity, kind))
        need(places, f"content {identity.hex()[:16]}, kind {kind}, is in no index")
        pack, offset, stored, length = min(places or set())
        file = self.open_packs.get(pack) or (self.folder / "packs" / pack[:2] / pack).open("rb")
        self.open_packs[pack] = file
        file.seek(offset)
        return self.content(file.read(stored), identity, kind, length)

    # -- snapshots

    def snapshot(self, path: Path) -> Snapshot:
        data, name, what = path.read_bytes(), path.name, f"snapshot {path.name[:12]}"
        need(len(data) >= 40 + 28 and u("I", data, 36)[0] == crc32(data[:36]), f"{what}: head: CRC")
        tag, major, _, flags, repository, length = u("8sHHI16sI", data)
        need(tag == b"RFSNAPSH" and major == 1 and flags == self.is_sealed and repository == self.uuid, f"{what}: head")
        payload = zstd(self.protected(data[40:], "snapshot", name, 0, what), length, 256 * MIB, what)
        need(self.id_of(payload).hex() == name, f"{what}: its id is not its name")
        count, = u("I", payload)
        need(4 + count <= len(payload), f"{what}: the JSON is cut off")
        fact = from_json(payload[4:4 + count], 256 * MIB, what)
        need(fact["incompatibleFeatures"] == [], f"{what}: an unknown incompatible feature")
        need(fact["tags"] == sorted(fact["tags"]) and all(isinstance(fact[member], str) for member in ("host", "disk")), f"{what}: host, disk or tags")
        need({"newByteCount", "deduplicatedByteCount", "storedByteCount"} <= set(fact["statistics"]), f"{what}: statistics")
        layout = Layout(fact["manifest"])
        layout.check_late(fact["lateFacts"])
        need(layout.chunk == self.chunk, f"{what}: chunkByteCount is not the repository's")
        return Snapshot(name, fact, layout, payload[4 + count:])

    def snapshots(self) -> list[Snapshot]:
        found = [self.snapshot(path) for path in self.names("snapshots", "[0-9a-f]{64}")]
        return sorted(found, key=lambda snapshot: (time(snapshot.layout.manifest["started"], "manifest"), snapshot.id))

    def read(self, snapshot: Snapshot, take: Callable[[Region, int, bytes, int], None]) -> None:
        """Checks lists and maps; calls `take` with each data chunk's region, start, id and length."""
        layout, pieces, at = snapshot.layout, snapshot.pieces, 0
        span = 1024 * self.chunk
        for region in layout.regions:
            count = -(-(region.end - region.start) // span)
            need(at + 64 * count <= len(pieces), "the snapshot's pieces are cut off")
            ids = [pieces[at + 32 * i:at + 32 * i + 32] for i in range(2 * count)]
            at += 64 * count
            used: Ranges = []
            for number, identity in enumerate(ids[count:]):
                start = region.start + number * span
                data = self.fetch(identity, 2)
                new, end = ranges(data, 0, start, min(start + span, region.end))
                need(end == len(data) <= 32 * MIB, "a map piece: something after its end, or too long")
                if used and new and used[-1][1] == new[0][0]:
                    new[0] = (used.pop()[0], new[0][1])
                used += new
            layout.set_map(region, used)
            for number, identity in enumerate(ids[:count]):
                position = region.start + number * span
                self.read_list(self.fetch(identity, 1), layout, region, position, min(position + span, region.end), take)
        need(at == len(pieces), "the snapshot has more pieces than its regions")

    def read_list(self, data: bytes, layout: Layout, region: Region, position: int, end: int, take: Callable[[Region, int, bytes, int], None]) -> None:
        at, before = 0, DATA
        need(len(data) <= 32 * MIB, "a list piece is too long")
        while at < len(data):
            kind, at = data[at], at + 1
            need(position < end, "a list piece has more than its chunks")
            if kind == DATA:
                need(at + 32 <= len(data), "a list piece is cut off")
                length = min(self.chunk, end - position)
                take(region, position, data[at:at + 32], length)
                at += 32
            else:
                need(kind != before, "two runs of a kind touch in a list piece")
                count, at = leb128(data, at)
                last = position + count * self.chunk
                need(count > 0 and last < end + self.chunk, "a list piece has more than its chunks, or an empty run")
                length = min(last, end) - position
                layout.check_run(region, kind, position, length)
            position, before = position + length, kind
        need(position == end, "a list piece has fewer than its chunks")


def read_repository(folder: Path, password: bytes | None, prefix: str | None, raw: BinaryIO) -> str:
    repository = Repository(folder, password)
    packs = repository.check_packs()
    snapshots = repository.snapshots()
    chosen = [snapshot for snapshot in snapshots if snapshot.id.startswith(prefix or "")]
    need(chosen, "no such snapshot")
    need(prefix is None or len(chosen) == 1, "several snapshots have that prefix")

    def look(region: Region, start: int, identity: bytes, length: int) -> None:
        places = repository.places.get((identity, 0), set())
        need(places and all(place[3] == length for place in places), f"chunk at {start}: in no index, or of another length")

    for snapshot in snapshots:
        if snapshot is not chosen[-1]:
            repository.read(snapshot, look)
    layout = chosen[-1].layout
    raw.truncate(layout.length)

    def write(region: Region, start: int, identity: bytes, length: int) -> None:
        content = repository.fetch(identity, 0)
        need(len(content) == length, f"chunk at {start}: length")
        layout.check_chunk(region, start, content)
        raw.seek(start)
        raw.write(content)

    repository.read(chosen[-1], write)
    layout.check_table(raw)
    return f"snapshot {chosen[-1].id[:12]} of {len(snapshots)}: {layout.length} bytes; {packs}"


# ---------------------------------------------------------------- command line

def run(options: argparse.Namespace) -> None:
    password = read_password(options.password_file)
    path = Path(options.path)
    if options.command == "list":
        for snapshot in Repository(path, password).snapshots():
            print(snapshot.id, snapshot.fact["host"], snapshot.fact["disk"], snapshot.layout.manifest["started"])
        return
    with open(options.to, "wb+") as raw:
        if options.command == "repository":
            print(read_repository(path, password, options.snapshot, raw))
            return
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(0)
            if start.startswith(b"\xfd7zXZ\0"):
                with open(f"{path}.reforge", "rb") as metadata:
                    print(read_image(Archive(metadata, file), raw))
            elif start == b"RFIMGENC":
                print(read_image(SealedSource(file, password), raw))
            else:
                print(read_image(PlainSource(file), raw))


def main() -> int:
    parser = argparse.ArgumentParser(description="Reads Reforge's images and repositories, and checks all that the documents say.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("image", "repository", "list"):
        command = commands.add_parser(name)
        command.add_argument("path")
        command.add_argument("--password-file")
        if name != "list":
            command.add_argument("--to", required=True)
        if name == "repository":
            command.add_argument("--snapshot")
    try:
        run(parser.parse_args())
        return 0
    except (Disagreement, OSError) as error:
        print(f"oracle: {error}", file=sys.stderr)
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, lzma.LZMAError, struct.error) as error:
        print(f"oracle: not as documented: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
