# SPDX-License-Identifier: GPL-3.0-or-later
"""oracle.py, written from the format documents only, reads the binary's output and checks every documented rule."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from faults import Context, bytes_under, same

ORACLE = Path(__file__).with_name("oracle.py")


def wrong(ctx: Context, disk: Path, *words: str | Path) -> str:
    """Runs oracle.py on a capture of a disk; gives the fault, or an empty text."""
    raw = ctx.folder / "raw"
    # Debian's own interpreter, because its packages are installed there.
    ended = subprocess.run(
        ["/usr/bin/python3", ORACLE, *words, "--to", raw], capture_output=True, text=True, check=False, timeout=600
    )
    if ended.returncode != 0:
        return ended.stderr or f"it ended with status {ended.returncode}"
    return "" if same(raw, disk) else f"{words[1]} was read with other bytes than {disk.name}"


def test_images(ctx: Context) -> None:
    """Plain and encrypted images, and an xz archive."""
    disk = ctx.make_disk("disk", 24)
    keys = ["--password-file", str(ctx.password_file())]
    for name, more, password in (
        ("disk.img.zst", [], []), ("disk.img.enc", ["--encrypt", *keys], keys), ("disk.img.xz", ["--codec", "xz"], []),
    ):  # fmt: skip
        ctx.done("capture", disk, ctx.folder / name, "--all-sectors", "--chunk-size", "64K", *more)
        why = wrong(ctx, disk, "image", ctx.folder / name, *password)
        ctx.that(f"{name} is as documented", not why, why)
    # By the allocation map: unused parts are zero in both.
    used, restored = ctx.folder / "used.img.zst", ctx.folder / "restored"
    ctx.done("capture", disk, used, "--chunk-size", "64K")
    ctx.restore(used, restored, disk.stat().st_size)
    why = wrong(ctx, restored, "image", used)
    ctx.that("used.img.zst is as documented", not why, why)
    with (ctx.folder / "disk.img.zst").open("r+b") as file:
        file.seek((ctx.folder / "disk.img.zst").stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0x10]))
    ctx.that("and damage is seen", bool(wrong(ctx, disk, "image", ctx.folder / "disk.img.zst")))


def test_repositories(ctx: Context) -> None:
    """Plain and encrypted repositories: several snapshots, then after a copy, a forget and a prune."""
    first = ctx.make_disk("disk", 24)
    # A file of the same name is the same disk, so that a policy may forget the older snapshot.
    second = ctx.change_disk(first, "later/disk", 12)
    for keys in ([], ["--password-file", str(ctx.password_file())]):
        name = "encrypted" if keys else "plain"
        repository, other = ctx.folder / name, ctx.folder / f"{name}-copy"
        ctx.done("init-repo", repository, "--chunk-size", "64K", *(["--encrypt", *keys] if keys else []))
        for disk in (first, second):
            snapshot = ctx.capture(disk, repository, "here", *keys)
            # Snapshots of one second have no defined order.
            time.sleep(1.1)
            why = wrong(ctx, disk, "repository", repository, "--snapshot", snapshot, *keys)
            ctx.that(f"a snapshot in a repository ({name}) is as documented", not why, why)
        ctx.done("init-repo", other, "--like", repository, *(["--encrypt", *keys] if keys else []))
        ctx.done("copy", f"{repository}@", f"{other}@", *keys)
        ctx.done("forget", repository, "--keep-last", "1", *keys)
        before = bytes_under(repository)
        ctx.done("prune", repository, "--grace", "0s", *keys)
        ctx.that(f"the forgotten one is gone ({name})", len(ctx.snapshots(repository, *keys)) == 1 and bytes_under(repository) < before)
        for place in (repository, other):
            why = wrong(ctx, second, "repository", place, "--snapshot", ctx.snapshots(place, *keys)[-1], *keys)
            ctx.that(f"{place.name} after copy, forget and prune", not why, why)
        restored = ctx.folder / "restored"
        ctx.done("capture", first, f"{repository}@", "--host", "used", *keys)
        snapshot = ctx.snapshots(repository, *keys)[-1]
        ctx.restore(f"{repository}@{snapshot}", restored, first.stat().st_size, *keys)
        why = wrong(ctx, restored, "repository", repository, "--snapshot", snapshot, *keys)
        ctx.that(f"a snapshot of the used sectors ({name}) is as documented", not why, why)
