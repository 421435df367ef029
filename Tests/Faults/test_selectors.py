# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection of snapshots by name and time, and the commands' reports for scripts."""

from __future__ import annotations

import time

from faults import AMBIGUOUS, DAMAGED, DONE, NOT_FOUND, USAGE, Context, Ended, files_under, state_of


def test_names_of_snapshots(ctx: Context) -> None:
    """Ids, hosts and times select a snapshot, or the command gives the reason for a refusal."""
    disk = ctx.make_disk("disk", 8)
    later = ctx.change_disk(disk, "later", 1)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    empty = ctx.reforge("inspect", f"{repository}@latest")
    ctx.that("latest of an empty repository (66)", empty.status == NOT_FOUND and "no snapshots" in empty.said, empty)
    first = ctx.capture(disk, repository, "web")
    began = ctx.done("snapshots", repository, "--json").json()["snapshots"][0]["started"]
    # Another second, so that a time distinguishes the snapshots.
    time.sleep(1.1)
    middle = time.gmtime()
    time.sleep(1.1)
    second = ctx.capture(later, repository, "web")

    def chosen(behind: str) -> str:
        ended = ctx.reforge("restore", f"{repository}@{behind}", target, "--dry-run", "--json")
        return str(ended.json().get("imageID")) if ended.status == DONE else str(ended)

    target = ctx.folder / "target"
    with target.open("wb") as made:
        made.truncate(8 << 20)
    ctx.that("latest is ambiguous with two disks", "2 disks" in chosen("latest"), chosen("latest"))
    third = ctx.capture(disk, repository, "web")
    ctx.that("HOST/DISK/latest", chosen("web/disk/latest") == third, chosen("web/disk/latest"))
    ctx.that(
        "a time: the newest before it", chosen(f"web/disk/{time.strftime('%Y-%m-%dT%H:%M:%SZ', middle)}") == first
    )
    ctx.that("a snapshot's exact time selects it", chosen(f"web/disk/{began}") == first, chosen(f"web/disk/{began}"))
    ctx.that("a time with an offset", chosen(f"web/disk/{time.strftime('%Y-%m-%dT%H:%M:%S+00:00', middle)}") == first)
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.mktime(middle) - time.timezone))
    ctx.that("a time without an offset is local", chosen(f"web/disk/{local}") == first, chosen(f"web/disk/{local}"))
    ctx.that("a day selects its newest snapshot", chosen(f"web/later/{time.strftime('%Y-%m-%d')}") == second)
    before = ctx.reforge("inspect", f"{repository}@web/disk/2001-01-01T00:00Z")
    ctx.that("a time before all (66), naming the oldest", before.status == NOT_FOUND and began in before.said, before)
    ctx.that("an id", chosen(first) == first, chosen(first))
    ctx.that("the start of an id", chosen(second[:8]) == second and chosen(second[:8].upper()) == second)
    none = ctx.reforge("inspect", f"{repository}@{'f' * 20}")
    ctx.that("an unknown id (66)", none.status == NOT_FOUND, none)
    for nonsense in ("zz", "latest/x", "a/b/c/latest", "2026-13-45"):
        ended = ctx.reforge("inspect", f"{repository}@{nonsense}")
        ctx.that(
            f"@{nonsense} names no snapshot (66), and the valid forms are listed",
            ended.status == NOT_FOUND and "HOST/latest" in ended.said, ended,
        )  # fmt: skip
    fourth = ctx.capture(disk, repository, "db")
    both = ctx.reforge("inspect", f"{repository}@latest")
    ctx.that(
        "latest of two hosts is refused (78), and the hosts are named",
        both.status == AMBIGUOUS and "db/disk/latest" in both.said and "web/disk/latest" in both.said, both,
    )  # fmt: skip
    moment = ctx.reforge("inspect", f"{repository}@{began}")
    ctx.that("a time is refused, too (78)", moment.status == AMBIGUOUS, moment)
    ctx.that("HOST/latest", chosen("db/latest") == fourth, chosen("db/latest"))
    host = ctx.reforge("inspect", f"{repository}@nobody/latest")
    ctx.that("an unknown host (66), and the known ones", host.status == NOT_FOUND and "web" in host.said, host)
    whole = ctx.reforge("restore", f"{repository}@", target, "--yes")
    ctx.that("a repository is no snapshot (66)", whole.status == NOT_FOUND, whole)
    for command in ("restore", "verify", "inspect"):
        words = [f"{ctx.folder}/none@latest", *([target, "--yes"] if command == "restore" else [])]
        ended = ctx.reforge(command, *words)
        ctx.that(f"{command} of a missing repository (66)", ended.status == NOT_FOUND, ended)
    file = ctx.reforge("snapshots", disk)
    ctx.that(
        "a file as a repository (66), with the reason", file.status == NOT_FOUND and "a file" in file.said, file
    )
    into = ctx.reforge("capture", disk, f"{later}@")
    ctx.that("capture into a file as a repository (66)", into.status == NOT_FOUND, into)
    folder = ctx.folder / "folder"
    folder.mkdir()
    other = ctx.reforge("snapshots", folder)
    ctx.that(
        "a folder that is no repository (66)", other.status == NOT_FOUND and "repository.json" in other.said, other
    )
    again = ctx.reforge("init-repo", repository)
    ctx.that("init-repo keeps an existing repository (73)", again.status == 73, again)
    ctx.that("and whole", ctx.wrong(f"{repository}@{third}", disk) == "", "")


def test_newer_format(ctx: Context) -> None:
    """A repository of a newer version is refused with a message."""
    disk = ctx.make_disk("disk", 8)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    ctx.capture(disk, repository)
    configuration = repository / "repository.json"
    original = configuration.read_text()

    def said(name: str, text: str, *words: str) -> None:
        configuration.write_text(text)
        before = files_under(repository)
        commands = (["snapshots", repository], ["capture", disk, f"{repository}@"], ["verify", f"{repository}@latest"])
        for command in commands:
            ended = ctx.reforge(*command)
            ctx.that(
                f"{name} is refused by {command[0]} (65)",
                ended.status == DAMAGED and all(word in ended.said for word in words), ended,
            )  # fmt: skip
        ctx.that(f"{name}: nothing was written", files_under(repository) == before)

    said("a newer major version", original.replace('"major" : 1', '"major" : 2'), "version 2")
    said(
        "an unknown feature",
        original.replace('"incompatibleFeatures" : [\n\n  ]', '"incompatibleFeatures" : ["quantum"]'), "quantum",
    )  # fmt: skip
    said("a file that is no JSON", original[: len(original) // 2], "repository.json")
    said("an empty file", "", "repository.json")
    configuration.write_text(original)
    ctx.that("the original configuration is accepted", ctx.reforge("verify", f"{repository}@latest").status == DONE)


def test_retention(ctx: Context) -> None:
    """forget keeps by host, disk and tags, and its dry run keeps everything."""
    disk = ctx.make_disk("disk", 8)
    other = ctx.change_disk(disk, "other", 1)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    groups = {
        "web": (disk, "web", []), "web tagged": (disk, "web", ["--tag", "release"]), "db": (disk, "db", []),
        "second disk": (other, "web", []),
    }  # fmt: skip
    made: dict[str, list[str]] = {name: [] for name in groups}
    for _ in range(2):
        for name, (source, host, more) in groups.items():
            made[name].append(ctx.capture(source, repository, host, *more))
        # Snapshots are ordered by the second.
        time.sleep(1.01)
    before = state_of(repository)

    def forgotten(*words: str) -> set[str]:
        report = ctx.done("forget", repository, "--json", *words).json()
        kept = {one["id"] for one in report["kept"]}
        gone = {one["id"] for one in report["forgotten"]}
        if kept & gone:
            raise AssertionError(f"both kept and forgotten: {kept & gone}")
        return gone

    def ids(place: int, *names: str) -> set[str]:
        return {made[name][place] for name in names or groups}

    ctx.that("a dry run lists the older of every group", forgotten("--keep-last", "1", "--dry-run") == ids(0))
    ctx.that("of one host", forgotten("--keep-last", "1", "--host", "db", "--dry-run") == ids(0, "db"))
    ctx.that("of one tag", forgotten("--keep-last", "1", "--tag", "release", "--dry-run") == ids(0, "web tagged"))
    ctx.that("--keep-last 2 keeps all", not forgotten("--keep-last", "2", "--dry-run"))
    for period in ("daily", "weekly", "monthly", "yearly"):
        # Around midnight, the snapshots are of two days.
        gone = forgotten(f"--keep-{period}", "1", "--dry-run")
        ctx.that(f"one of each {period} period: the newest of every group stays", not gone & ids(1), gone)
    ctx.that("dry runs change nothing", state_of(repository) == before)
    ended = ctx.reforge("forget", repository)
    ctx.that("no policy: nothing is forgotten (64)", ended.status == USAGE and state_of(repository) == before, ended)
    ended = ctx.reforge("forget", repository, "--keep-last", "0")
    ctx.that("also with --keep-last 0 (64)", ended.status == USAGE and state_of(repository) == before, ended)
    ended = ctx.reforge("forget", repository, "--keep-last", "-1")
    ctx.that("also with a negative one (64)", ended.status == USAGE and state_of(repository) == before, ended)
    ctx.that(
        "forget agrees with its dry run",
        forgotten("--keep-last", "1", "--host", "web") == ids(0, "web", "web tagged", "second disk"),
    )  # fmt: skip
    ctx.that("and forgets no more", set(ctx.snapshots(repository)) == ids(1) | ids(0, "db"))
    ctx.that("a second forget has nothing to do", not forgotten("--keep-last", "1", "--host", "web"))
    before = state_of(repository)
    ended = ctx.done("prune", repository, "--grace", "0s", "--dry-run", "--json")
    ctx.that(
        "a dry run of prune changes nothing", state_of(repository) == before, set(state_of(repository)) ^ set(before)
    )
    held = {made[name][1]: groups[name][0] for name in groups} | {made["db"][0]: disk}
    why = ctx.wrong_repository(repository, held)
    ctx.that("the kept snapshots are whole", not why, why)


def test_json(ctx: Context) -> None:
    """With --json, every command prints one object, also on failure."""
    disk = ctx.make_disk("disk", 8)
    later = ctx.change_disk(disk, "later/disk", 1)
    repository, other, image = ctx.folder / "repo", ctx.folder / "other", ctx.folder / "copy.img.zst"
    for folder in (repository, other):
        ctx.done("init-repo", folder, "--chunk-size", "64K")
    target = ctx.folder / "target"
    with target.open("wb") as made:
        made.truncate(8 << 20)
    first = ctx.capture(disk, repository)
    second = ctx.capture(later, repository)
    commands: dict[str, list[str | Path]] = {
        "capture": [disk, f"{repository}@"], "snapshots": [repository], "inspect": [f"{repository}@{first}"],
        "diff": [f"{repository}@{first}", f"{repository}@{second}"], "verify": [repository, "--read-data"],
        "verify of a snapshot": [f"{repository}@{first}"], "copy": [f"{repository}@{first}", f"{other}@"],
        "copy to an image": [f"{repository}@{first}", image], "verify of an image": [image],
        "copy from an image": [image, f"{other}@"], "copy of all": [f"{repository}@", f"{other}@"],
        "restore --dry-run": [f"{repository}@{first}", target],
        "restore": [f"{repository}@{first}", target, "--yes"],
        "restore --delta": [f"{repository}@{second}", target, "--yes"],
        "forget": [repository, "--keep-last", "1"], "prune": [repository],
    }  # fmt: skip
    for name, words in commands.items():
        flags = [word for word in name.split() if word.startswith("--")]
        ended = ctx.reforge(name.split()[0], *words, *flags, "--json")
        ctx.that(f"{name}: one object", ended.status == DONE and is_object(ended), ended)
        if name == "diff":
            changed = ended.json()["changedByteCount"]
            ctx.that("diff: about the changed bytes", 1 << 19 < changed < 3 << 20, ended)
    missing = ctx.folder / "missing"
    failing: dict[str, list[str | Path]] = {
        "snapshots": [missing], "capture": [disk, f"{missing}@"],
        "diff": [f"{repository}@{'0' * 64}", f"{repository}@{second}"], "verify": [f"{missing}@latest"],
        "copy": [f"{missing}@latest", f"{other}@"], "forget": [missing, "--keep-last", "1"],
        "prune": [missing], "restore": [f"{repository}@{'0' * 64}", target, "--yes"],
    }  # fmt: skip
    for name, words in failing.items():
        ended = ctx.reforge(name, *words, "--json")
        failure = ended.json() if is_object(ended) else {}
        is_told = failure.get("exitCode") == ended.status == NOT_FOUND and failure.get("error")
        ctx.that(f"{name} that fails (66): one object with the exit code and a message", is_told, ended)


def is_object(ended: Ended) -> bool:
    """Whether standard output is one JSON object with a schema."""
    try:
        return ended.json()["schema"] == 1
    except (ValueError, KeyError, TypeError):
        return False
