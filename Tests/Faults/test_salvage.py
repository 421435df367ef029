# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged images: without --salvage the restore fails; with it, the rest is restored, and the losses are named."""

from __future__ import annotations

import os
import pty
import shutil
import struct
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from faults import DAMAGED, DONE, MIB, REFUSED, USAGE, Context, Ended, Skip, files_under, same, tool

RECORD = b"RFCR"
CHUNK = 64 << 10


@dataclass
class Sample:
    """A disk with one filesystem with files, and its image."""

    disk: Path
    image: Path
    files: dict[str, bytes]
    byte_count: int
    victim: str = "dir/file3"
    start: int = MIB

    def place_of_victim(self) -> int:
        """The offset of the middle of the victim's content on the disk."""
        content = self.files[self.victim]
        at = self.disk.read_bytes().find(content[len(content) // 2 : len(content) // 2 + 64])
        assert at > 0, "the victim's content is not on the disk in one piece"
        return at


def sample(ctx: Context, kind: str = "ext4") -> Sample:
    """A GPT disk with one partition, filled through a mount; ext4 is made from a folder."""
    filesystem = {"ext4": 40, "ntfs": 40, "xfs": 320}[kind]
    disk = ctx.folder / f"{kind}.raw"
    files = {f"dir/file{number}": ctx.random.randbytes(700_000) for number in range(8)}
    with disk.open("wb") as made:
        made.truncate((filesystem + 2) * MIB)
    guid = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7" if kind == "ntfs" else "L"
    layout = f"label: gpt\nstart=2048, size={filesystem}M, type={guid}, name=files\n"
    tool("sfdisk", "-q", disk, input=layout)
    tree = ctx.folder / f"{kind}.tree"
    (tree / "dir").mkdir(parents=True)
    for name, content in files.items():
        (tree / name).write_bytes(content)
    if kind == "ext4":
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, "-E", f"offset={MIB}", disk, f"{filesystem}M")
    else:
        volume = ctx.folder / f"{kind}.volume"
        with volume.open("wb") as made:
            made.truncate(filesystem * MIB)
        tool(*{"ntfs": ["mkfs.ntfs", "-q", "-F"], "xfs": ["mkfs.xfs", "-q"]}[kind], volume)
        mounted = ctx.folder / f"{kind}.mounted"
        try:
            ctx.mount("-t", {"ntfs": "ntfs-3g"}.get(kind, kind), "-o", "loop", volume, mounted)
        except AssertionError as error:
            raise Skip(f"{kind} cannot be mounted here: {error}") from None
        shutil.copytree(tree / "dir", mounted / "dir")
        ctx.unmount(mounted)
        with disk.open("r+b") as whole, volume.open("rb") as part:
            whole.seek(MIB)
            shutil.copyfileobj(part, whole)
        volume.unlink()
    shutil.rmtree(tree)
    image = ctx.folder / f"{kind}.img.zst"
    ctx.done("capture", disk, image, "--chunk-size", "64K")
    return Sample(disk, image, files, disk.stat().st_size)


def chunk_of(image: Path, place: int) -> tuple[int, int, int, int]:
    """The data record of an offset of the disk: offset of its frame, stored length, and its range."""
    data = image.read_bytes()
    at = data.find(RECORD)
    while at >= 0:
        kind, start, length, stored = struct.unpack_from("<B3xQQI", data, at + 4)
        if kind == 0 and data[at - 8 : at - 4] == struct.pack("<I", 0x184D2A50) and start <= place < start + length:
            return at - 8, stored, start, start + length
        at = data.find(RECORD, at + 4)
    raise AssertionError(f"no chunk holds byte {place}")


def code_of(ctx: Context, made: Sample) -> str:
    """The code that confirms the sample's losses."""
    target = ctx.folder / "target"
    pattern(target, made.byte_count)
    return named_code(ctx.done("restore", made.image, target, "--dry-run", "--salvage", "--layout", "keep"))


def named_code(ended: Ended) -> str:
    """The code in a command's output."""
    return ended.said.rsplit("--confirm-salvage ", 1)[1].split()[0].rstrip(".")


def flip(path: Path, offset: int) -> None:
    """Flips a bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def pattern(path: Path, byte_count: int) -> None:
    """Fills a target with a pattern without zeros."""
    path.write_bytes(bytes(range(1, 252)) * (byte_count // 251 + 1))
    os.truncate(path, byte_count)


def is_pattern(path: Path) -> bool:
    """Whether a target has the pattern unchanged."""
    data = path.read_bytes()
    return data == (bytes(range(1, 252)) * (len(data) // 251 + 1))[: len(data)]


def on_terminal(ctx: Context, answers: list[str], *words: str | Path) -> Ended:
    """Runs the binary on a terminal; each question gets the next answer."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [str(ctx.binary), *(str(word) for word in words)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=ctx.folder,
    )  # fmt: skip
    os.close(theirs)
    said, pending = "", list(answers)
    try:
        # At the end of a terminal, a read fails.
        with suppress(OSError):
            while part := os.read(ours, 65536).decode(errors="replace"):
                said += part
                if "Type " in said.rsplit("\n", 1)[-1] and said.endswith(": ") and pending:
                    os.write(ours, pending.pop(0).encode() + b"\n")
                    said += "\n"
        status = child.wait(timeout=120)
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    return Ended([ctx.binary.name, *(str(word) for word in words)], status, said, "")


def files_in(ctx: Context, target: Path, start: int) -> dict[str, bytes]:
    """The files of the filesystem of a target, through a read-only mount."""
    mounted = ctx.folder / "target.mounted"
    ctx.mount("-o", f"loop,ro,noload,offset={start}", target, mounted)
    found = {str(path.relative_to(mounted)): path.read_bytes() for path in files_under(mounted)}
    ctx.unmount(mounted)
    return found


def test_one_bad_byte(ctx: Context) -> None:
    """A damaged chunk of one file: that file has a hole and is named, all others are intact."""
    made = sample(ctx)
    target = ctx.folder / "target"
    options = ["--layout", "keep", "--no-boot-repair"]

    # A whole image needs no salvage.
    pattern(target, made.byte_count)
    ended = ctx.reforge("restore", made.image, target, "--yes", "--salvage", *options)
    ctx.that("a whole image is restored as usual (0)", ended.status == DONE and "nothing to salvage" in ended.said, ended)
    whole = ctx.folder / "whole"
    target.rename(whole)

    frame, stored, start, end = chunk_of(made.image, made.place_of_victim())
    flip(made.image, frame + 72 + stored // 2)
    ended = ctx.restore(made.image, target, made.byte_count)
    ctx.that("without --salvage it fails (65)", ended.status == DAMAGED and "--salvage" in ended.said, ended)
    with target.open("rb") as file:
        ctx.that("and sector 0 of the target is blank", not any(file.read(512)))
    ended = ctx.reforge("verify", made.image)
    ctx.that("verify names --salvage (65)", ended.status == DAMAGED and "--salvage" in ended.said, ended)

    pattern(target, made.byte_count)
    ended = ctx.reforge("restore", made.image, target, "--yes", "--salvage", *options)
    ctx.that("--yes is not enough (77)", ended.status == REFUSED and "--confirm-salvage" in ended.said, ended)
    code = named_code(ended)
    wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
    ended = ctx.reforge("restore", made.image, target, "--yes", "--salvage", "--confirm-salvage", wrong, *options)
    ctx.that("another code is refused (77)", ended.status == REFUSED, ended)
    ended = ctx.reforge("restore", made.image, target, "--dry-run", "--salvage", *options)
    ctx.that("the plan lists the losses", ended.status == DONE and "lost: partition 1" in ended.said, ended)
    ctx.that("and names the same code", named_code(ended) == code, ended)
    more = ctx.folder / "more.img.zst"
    shutil.copyfile(made.image, more)
    frame, stored, *_ = chunk_of(more, made.start + (32 << 10))
    flip(more, frame + 72 + stored // 2)
    ended = ctx.reforge("restore", more, target, "--yes", "--salvage", "--confirm-salvage", code, *options)
    ctx.that("more losses need another code (77)", ended.status == REFUSED and "other losses" in ended.said, ended)
    for answers in (["yes"], [""], ["salvage", "no"]):
        ended = on_terminal(ctx, answers, "restore", made.image, target, "--salvage", *options)
        ctx.that(f"the answers {answers} are refused (77)", ended.status == REFUSED, ended)
    ctx.that("and nothing was written", is_pattern(target))

    ended = on_terminal(ctx, ["salvage"], "restore", made.image, target, "--yes", "--salvage", *options)
    ctx.that("\"salvage\" on a terminal restores the rest (65)", ended.status == DAMAGED, ended)
    shown = ended.said
    pattern(target, made.byte_count)
    ended = ctx.reforge(
        "restore", made.image, target, "--yes", "--salvage", "--confirm-salvage", code, "--verify", "--json", *options
    )
    ctx.that("the code restores the rest (65)", ended.status == DAMAGED, ended)
    report = ended.json()
    lost = [tuple(entry["captured"]) for entry in report["lost"]]
    ctx.that(
        "the report has the state and the ranges",
        report["diskState"] == "salvaged" and lost and all(start <= low < high <= end for low, high in lost), ended,
    )  # fmt: skip
    named = [name for entry in report["lostFiles"] for name in entry["files"]]
    found = files_in(ctx, target, made.start)
    damaged = [name for name, content in made.files.items() if found.get(name) != content]
    ctx.that("the victim is damaged", made.victim in damaged, damaged)
    ctx.that("every damaged file is named, and no other", sorted(named) == sorted(f"/{name}" for name in damaged), ended)
    ctx.that("also on the terminal", all(f"/{name}" in shown for name in damaged), shown)
    before, after = whole.read_bytes(), bytearray(target.read_bytes())
    ctx.that("lost ranges are zeros", all(not any(after[low:high]) for low, high in lost))
    for low, high in lost:
        after[low:high] = before[low:high]
    # Unused sectors keep the target's content in both.
    ctx.that("and the rest equals a restore of the whole image", bytes(after) == before)
    checked = subprocess.run(["e2fsck", "-fn", f"{target}?offset={made.start}"], capture_output=True, check=False)
    ctx.that("e2fsck finds no error", checked.returncode == 0, checked.stdout.decode())
    loops = tool("losetup", "-j", target)
    ctx.that("no loop device is left", not loops.strip(), loops)

    copy = ctx.folder / "copy.img.zst"
    ended = ctx.reforge("copy", made.image, copy)
    ctx.that("copy fails, too (65)", ended.status == DAMAGED and "--salvage" in ended.said and not copy.exists(), ended)
    ended = ctx.reforge("copy", made.image, copy, "--salvage")
    ctx.that("copy --salvage copies the rest (65)", ended.status == DAMAGED and copy.exists(), ended)
    ended = ctx.reforge("verify", copy)
    ctx.that("the copy is whole, and has holes", ended.status == DONE and "has holes" in ended.said, ended)
    restored = ctx.folder / "restored"
    pattern(restored, made.byte_count)
    ended = ctx.restore_again(copy, restored)
    ctx.that("its restore warns", ended.status == DONE and "has holes" in ended.said, ended)
    ctx.that("and equals the salvage", same(restored, target))


def from_pipe(ctx: Context, image: IO[bytes], *words: str | Path) -> Ended:
    """Restores from a pipe."""
    feeder = subprocess.Popen(["cat"], stdin=image, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child = subprocess.run(
        [str(ctx.binary), "restore", "-", *map(str, words)], stdin=feeder.stdout, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    feeder.stdout.close()
    feeder.wait()
    return Ended(["restore", "-"], child.returncode, child.stdout, child.stderr)


def test_cut_off(ctx: Context) -> None:
    """Salvage of a truncated image, as a file and through a pipe; a damaged header is refused."""
    made = sample(ctx)
    frame, stored, start, _ = chunk_of(made.image, made.place_of_victim())
    os.truncate(made.image, frame + 72 + stored // 2)
    target = ctx.folder / "target"
    ended = ctx.restore(made.image, target, made.byte_count)
    ctx.that("without --salvage it is refused, and names it (65)", ended.status == DAMAGED and "--salvage" in ended.said, ended)
    words = ["--yes", "--salvage", "--layout", "keep", "--no-boot-repair", "--confirm-salvage"]
    code = code_of(ctx, made)
    whole = made.disk.read_bytes()
    for is_pipe in (False, True):
        pattern(target, made.byte_count)
        if is_pipe:
            with made.image.open("rb") as image:
                ended = from_pipe(ctx, image, target, *words, code)
            ctx.that("losses of a pipe are unknown before it is read (77)", ended.status == REFUSED, ended)
            with made.image.open("rb") as image:
                ended = from_pipe(ctx, image, target, *words, named_code(ended))
        else:
            ended = ctx.reforge("restore", made.image, target, *words, code)
        ctx.that(f"the rest is restored (65){', from a pipe' * is_pipe}", ended.status == DAMAGED, ended)
        got = target.read_bytes()
        used = whole[made.start : start]
        wrong = [at for at in range(0, len(used), 4096) if any(used[at : at + 4096]) and used[at : at + 4096] != got[made.start + at : made.start + at + 4096]]  # fmt: skip
        ctx.that("everything before the cut is right", not wrong, wrong[:5])
        ctx.that("the disk has its table", b"EFI PART" == got[512:520])
    flip(made.image, 100)
    pattern(target, made.byte_count)
    ended = ctx.reforge("restore", made.image, target, *words, code)
    ctx.that("a damaged header is refused (65)", ended.status == DAMAGED and "needs the header" in ended.said, ended)
    ctx.that("and nothing was written", is_pattern(target))
    ended = ctx.reforge("restore", made.disk, target, "--yes", "--salvage")
    ctx.that("--salvage is refused for a raw image (64)", ended.status == USAGE, ended)


def named_by(ctx: Context, kind: str) -> None:
    """Checks that the filesystem's tool names the victim."""
    made = sample(ctx, kind)
    frame, stored, *_ = chunk_of(made.image, made.place_of_victim())
    flip(made.image, frame + 72 + stored // 2)
    target = ctx.folder / "target"
    code = code_of(ctx, made)
    ended = ctx.restore(made.image, target, made.byte_count, "--salvage", "--confirm-salvage", code)
    ctx.that(f"{kind}: the victim is named (65)", ended.status == DAMAGED and f"/{made.victim}\n" in ended.said, ended)
    ctx.that("and intact files are not", f"/{'dir/file7'}\n" not in ended.said, ended)


def test_ntfs(ctx: Context) -> None:
    """An NTFS names its files by ntfscluster."""
    named_by(ctx, "ntfs")


def test_xfs(ctx: Context) -> None:
    """An XFS names its files by xfs_db."""
    named_by(ctx, "xfs")


def test_repository(ctx: Context) -> None:
    """Damaged packs of a repository: salvage reads other copies first, and zeros replace the rest."""
    made = sample(ctx)
    repository, other = ctx.folder / "repo", ctx.folder / "other"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    ctx.done("init-repo", other, "--chunk-size", "64K")
    ctx.capture(made.disk, repository)
    pack = max(files_under(repository / "packs"), key=lambda path: path.stat().st_size)
    flip(pack, pack.stat().st_size // 2)
    target = ctx.folder / "target"
    ended = ctx.restore(f"{repository}@latest", target, made.byte_count)
    ctx.that("without --salvage it fails (65)", ended.status == DAMAGED and "--salvage" in ended.said, ended)
    ended = ctx.restore(f"{repository}@latest", target, made.byte_count, "--salvage")
    ctx.that("it must be confirmed (77)", ended.status == REFUSED and "--confirm-salvage" in ended.said, ended)
    code = named_code(ended)
    ended = ctx.restore(f"{repository}@latest", target, made.byte_count, "--salvage", "--confirm-salvage", code, "--json")
    ctx.that("confirmed, the rest is restored (65)", ended.status == DAMAGED, ended)
    got, whole = bytearray(target.read_bytes()), made.disk.read_bytes()
    lost = [entry["captured"] for entry in ended.json()["lost"]]
    ctx.that("one chunk is lost, and zero", len(lost) == 1 and not any(got[lost[0][0] : lost[0][1]]), lost)
    got[lost[0][0] : lost[0][1]] = whole[lost[0][0] : lost[0][1]]
    ctx.that("everything else is right", bytes(got) == whole)
    ended = ctx.reforge("copy", f"{repository}@", f"{other}@", "--salvage")
    ctx.that("copy --salvage copies the rest (65)", ended.status == DAMAGED, ended)
    ended = ctx.reforge("copy", f"{repository}@", f"{other}@", "--salvage")
    ctx.that("a second copy adds nothing", "were there already" in ended.said and len(ctx.snapshots(other)) == 1, ended)
    ctx.that("and ends with 65, too", ended.status == DAMAGED, ended)
    ended = ctx.restore(f"{other}@latest", target, made.byte_count)
    ctx.that("the copy restores, with a warning", ended.status == DONE and "has holes" in ended.said, ended)
