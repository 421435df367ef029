# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the place of a source, a target or an output: nothing is taken that has another meaning or owner."""

from __future__ import annotations

from pathlib import Path

from faults import CANNOT_CREATE, DONE, MIB, REFUSED, Context, tool


def sparse(path: Path, mebibytes: int) -> Path:
    """A file of zeros."""
    with path.open("wb") as made:
        made.truncate(mebibytes * MIB)
    return path


def test_swapped(ctx: Context) -> None:
    """IMAGE and DISK in each other's place: nothing is overwritten, whatever the options."""
    disk = ctx.make_disk("disk.raw", 16)
    small = ctx.make_disk("small.raw", 4)
    image, archive, sealed = (ctx.folder / name for name in ("backup.img.zst", "backup.img.xz", "backup.img.enc"))
    ctx.done("capture", disk, image)
    ctx.done("capture", disk, archive, "--codec", "xz", "--level", "0")
    ctx.done("capture", disk, sealed, "--encrypt", "--password-file", ctx.password_file())
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    ctx.capture(disk, repository)
    pack = next(path for path in (repository / "packs").rglob("*") if path.is_file())
    virtual = ctx.folder / "machine"
    tool("qemu-img", "convert", "-O", "qcow2", disk, virtual)
    fixed = ctx.folder / "machine.vhd"
    tool("qemu-img", "convert", "-O", "vpc", "-o", "subformat=fixed,force_size", disk, fixed)
    damaged = ctx.folder / "damaged.img.zst"
    damaged.write_bytes(bytes(4096) + image.read_bytes()[4096:])

    metadata = ctx.folder / "backup.img.xz.reforge"
    for path in (image, archive, metadata, sealed, pack, repository / "repository.json", virtual, fixed, damaged):
        before = path.read_bytes()
        for more in (["--yes"], ["--dry-run"]):
            ended = ctx.reforge("restore", small, path, "--no-boot-repair", *more)
            ctx.that(
                f"restore onto {path.name} {more[0]} is refused (77)",
                ended.status == REFUSED and "swapped" in ended.said and path.read_bytes() == before, ended,
            )  # fmt: skip
        if path != metadata:
            ended = ctx.reforge("capture", path, ctx.folder / "new.img.zst")
            ctx.that(
                f"capture of {path.name} is refused (77)",
                ended.status == REFUSED and "--as-disk" in ended.said and not (ctx.folder / "new.img.zst").exists(),
                ended,
            )  # fmt: skip
    for path in (disk, virtual, pack):
        before = path.read_bytes()
        plain = ctx.reforge("capture", small, path)
        ctx.that(
            f"{path.name} as an output that exists (73), and --overwrite is not advised",
            plain.status == CANNOT_CREATE and "is no image" in plain.said, plain,
        )  # fmt: skip
        forced = ctx.reforge("capture", small, path, "--overwrite")
        copied = ctx.reforge("copy", image, path, "--overwrite")
        ctx.that(f"--overwrite keeps {path.name} (77)", {forced.status, copied.status} == {REFUSED}, forced)
        ctx.that(f"{path.name} is as it was", path.read_bytes() == before)

    ctx.done("capture", small, image, "--all-sectors", "--overwrite")
    empty = ctx.folder / "empty.img.zst"
    empty.touch()
    ctx.done("capture", small, empty, "--all-sectors", "--overwrite")
    ctx.done("capture", small, archive, "--codec", "xz", "--level", "0", "--overwrite")
    for path in (image, empty):
        why = ctx.wrong(path, small)
        ctx.that(f"--overwrite replaces {path.name}", not why, why)
    nested = ctx.folder / "nested.img.zst"
    ctx.done("capture", virtual, nested, "--as-disk")
    target = sparse(ctx.folder / "target", 1)
    with target.open("r+b") as made:
        made.truncate(virtual.stat().st_size)
    ended = ctx.restore_again(nested, target)
    ctx.that(
        "--as-disk captures the bytes of an image", ended.status == DONE and target.read_bytes() == virtual.read_bytes()
    )
