# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing snapshot files, damaged copies, and machines that must stay separate in a repository."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from faults import DAMAGED, DONE, MIB, REFUSED, USAGE, Context, files_under, same, state_of, tool


def test_missing_snapshots(ctx: Context) -> None:
    """A temporarily empty folder of snapshots loses no data; forgotten data is removed after the grace time."""
    ctx.needs("forget", "prune")
    disk = ctx.make_disk("disk", 16)
    other = ctx.change_disk(disk, "other", 6)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    held = {ctx.capture(disk, repository, "one"): disk, ctx.capture(other, repository, "two"): other}
    snapshots, aside = repository / "snapshots", ctx.folder / "aside"
    snapshots.rename(aside)
    snapshots.mkdir()
    before = state_of(repository)
    for words in ([], ["--grace", "0s"], ["--dry-run"], ["--confirm-missing-snapshots", "1", "--grace", "0s"]):
        ended = ctx.reforge("prune", repository, *words)
        ctx.that(
            f"an empty folder of snapshots: prune {' '.join(words)} is refused (77), with advice",
            ended.status == REFUSED and "--confirm-missing-snapshots 2" in ended.said, ended,
        )  # fmt: skip
    ctx.that("and nothing was touched", state_of(repository) == before, set(state_of(repository)) ^ set(before))
    # The packs are missing as well: only the ledger could lose data.
    packs = repository / "packs"
    packs.rename(ctx.folder / "packs aside")
    packs.mkdir()
    before = state_of(repository)
    for words in ([], ["--grace", "0s"]):
        ended = ctx.reforge("prune", repository, *words)
        ctx.that(f"without packs, prune {' '.join(words)} is refused, too (77)", ended.status == REFUSED, ended)
    ctx.that("and the ledger is unchanged", state_of(repository) == before, set(state_of(repository)) ^ set(before))
    packs.rmdir()
    (ctx.folder / "packs aside").rename(packs)
    snapshots.rmdir()
    aside.rename(snapshots)
    # The other snapshot needs none of this one's packs.
    first = list(held)[-1]
    moved = ctx.folder / first
    (snapshots / first).rename(moved)
    ended = ctx.reforge("prune", repository)
    ctx.that("a snapshot moved aside: refused and named", ended.status == REFUSED and first[:12] in ended.said, ended)
    ended = ctx.done("prune", repository, "--confirm-missing-snapshots", "1", "--json")
    report = ended.json()
    ctx.that(
        "confirmed, its packs wait for the grace time",
        report["removed"]["packs"] == 0 and report["newlyMarked"]["packs"] > 0, ended,
    )  # fmt: skip
    moved.rename(snapshots / first)
    # A copy with other file times.
    copy = ctx.folder / "copy"
    tool("cp", "-r", repository, copy)
    for path in files_under(copy):
        os.utime(path, (1000, 1000))
    for place in (repository, copy):
        ended = ctx.done("prune", place)
        ctx.that(f"{place.name}: the returned snapshot is whole", not ctx.wrong_repository(place, held), ended)
    # Packs of a dead capture wait for the grace time, too.
    latest = ctx.change_disk(disk, "latest", 8)
    packs = len(files_under(repository / "packs"))
    killed = ctx.kill(
        ["capture", latest, f"{repository}@", "--all-sectors", "--level", "19"],
        lambda _: len(files_under(repository / "packs")) > packs or len(files_under(repository / "tmp")) > 0,
    )
    ctx.that("a capture was killed in the middle", killed.was_killed, killed.ended)
    ended = ctx.done("prune", repository, "--json")
    ctx.that("packs of a dead capture wait as well", ended.json()["removed"]["packs"] == 0, ended)
    ended = ctx.done("prune", repository, "--grace", "0s")
    why = ctx.wrong_repository(repository, held)
    ctx.that("and all is whole", not why, f"{why}\n{ended}")


def test_rotten_copy(ctx: Context) -> None:
    """Every content is stored twice, one copy damaged: every command reads the other, with a warning."""
    ctx.needs("copy", "prune")
    disk = ctx.make_disk("disk", 16)
    base, twin = ctx.folder / "base", ctx.folder / "twin"
    ctx.done("init-repo", base, "--chunk-size", "64K")
    tool("cp", "-a", base, twin)
    held = {ctx.capture(disk, base, "one"): disk, ctx.capture(disk, twin, "two"): disk}
    # The result of two captures at once.
    tool("cp", "-a", f"{twin}/.", base)
    names = [path.relative_to(base) for path in files_under(base / "packs")]
    repository, target, image = ctx.folder / "repo", ctx.folder / "restored", ctx.folder / "copied.img.zst"
    warned = 0
    for name in names:
        shutil.rmtree(repository, ignore_errors=True)
        tool("cp", "-a", base, repository)
        content = bytearray((repository / name).read_bytes())
        for place in range(4096, len(content) - 8192, 100_000):
            content[place] ^= 0x20
        (repository / name).write_bytes(content)
        said = ""
        for snapshot in held:
            for words in ([], ["--verify-first", "--verify"]):
                ended = ctx.restore(f"{repository}@{snapshot}", target, disk.stat().st_size, *words)
                said += ended.err
                ctx.that(
                    f"restore {' '.join(words)} reads the other copy", ended.status == DONE and same(disk, target), ended
                )
            ended = ctx.reforge("copy", f"{repository}@{snapshot}", image, "--overwrite")
            said += ended.err
            ctx.that("copy reads the other copy", ended.status == DONE and not ctx.wrong(image, disk), ended)
        warned += "a damaged copy was skipped" in said
        ended = ctx.reforge("verify", repository, "--read-data")
        ctx.that("verify names it (65)", ended.status == DAMAGED and "an intact copy exists" in ended.said, ended)
        ended = ctx.done("prune", repository, "--grace", "0s")
        why = "\n".join(ctx.wrong(f"{repository}@{snapshot}", disk) for snapshot in held).strip()
        ctx.that("prune keeps the good copy", not why, f"{why}\n{ended}")
    ctx.that("the damage caused a warning", warned > 0)


def test_identities(ctx: Context) -> None:
    """Machines without a name stay separate; a file and its loop device are one disk; names are accepted or refused."""
    ctx.needs("forget")
    folder = ctx.folder / "machines"
    one = ctx.make_disk("machines/vmA/disk.raw", 8)
    # A clone with the same GUID and filesystem.
    other = ctx.change_disk(one, "machines/vmB/disk.raw", 1)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")

    def capture(disk: Path | str, *words: str) -> str:
        ended = ctx.done("capture", disk, f"{repository}@", "--all-sectors", "--json", *words)
        return str(ended.json()["imageID"])

    def snapshots() -> dict[str, dict[str, str]]:
        return {item["id"]: item for item in ctx.done("snapshots", repository, "--json").json()["snapshots"]}

    first, second = capture(one), capture(other)
    listed = snapshots()
    ctx.that(
        "two machines without a name have different hosts",
        listed[first]["host"] != listed[second]["host"] and listed[first]["host"].startswith("unknown-"), listed,
    )  # fmt: skip
    ctx.that("disks are named by their content", listed[first]["disk"].startswith("gpt-"), listed)
    ended = ctx.reforge("inspect", f"{repository}@latest")
    ctx.that("latest is ambiguous (78)", ended.status == 78, ended)
    ctx.done("forget", repository, "--keep-last", "1")
    ctx.that("forget keeps the newest of both", set(snapshots()) == {first, second}, snapshots())
    loop = tool("losetup", "--find", "--show", "--read-only", one).strip()
    try:
        third = capture(loop)
    finally:
        tool("losetup", "--detach", loop)
    listed = snapshots()
    ctx.that(
        "a file and its loop device are one disk",
        [listed[third][key] for key in ("host", "disk")] == [listed[first][key] for key in ("host", "disk")], listed,
    )  # fmt: skip
    with (folder / "mbr").open("wb") as made:
        made.truncate(8 * MIB)
    tool("sfdisk", "-q", folder / "mbr", input="label: dos\nlabel-id: 0x1234abcd\ntype=83\n")
    with (folder / "blank").open("wb") as made:
        made.truncate(MIB)
    made_up = {name: capture(folder / name) for name in ("mbr", "blank")}
    names = {name: snapshots()[snapshot]["disk"] for name, snapshot in made_up.items()}
    ctx.that("a disk with an MBR is named by its signature", names["mbr"].startswith("mbr-1234abcd"), names)
    ctx.that("a blank disk is named by its file name and folder", names["blank"].startswith("blank-"), names)
    # A clone with the host name of its template cannot be distinguished, but causes a message.
    template = ctx.make_disk("clones/one.raw", 16)
    (ctx.folder / "hostname").write_text("template\n")
    tool("debugfs", "-w", "-f", "-", f"{template}?offset={MIB}", input=f"mkdir etc\nwrite {ctx.folder}/hostname etc/hostname\n")
    shutil.copyfile(template, template.with_name("two.raw"))
    for number, (name, is_said) in enumerate([("one", 0), ("one", 0), ("two", 0), ("one", 1), ("two", 1)]):
        # Snapshots are ordered by the second.
        time.sleep(1.1)
        ended = ctx.done("capture", template.with_name(f"{name}.raw"), f"{repository}@", "--json")
        ctx.that(
            f"capture {number} of files with the same names: {'that they take turns is said' if is_said else 'no word'}",
            ("distinguish them with --host" in ended.err) == bool(is_said) and ended.json()["host"] == "template", ended,
        )  # fmt: skip
    for host in ("Büro Süd", "主机", "web.example.org"):
        snapshot = capture(one, "--host", host, "--disk", "Daten")
        named = snapshots()[snapshot]
        ctx.that(f"--host {host} is kept", (named["host"], named["disk"]) == (host, "Daten"), named)
        ended = ctx.reforge("inspect", f"{repository}@{host}/Daten/latest")
        ctx.that("and selects the snapshot", ended.status == DONE, ended)
    for host in ("", "a/b", "tab\there", "line\nbreak", " edge", "x" * 300, "\u202eback"):
        ended = ctx.reforge("capture", one, f"{repository}@", "--host", host)
        ctx.that(f"--host {host[:12]!r} is refused (64)", ended.status == USAGE, ended)
        ended = ctx.reforge("capture", one, f"{repository}@", "--disk", host)
        ctx.that(f"--disk {host[:12]!r} is refused (64)", ended.status == USAGE, ended)
