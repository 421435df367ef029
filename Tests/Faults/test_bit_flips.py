# SPDX-License-Identifier: GPL-3.0-or-later
"""One flipped bit in a repository or an image: reported or harmless, never restored as correct data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults import DAMAGED, DONE, REFUSED, Context, Ended, files_under

# Exit codes for a damaged store: it is damaged, or (a wrapped key) the password does not open it.
REPORTS = (DAMAGED, REFUSED)


@dataclass
class Tally:
    """Results of the flips in one kind of file."""

    reported: Counter[str] = field(default_factory=Counter)
    harmless: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def place_in(ctx: Context, byte_count: int) -> int:
    """A random offset: half of the time near an end, where the structures are."""
    edge = min(byte_count, 4096)
    match ctx.random.randrange(4):
        case 0:
            return ctx.random.randrange(edge)
        case 1:
            return byte_count - 1 - ctx.random.randrange(edge)
        case _:
            return ctx.random.randrange(byte_count)


def flip(path: Path, offset: int, bit: int) -> None:
    """Flips a bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def try_flips(
    ctx: Context, what: str, groups: dict[str, list[Path]], counts: dict[str, int], folder: Path,
    verify: Callable[[], Ended], restores: Callable[[], list[str]], always_restore: bool,
) -> None:  # fmt: skip
    """Flips bits, one at a time, and judges the results of `verify` and `restores`.

    - restores: the result of each restore: "same", "refused", or the fault.
    """
    for kind, files in groups.items():
        tally = Tally()
        for number in range(counts[kind]):
            path = ctx.random.choice(files)
            offset, bit = place_in(ctx, path.stat().st_size), ctx.random.randrange(8)
            place = f"{path.relative_to(folder)} of {path.stat().st_size} bytes, byte {offset}, bit {bit}"
            flip(path, offset, bit)
            try:
                ended = verify()
                if ended.status in REPORTS:
                    tally.reported[str(ended.status)] += 1
                    if always_restore or number % 4 == 0:
                        bad = [gave for gave in restores() if gave not in ("same", "refused")]
                        tally.wrong += [f"{place}: reported, but restored {why}" for why in bad]
                elif ended.status != DONE:
                    tally.wrong.append(f"{place}: {ended}")
                else:
                    bad = [gave for gave in restores() if gave != "same"]
                    if bad:
                        tally.wrong += [f"{place}: not reported; a restore: {why}" for why in bad]
                    else:
                        tally.harmless.append(place)
            except AssertionError as error:
                tally.wrong.append(f"{place}: {error}")
            finally:
                flip(path, offset, bit)
        reports = " + ".join(f"{count} ({status})" for status, count in sorted(tally.reported.items())) or "0"
        ctx.that(
            f"{what}, {kind}: {counts[kind]} flips, {reports} reported, {len(tally.harmless)} harmless",
            not tally.wrong, "\n".join(tally.wrong),
        )  # fmt: skip
        for place in tally.harmless:
            ctx.note(f"  not reported, every snapshot and image restores unchanged: {place}")


def gives(ctx: Context, image: str | Path, disk: Path, *more: str) -> str:
    """The result of a restore: "same", "refused", or the fault."""
    target = ctx.folder / "target"
    ended = ctx.restore(image, target, disk.stat().st_size, *more)
    if ended.status != DONE:
        # After a refusal or an error, sector 0 of the target is blank.
        with target.open("rb") as file:
            head = file.read(512)
        return "refused" if not any(head) else f"a disk with a head: {ended}"
    return "same" if target.read_bytes() == disk.read_bytes() else f"other bytes: {ended}"


def flips_of_repository(ctx: Context, encrypted: bool, count: int) -> None:
    """Flips bits of one repository."""
    disk = ctx.make_disk("disk", 8)
    later = ctx.change_disk(disk, "later", 1)
    repository = ctx.folder / "repo"
    more = ["--password-file", str(ctx.password_file())] if encrypted else []
    ctx.done("init-repo", repository, "--chunk-size", "64K", *(["--encrypt"] if encrypted else []), *more)
    held = {ctx.capture(disk, repository, "here", *more): disk, ctx.capture(later, repository, "here", *more): later}
    kinds = {
        "packs": repository / "packs", "indexes": repository / "indexes", "snapshots": repository / "snapshots",
        **({"keys": repository / "keys"} if encrypted else {}),
    }  # fmt: skip
    groups = {kind: files_under(folder) for kind, folder in kinds.items()}
    groups["repository.json"] = [repository / "repository.json"]
    shares = {"packs": 40, "indexes": 25, "snapshots": 15, "keys": 10, "repository.json": 10}
    total = sum(shares[kind] for kind in groups)
    counts = {kind: max(1, count * shares[kind] // total) for kind in groups}
    name = "encrypted repository" if encrypted else "repository"
    if why := ctx.wrong_repository(repository, held, *more):
        raise AssertionError(why)
    try_flips(
        ctx, name, groups, counts, ctx.folder, lambda: ctx.reforge("verify", repository, "--read-data", *more),
        lambda: [gives(ctx, f"{repository}@{snapshot}", of, *more) for snapshot, of in held.items()], False,
    )  # fmt: skip
    why = ctx.wrong_repository(repository, held, *more)
    ctx.that(f"{name}: whole after", not why, why)


def test_repository(ctx: Context) -> None:
    """Bits of a repository."""
    flips_of_repository(ctx, False, ctx.of(16, 350))


def test_encrypted_repository(ctx: Context) -> None:
    """Bits of an encrypted repository."""
    flips_of_repository(ctx, True, ctx.of(14, 250))


def flips_of_image(ctx: Context, name: str, count: int, options: list[str], keys: list[str]) -> None:
    """Flips bits of one image."""
    disk = ctx.make_disk("disk", 8)
    image = ctx.folder / name
    ctx.done("capture", disk, image, "--all-sectors", *options, *keys)
    groups = {path.name: [path] for path in sorted(ctx.folder.glob(f"{name}*"))}
    counts = {file: max(1, count // len(groups)) for file in groups}
    ctx.done("verify", image, *keys)
    try_flips(
        ctx, "image", groups, counts, ctx.folder, lambda: ctx.reforge("verify", image, *keys),
        lambda: [gives(ctx, image, disk, *keys)], True,
    )  # fmt: skip
    ctx.that(f"{name}: whole after", gives(ctx, image, disk, *keys) == "same")


def test_image(ctx: Context) -> None:
    """Bits of an image."""
    flips_of_image(ctx, "disk.img.zst", ctx.of(12, 160), ["--chunk-size", "64K"], [])


def test_encrypted_image(ctx: Context) -> None:
    """Bits of an encrypted image."""
    keys = ["--password-file", str(ctx.password_file())]
    flips_of_image(ctx, "disk.img.enc", ctx.of(10, 120), ["--chunk-size", "64K", "--encrypt"], keys)


def test_xz_image(ctx: Context) -> None:
    """Bits of an xz archive, and of its metadata file."""
    flips_of_image(ctx, "disk.img.xz", ctx.of(10, 120), ["--codec", "xz", "--level", "1", "--chunk-size", "1M"], [])


def test_repair(ctx: Context) -> None:
    """After a repair, captures of the same disks store the damaged contents again, and every snapshot is whole."""
    for keys in ([], ["--password-file", str(ctx.password_file())]):
        for number in range(ctx.of(1, 10)):
            folder = ctx.folder / f"{len(keys)}-{number}"
            disk = ctx.make_disk(f"{folder.name}/0/disk", 16)
            later = ctx.change_disk(disk, f"{folder.name}/1/disk", 2)
            repository = folder / "repo"
            ctx.done("init-repo", repository, "--chunk-size", "64K", *(["--encrypt"] if keys else []), *keys)
            held = {ctx.capture(source, repository, "here", *keys): source for source in (disk, later)}
            for _ in range(ctx.random.choice([1, 5])):
                pack = ctx.random.choice(files_under(repository / "packs"))
                # Outside of the pack's head and table, which this test does not damage.
                flip(pack, ctx.random.randrange(1 << 16, pack.stat().st_size - (1 << 16)), ctx.random.randrange(8))
            damaged = ctx.reforge("verify", repository, "--read-data", *keys)
            # A killed repair must do no harm.
            instant = ctx.random.uniform(0, 0.5)
            ctx.kill(["verify", repository, "--repair", *keys], lambda seconds, instant=instant: seconds >= instant)
            repaired = ctx.reforge("verify", repository, "--repair", *keys)
            for source in (disk, later):
                held[ctx.capture(source, repository, "here", *keys)] = source
            why = ctx.wrong_repository(repository, held, *keys) or ctx.litter(repository)
            if damaged.status not in REPORTS or repaired.status not in (DONE, DAMAGED):
                why = f"{damaged}\n{repaired}"
            name = f"a{'n encrypted' if keys else ''} repository"
            ctx.that(f"{name} is repaired by a repair and captures", not why, why)
