# SPDX-License-Identifier: GPL-3.0-or-later
"""No space left: reported, no loss, and prune frees space."""

from __future__ import annotations

import time
from pathlib import Path

from faults import DONE, IO_ERROR, MIB, Context, bytes_under, tool

FORGET = ["--keep-last", "1"]


def full_disk(ctx: Context, make: str) -> None:
    """Fills a repository's filesystem with a capture that is too large."""
    ctx.needs("forget", "prune")
    old = ctx.make_disk("0/disk", 40)
    disk = ctx.change_disk(old, "1/disk", 12)
    # Fills a pack, and has no room for the rest.
    big = ctx.folder / "big" / "disk"
    big.parent.mkdir()
    with big.open("wb") as file:
        for _ in range(20):
            file.write(ctx.random.randbytes(8 * MIB))
    place = ctx.folder / "place"
    if make == "tmpfs":
        ctx.mount("-t", "tmpfs", "-o", "size=144M", "tmpfs", place)
    else:
        device = ctx.folder / "device"
        with device.open("wb") as file:
            file.truncate(152 * MIB)
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", device)
        ctx.mount("-o", "loop", device, place)
    repository = place / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    first = ctx.capture(old, repository)
    # Snapshots are ordered by the second.
    time.sleep(1.01)
    last = ctx.capture(disk, repository)
    held = {first: old, last: disk}
    needed = bytes_under(repository)

    def space() -> str:
        return tool("df", "--output=used,avail", "-B1", place).splitlines()[1].strip()

    for number in range(2):
        ended = ctx.reforge("capture", big, f"{repository}@", "--host", "here", "--all-sectors")
        ctx.that(
            f"{make}: no room for a capture (74), with the reason{' again' if number else ''}",
            ended.status == IO_ERROR and ("ENOSPC" in ended.said or "No space" in ended.said), ended,
        )  # fmt: skip
        ctx.note(f"  {ended.err.splitlines()[-1]}")
        why = ctx.wrong_repository(repository, held)
        ctx.that(f"{make}: the earlier snapshots are whole", not why, why)
        why = ctx.litter(repository)
        ctx.that(f"{make}: no lock and no unfinished file is left", not why, why)
    # Without a free byte: the next commands may not need more space than they free.
    rest = place / "rest"
    with rest.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    ctx.note(f"  used and free bytes when it is full: {space()}")
    for _ in range(2):
        ended = ctx.reforge("prune", repository, "--grace", "0s")
    ctx.that(f"{make}: prune without a free byte", ended.status == DONE, ended)
    kept = {last: disk}
    ctx.done("forget", repository, *FORGET)
    for _ in range(2):
        ctx.done("prune", repository, "--grace", "0s")
    ctx.note(f"  used and free bytes after pruning: {space()}")
    rest.unlink(missing_ok=True)
    why = ctx.wrong_repository(repository, kept)
    ctx.that(f"{make}: the kept snapshots are whole", not why, why)
    left = bytes_under(repository)
    ctx.that(f"{make}: the space of the failed capture is free again", left <= needed + MIB, f"{left}, once {needed}")
    small = big.parent / "small"
    with small.open("wb") as file:
        for _ in range(9):
            file.write(ctx.random.randbytes(8 * MIB))
    kept[ctx.capture(small, repository)] = small
    why = ctx.wrong_repository(repository, kept)
    ctx.that(f"{make}: and the next capture works", not why, why)


def test_tmpfs(ctx: Context) -> None:
    """A repository on a small tmpfs."""
    full_disk(ctx, "tmpfs")


def test_ext4(ctx: Context) -> None:
    """A repository on a small ext4."""
    full_disk(ctx, "ext4")


def test_image(ctx: Context) -> None:
    """A copy to an image file without room for it."""
    ctx.needs("copy")
    disk = ctx.make_disk("disk", 24)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    snapshot = ctx.capture(disk, repository)
    place: Path = ctx.folder / "place"
    ctx.mount("-t", "tmpfs", "-o", "size=4M", "tmpfs", place)
    ended = ctx.reforge("copy", f"{repository}@{snapshot}", place / "x.img.zst")
    ctx.that("no room for a copied image (74)", ended.status == IO_ERROR and "ENOSPC" in ended.said, ended)
    ctx.that("no file is left", not list(place.iterdir()), list(place.iterdir()))
