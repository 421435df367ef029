# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of partclone: restored directly, and imported into an image and a repository."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
import zlib
from pathlib import Path

from faults import CANNOT_CREATE, DAMAGED, DONE, INTERRUPTED, MIB, REFUSED, USAGE, Context, Skip, same, tool

SAMPLES = Path(__file__).resolve().parents[1] / "ImagesTests" / "Samples"
NEEDED = ["partclone.ext4", "partclone.restore", "mke2fs", "mkfs.fat", "mcopy", "mkntfs", "mkfs.btrfs", "mkfs.exfat"]


def make_samples(ctx: Context) -> Path:
    """Images that partclone makes of small filesystems, as Clonezilla names them."""
    if missing := [name for name in NEEDED if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]:
        raise Skip(f"needs {', '.join(missing)}")
    folder = ctx.folder / "samples"
    tool("bash", SAMPLES / "make-samples.sh", folder)
    return folder


def restored_by_partclone(ctx: Context, image: Path, byte_count: int) -> Path:
    """What partclone restores, onto a file of zeros."""
    target = ctx.folder / "by-partclone"
    target.unlink(missing_ok=True)
    tool("truncate", "-s", byte_count, target)
    tool("partclone.restore", "-s", image, "-O", target, "-C", "-L", ctx.folder / "log")
    return target


def as_reforge_restores(ctx: Context, image: str | Path, byte_count: int, *more: str) -> Path:
    """The target of a restore, which must succeed."""
    target = ctx.folder / "by-reforge"
    ended = ctx.restore(image, target, byte_count, *more)
    if ended.status != DONE:
        raise AssertionError(str(ended))
    return target


def test_partclone_images(ctx: Context) -> None:
    """Each sample is restored, imported into an image and into a repository; the volume is partclone's each time."""
    ctx.needs("import")
    samples = make_samples(ctx)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    pairs = [
        ("ext4.ptcl", "ext4.ptcl"), ("ext1k.ptcl", "ext1k.ptcl"), ("ntfs.ptcl", "ntfs.ptcl"),
        ("sda1.vfat-ptcl-img.xz", "fat.ptcl"), ("sda2.ext4-ptcl-img.gz.aa", "ext4.z10.ptcl"),
        ("sda3.ext4-ptcl-img.zst", "ext4.z10.ptcl"), ("sda4.btrfs-ptcl-img.uncomp", "btrfs.ptcl"),
        ("sda5.ntfs-ptcl-img.zst.aa", "ntfs.ptcl"), ("ext4.a0.ptcl", "ext4.a0.ptcl"),
    ]  # fmt: skip
    for name, plain in pairs:
        raw = samples / f"{plain.split('.')[0]}.raw"
        byte_count = raw.stat().st_size
        # Windows needs the copy of the boot sector, which partclone leaves out.
        expected = raw if plain.startswith("ntfs") else restored_by_partclone(ctx, samples / plain, byte_count)
        target = as_reforge_restores(ctx, samples / name, byte_count)
        ctx.that(f"{name}: restored", same(target, expected))
        # With a scratch, Reforge's own map counts: partclone's of a Btrfs has more.
        if "btrfs" not in name:
            target = as_reforge_restores(ctx, samples / name, byte_count, "--scratch", str(ctx.folder))
            ctx.that(f"{name}: restored through a scratch", same(target, expected))
        image = ctx.folder / "imported.img.zst"
        ctx.done("import", samples / name, image, "--overwrite", "--note", "from partclone")
        ctx.that(f"{name}: imported into an image", same(as_reforge_restores(ctx, image, byte_count), expected))
        report = ctx.done("import", samples / name, f"{repository}@", "--tag", "old", "--json").json()
        snapshot = report["disks"][0]["id"]
        target = as_reforge_restores(ctx, f"{repository}@{snapshot}", byte_count)
        ctx.that(f"{name}: imported into a repository", same(target, expected))
        if name == "ext4.a0.ptcl":
            warnings = report["disks"][0]["warnings"]
            ctx.that("no checksums: said", any("checksums" in text for text in warnings), warnings)
        image.unlink()
    ended = ctx.reforge("verify", repository, "--read-data")
    ctx.that("the repository is whole", ended.status == DONE, ended)
    shown = ctx.done("inspect", samples / "sda3.ext4-ptcl-img.zst", "--json")
    ctx.that("an image is inspected", '"ext4"' in shown.out and "CZEXT4" in shown.out, shown)
    again = ctx.reforge("import", ctx.folder / "repo", ctx.folder / "x.img.zst")
    ctx.that("a repository is no source", again.status != DONE, again)


def test_least_sizes_of_an_import(ctx: Context) -> None:
    """A filesystem imported into a repository can be made smaller; one imported as a stream into an image cannot."""
    ctx.needs("import")
    samples = make_samples(ctx)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository)
    image = ctx.folder / "image.img.zst"
    source = samples / "sda3.ext4-ptcl-img.zst"
    said = ctx.done("import", source, image).said
    ctx.that("an image: it is said that nothing can be made smaller", "cannot be made smaller" in said, said)
    snapshot = ctx.done("import", source, f"{repository}@", "--json").json()["disks"][0]["id"]

    def least(of: str | Path) -> int | None:
        shown = json.loads(ctx.done("inspect", of, "--json").out)
        return json.dumps(shown).find('"leastByteCount"')

    ctx.that("a snapshot: the least size is known", (least(f"{repository}@{snapshot}") or -1) >= 0)
    ctx.that("an image: it is not", (least(image) or -1) < 0)
    snapshot = ctx.done("import", samples / "ntfs.ptcl", f"{repository}@", "--json").json()["disks"][0]["id"]
    ctx.that("a snapshot of an NTFS: it is known, too", (least(f"{repository}@{snapshot}") or -1) >= 0)


def test_refused_imports(ctx: Context) -> None:
    """Missing pieces, missing programs, damage, no room: refused with the reason, and nothing is left."""
    ctx.needs("import")
    samples = make_samples(ctx)
    output = ctx.folder / "output.img.zst"
    pieces = sorted(samples.glob("sda2.ext4-ptcl-img.gz.*"))
    hidden = ctx.folder / "hidden"
    pieces[1].rename(hidden)
    ended = ctx.reforge("import", pieces[0], output)
    ctx.that("a missing piece is named", ended.status == REFUSED and pieces[1].name in ended.said, ended)
    hidden.rename(pieces[1])
    ended = ctx.reforge("import", pieces[1], output)
    ctx.that("a later piece: the first one is named", ended.status == REFUSED and pieces[0].name in ended.said, ended)
    # The copy of a piece with one flipped bit.
    damaged = ctx.folder / "damaged"
    damaged.mkdir()
    for piece in pieces:
        shutil.copy(piece, damaged)
    broken = damaged / pieces[2].name
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 4
    broken.write_bytes(content)
    ended = ctx.reforge("import", damaged / pieces[0].name, output)
    ctx.that("damage is found (65)", ended.status == DAMAGED, ended)
    ctx.that("no image is left", not output.exists())
    target = ctx.folder / "target"
    ended = ctx.restore(damaged / pieces[0].name, target, 96 * MIB)
    ctx.that("and by a restore (65)", ended.status == DAMAGED, ended)
    salvage(ctx, samples, output)
    # The last piece is missing: the stream ends too early.
    (damaged / pieces[-1].name).unlink()
    ended = ctx.reforge("import", damaged / pieces[0].name, output)
    ctx.that("a missing last piece is damage (65)", ended.status == DAMAGED, ended)
    absent_program(ctx, samples, output)
    ended = ctx.reforge("import", samples / "ext4.raw", output, "--disk", "sda")
    ctx.that("a raw image has no disks to name", ended.status != DONE, ended)
    image = ctx.folder / "own.img.zst"
    ctx.done("import", samples / "ext1k.ptcl", image)
    ended = ctx.reforge("import", image, output)
    ctx.that("an image of Reforge is copied, not imported", ended.status == USAGE, ended)
    no_room(ctx, samples)


def salvage(ctx: Context, samples: Path, output: Path) -> None:
    """The blocks before the damage are imported; those behind it are listed as lost."""
    broken = ctx.folder / "broken.ptcl"
    content = bytearray((samples / "ext4.ptcl").read_bytes())
    content[len(content) * 3 // 4] ^= 4
    broken.write_bytes(content)
    for name, more in (("streamed", []), ("through a scratch", ["--scratch", str(ctx.folder)])):
        ended = ctx.reforge("import", broken, output, "--salvage", "--json", *more)
        lost = ended.json()["disks"][0]["lost"] if output.exists() else None
        ctx.that(f"--salvage imports the rest, {name} (65)", ended.status == DAMAGED and lost, ended)
        target = as_reforge_restores(ctx, output, 96 * MIB)
        with target.open("rb") as one, (samples / "ext4.raw").open("rb") as other:
            ctx.that(f"and what is before the damage is there, {name}", one.read(4 * MIB) == other.read(4 * MIB))
        output.unlink(missing_ok=True)
    # The bitmap: nothing is left of the only volume.
    content[200] ^= 4
    broken.write_bytes(content)
    for name, more in (("streamed", []), ("through a scratch", ["--scratch", str(ctx.folder)])):
        ended = ctx.reforge("import", broken, output, "--salvage", *more)
        ctx.that(f"a volume that is lost as a whole, {name} (65)", ended.status == DAMAGED and output.exists(), ended)
        output.unlink(missing_ok=True)


def absent_program(ctx: Context, samples: Path, output: Path) -> None:
    """A namespace without gzip."""
    image = samples / "sda2.ext4-ptcl-img.gz.aa"
    hide = " && ".join(
        f"mount --bind /dev/null {path}/{name}" for path in ("/usr/bin", "/bin") for name in ("gzip", "pigz")
        if (Path(path) / name).exists() and not Path(path).is_symlink()
    )  # fmt: skip
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{hide} && exec {ctx.binary} import {image} {output}"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if "unshare" in ended.stderr or "mount:" in ended.stderr:
        ctx.skipped("mounts need root")
        return
    said = ended.stdout + ended.stderr
    ctx.that("a missing program is named with its package", ended.returncode == REFUSED and "gzip" in said, said)


def no_room(ctx: Context, samples: Path) -> None:
    """A scratch folder without room."""
    place = ctx.folder / "place"
    try:
        ctx.mount("-t", "tmpfs", "-o", "size=2M", "tmpfs", place)
    except AssertionError:
        ctx.skipped("mounts need root")
        return
    ended = ctx.reforge("import", samples / "ext4.ptcl", ctx.folder / "s.img.zst", "--scratch", place)
    ctx.that("no room for the scratch (73)", ended.status == CANNOT_CREATE and "--scratch" in ended.said, ended)
    ctx.that("and nothing is left in it", not list(place.iterdir()))


def test_names_that_a_terminal_would_obey(ctx: Context) -> None:
    """A header with an escape sequence as the filesystem's name, in an image without checksums, which is said."""
    ctx.needs("import")
    content = bytearray((make_samples(ctx) / "ext4.a0.ptcl").read_bytes())
    content[36:52] = b"\x1b[2Jhidden".ljust(16, b"\0")
    content[106:110] = (zlib.crc32(content[:106]) ^ 0xFFFFFFFF).to_bytes(4, "little")
    image = ctx.folder / "escape.ptcl"
    image.write_bytes(content)
    ended = ctx.reforge("import", image, ctx.folder / "escape.img.zst")
    ctx.that("no control character of the image reaches the terminal", "\x1b" not in ended.said and "hidden" in ended.said, ended)


def decompressor(child: subprocess.Popen[str]) -> Path | None:
    """The gzip that a command, or the process that works for it, has started, once it runs."""
    end = time.monotonic() + 20
    while time.monotonic() < end and child.poll() is None:
        parents: dict[int, int] = {}
        found: list[int] = []
        for listed in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # proc(5): the parent is the second field behind the name.
                name, facts = listed.read_text().rsplit(")", 1)
                pid = int(listed.parent.name)
                parents[pid] = int(facts.split()[1])
                if name.endswith("(gzip"):
                    found.append(pid)
        for pid in found:
            if child.pid in (parents[pid], parents.get(parents[pid])):
                return Path("/proc", str(pid))
        time.sleep(0.01)
    return None


def test_interrupted_import(ctx: Context) -> None:
    """Ctrl-C and a death end an import with its decompressor, and leave no image."""
    ctx.needs("import")
    big = ctx.folder / "big.raw"
    with big.open("wb") as made:
        made.truncate(1024 * MIB)
    tool("mke2fs", "-q", "-F", "-t", "ext4", big)
    packed = ctx.folder / "big.img.gz"
    with packed.open("wb") as made:
        subprocess.run(["gzip", "-1", "-c", str(big)], stdout=made, check=True)
    big.unlink()
    output = ctx.folder / "output.img.zst"
    for number in (signal.SIGINT, signal.SIGKILL):
        child = ctx.start("import", packed, output)
        found = decompressor(child)
        ctx.that(f"{number.name}: a decompressor runs", found is not None)
        child.send_signal(number)
        ended = ctx.wait(child)
        expected = INTERRUPTED if number == signal.SIGINT else -number
        ctx.that(f"{number.name}: it is interrupted", ended.status == expected, ended)
        ctx.that(f"{number.name}: an unfinished image is not there", not output.exists())
        end = time.monotonic() + 10
        while found and found.exists() and time.monotonic() < end:
            time.sleep(0.05)
        ctx.that(f"{number.name}: no decompressor is left", found is None or not found.exists(), found)
