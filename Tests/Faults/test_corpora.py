# SPDX-License-Identifier: GPL-3.0-or-later
"""Other projects' test images, many of them damaged on purpose: a capture and a restore lose no data of files.

They come from Debian's sources by a separate source list, so only a full run with a network has this test.
REFORGE_CORPORA names a folder with the unpacked sources.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

from faults import MIB, Context, Ended, Skip, tool

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# The exit codes of a refused or failed capture, each with a message; any other code is an error.
HONEST = {65, 74, 77}
# Magic of a btrfs-image dump (image/metadump.h of btrfs-progs).
METADUMP = bytes.fromhex("8b669572e2255cbd")
# Size limit of an image: its target, full of a pattern, is in memory.
MOST = 256 * MIB
# Inodes with blocks in use besides those of files (FIRST and above); the other reserved ones are no files.
ROOT, JOURNAL, FIRST = 2, 8, 11


def sources(ctx: Context, package: str) -> Path:
    """A folder with a package's sources."""
    if not ctx.full:
        raise Skip("other projects' images: only in a full run")
    folder = Path(os.environ.get("REFORGE_CORPORA", ctx.folder / "sources"))
    if not (found := sorted(folder.glob(f"{package}-*/"))):
        if not KEYRING.exists():
            raise Skip("needs Debian's archive keyring")
        for part in ("parts", "lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "parts/debian.sources").write_text(
            "Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n"
            f"Signed-By: {KEYRING}\n"
        )
        options = {
            "Etc::sourcelist": "/dev/null", "Etc::sourceparts": folder / "parts", "State::lists": folder / "lists",
            "Cache": folder / "cache",
        }  # fmt: skip
        apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"Dir::{key}={value}"))]
        try:
            tool(*apt, "update")
            tool(*apt, "source", "--download-only", package, cwd=folder)
        except (AssertionError, subprocess.TimeoutExpired) as why:
            raise Skip(f"no sources of {package}: {str(why)[-300:]}") from None
        for archive in folder.glob(f"{package}_*.orig.tar.*"):
            # Skips a detached signature.
            if archive.suffix != ".asc":
                tool("tar", "-xf", archive, "-C", folder)
        found = sorted(folder.glob(f"{package}-*/"))
    if not found:
        raise Skip(f"no sources of {package}")
    return found[-1]


def there_and_back(ctx: Context, raw: Path, target: Path) -> Ended | None:
    """Captures an image and restores it onto a file full of a pattern; gives the failed command, or None."""
    image = ctx.folder / "image.img.zst"
    ended = ctx.reforge("capture", raw, image, "--overwrite")
    if ended.status:
        return ended
    with target.open("wb") as file:
        left = raw.stat().st_size
        while left > 0:
            file.write(b"\xdb" * min(left, MIB))
            left -= MIB
    ended = ctx.restore_again(image, target)
    return ended if ended.status else None


def owned_blocks(raw: Path) -> dict[int, set[int]]:
    """The blocks of each inode in use, by debugfs, which does not read the bitmaps."""

    def debugfs(commands: list[str]) -> str:
        return subprocess.run(
            ["debugfs", "-c", "-f", "-", str(raw)], input="\n".join(commands), capture_output=True, text=True,
            errors="replace", check=False, timeout=120,
        ).stdout  # fmt: skip

    count = re.search(r"^Inode count:\s+(\d+)", debugfs(["stats -h"]), re.MULTILINE)
    numbers = [ROOT, JOURNAL, *range(FIRST, min(int(count[1]) if count else 0, 8192) + 1)]
    used: list[int] = []
    for part in re.split(r"^debugfs: ", debugfs([f"stat <{number}>" for number in numbers]), flags=re.MULTILINE):
        match = re.search(r"^Inode: (\d+)\s+Type: ([\w ]+?)\s+Mode", part, re.MULTILINE)
        links = re.search(r"^Links: (\d+)", part, re.MULTILINE)
        if not match or not links or links[1] == "0" or "Fast link dest" in part:
            continue
        if match[2] in ("regular", "directory", "symlink"):
            used.append(int(match[1]))
    blocks: dict[int, set[int]] = {}
    for part in re.split(r"^debugfs: ", debugfs([f"blocks <{number}>" for number in used]), flags=re.MULTILINE):
        match = re.match(r"blocks <(\d+)>\n([\d \n]*)", part)
        if match and match[2].split():
            blocks[int(match[1])] = {int(word) for word in match[2].split()}
    return blocks


def lost(raw: Path, target: Path) -> str:
    """The first block of a file in an ext filesystem that was restored with other bytes, or an empty text."""
    with raw.open("rb") as one, target.open("rb") as other:
        one.seek(1024 + 24)
        size = 1024 << min(int.from_bytes(one.read(4), "little"), 6)
        for inode, blocks in owned_blocks(raw).items():
            for block in sorted(blocks):
                one.seek(block * size)
                other.seek(block * size)
                if (bytes_there := one.read(size)) != other.read(len(bytes_there)):
                    return f"inode {inode}, block {block}"
    return ""


def btrfs_trees(raw: Path) -> tuple[int, str]:
    """The contents of all trees of a Btrfs, by its own tool; deterministic for damaged filesystems, too."""
    ended = subprocess.run(
        ["btrfs", "inspect-internal", "dump-tree", str(raw)], capture_output=True, text=True, errors="replace",
        check=False, timeout=600,
    )  # fmt: skip
    return ended.returncode, ended.stdout


def judge(ctx: Context, name: str, raw: Path, tally: Counter[str]) -> str:
    """Captures and restores one image; gives the fault, or an empty text."""
    target = ctx.folder / "target"
    ended = ctx.reforge("inspect", "--json", raw)
    if ended.status not in {0, *HONEST}:
        return f"{name}: {ended}"
    reasons = [volume["filesystem"].get("wholeReason") for volume in ended.json()["volumes"]] if not ended.status else []
    for reason in reasons:
        proved = reason and re.search("which the .* calls free|flagged as never used", reason)
        tally["contradicted" if proved else "whole" if reason else "by map"] += 1
        if proved:
            ctx.note(f"{name}: {reason}")
    if failed := there_and_back(ctx, raw, target):
        tally[f"refused ({failed.status})"] += 1
        return "" if failed.status in HONEST else f"{name}: {failed}"
    if any(volume["filesystem"]["kindName"].startswith("ext") for volume in ended.json()["volumes"]):
        if why := lost(raw, target):
            return f"{name}: lost {why}; {reasons}"
    if any(volume["filesystem"]["kindName"] == "btrfs" for volume in ended.json()["volumes"]):
        if btrfs_trees(raw) != btrfs_trees(target):
            return f"{name}: its trees have changed; {reasons}"
    one, other = (
        subprocess.run(["blkid", "-p", "-o", "export", str(path)], capture_output=True, text=True, check=False).stdout
        for path in (raw, target)
    )
    if one.replace(str(raw), "") != other.replace(str(target), ""):
        return f"{name}: blkid says {one!r} before and {other!r} after"
    return ""


def unpack(packed: Path, raw: Path) -> bool:
    """Unpacks an image into a raw disk; gives whether it worked and the disk is at most MOST bytes long."""
    data = packed.read_bytes()
    unpacked = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(packed.suffix, bytes)(data)
    if packed.name.removesuffix(".xz").endswith(".img") and unpacked[:8] == METADUMP:
        dump = raw.with_name("dump")
        dump.write_bytes(unpacked)
        raw.unlink(missing_ok=True)
        ended = subprocess.run(["btrfs-image", "-r", str(dump), str(raw)], capture_output=True, check=False)
        if ended.returncode or not raw.exists():
            return False
    else:
        raw.write_bytes(unpacked)
    # A disk has whole sectors, and is long enough for a restore.
    length = raw.stat().st_size
    if length > MOST:
        return False
    os.truncate(raw, max(MIB, length + -length % 512))
    return True


def run_through(ctx: Context, package: str, images: list[Path]) -> None:
    """Judges all images of a package."""
    wrong: list[str] = []
    tally: Counter[str] = Counter()
    raw = ctx.folder / "raw"
    for packed in images:
        if not unpack(packed, raw):
            tally["no disk of 256 MiB at most"] += 1
            continue
        try:
            why = judge(ctx, f"{packed.parent.name}/{packed.name}", raw, tally)
        except AssertionError as error:
            why = f"{packed}: {error}"
        if why:
            wrong.append(why)
    ctx.note(f"{package}: {len(images)} images, {dict(tally)}")
    ctx.that(f"no file of {package}'s {len(images)} images is lost, and nothing crashes", not wrong, "\n".join(wrong))


def test_e2fsprogs(ctx: Context) -> None:
    """The damaged filesystems of e2fsck's own tests."""
    run_through(ctx, "e2fsprogs", sorted(sources(ctx, "e2fsprogs").glob("tests/*/image.gz")))


def test_btrfs_progs(ctx: Context) -> None:
    """The damaged filesystems of btrfs check's own tests: raw images, and metadata dumps, unpacked by btrfs-image."""
    folder = sources(ctx, "btrfs-progs") / "tests"
    run_through(ctx, "btrfs-progs", sorted(path for end in ("img", "img.xz", "raw.xz") for path in folder.glob(f"*/*/*.{end}")))


def test_util_linux(ctx: Context) -> None:
    """The filesystems of blkid's own tests."""
    run_through(ctx, "util-linux", sorted(sources(ctx, "util-linux").glob("tests/ts/blkid/images-fs/*.img.xz")))
