# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots by name and time, and the reports of the commands, as scripts see them."""

from __future__ import annotations

import time

from faults import AMBIGUOUS, DAMAGED, DONE, NOT_FOUND, Context, files_under


def test_names_of_snapshots(ctx: Context) -> None:
    """Ids, hosts and times choose a snapshot, or the command says why not."""
    disk = ctx.make_disk("disk", 8)
    later = ctx.change_disk(disk, "later", 1)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    empty = ctx.reforge("inspect", f"{repository}@latest")
    ctx.that("latest of an empty repository (66)", empty.status == NOT_FOUND and "no snapshots" in empty.said, empty)
    first = ctx.capture(disk, repository, "web")
    began = ctx.done("snapshots", repository, "--json").json()["snapshots"][0]["started"]
    # Another second, so that a time tells them apart.
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
    ctx.that("latest of one host and one disk is one of two disks", "2 disks" in chosen("latest"), chosen("latest"))
    third = ctx.capture(disk, repository, "web")
    ctx.that("HOST/DISK/latest", chosen("web/disk/latest") == third, chosen("web/disk/latest"))
    ctx.that("a time takes the newest before it", chosen(f"web/disk/{time.strftime('%Y-%m-%dT%H:%M:%SZ', middle)}") == first)
    ctx.that("the very time counts", chosen(f"web/disk/{began}") == first, chosen(f"web/disk/{began}"))
    ctx.that("a time with an offset", chosen(f"web/disk/{time.strftime('%Y-%m-%dT%H:%M:%S+00:00', middle)}") == first)
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.mktime(middle) - time.timezone))
    ctx.that("a time without one is local", chosen(f"web/disk/{local}") == first, chosen(f"web/disk/{local}"))
    ctx.that("a day takes its newest", chosen(f"web/later/{time.strftime('%Y-%m-%d')}") == second)
    before = ctx.reforge("inspect", f"{repository}@web/disk/2001-01-01T00:00Z")
    ctx.that("nothing so old (66), and what is the oldest", before.status == NOT_FOUND and began in before.said, before)
    ctx.that("an id", chosen(first) == first, chosen(first))
    ctx.that("the start of an id", chosen(second[:8]) == second and chosen(second[:8].upper()) == second)
    none = ctx.reforge("inspect", f"{repository}@{'f' * 20}")
    ctx.that("an id that is not there (66)", none.status == NOT_FOUND, none)
    for nonsense in ("zz", "latest/x", "a/b/c/latest", "2026-13-45"):
        ended = ctx.reforge("inspect", f"{repository}@{nonsense}")
        ctx.that(f"@{nonsense} names no snapshot (66), and the forms are said", ended.status == NOT_FOUND and "HOST/latest" in ended.said, ended)
    fourth = ctx.capture(disk, repository, "db")
    both = ctx.reforge("inspect", f"{repository}@latest")
    ctx.that("latest of two hosts is refused (78), and the hosts are named", both.status == AMBIGUOUS and "db/disk/latest" in both.said and "web/disk/latest" in both.said, both)
    moment = ctx.reforge("inspect", f"{repository}@{began}")
    ctx.that("so is a time (78)", moment.status == AMBIGUOUS, moment)
    ctx.that("HOST/latest", chosen("db/latest") == fourth, chosen("db/latest"))
    host = ctx.reforge("inspect", f"{repository}@nobody/latest")
    ctx.that("a host that is not there (66), and those that are", host.status == NOT_FOUND and "web" in host.said, host)
    whole = ctx.reforge("restore", f"{repository}@", target, "--yes")
    ctx.that("a repository is no snapshot (66)", whole.status == NOT_FOUND, whole)
    for command in ("restore", "verify", "inspect"):
        words = [f"{ctx.folder}/none@latest", *([target, "--yes"] if command == "restore" else [])]
        ended = ctx.reforge(command, *words)
        ctx.that(f"{command} of a repository that is not there (66)", ended.status == NOT_FOUND, ended)
    file = ctx.reforge("snapshots", disk)
    ctx.that("a repository that is a file (66), and it says so", file.status == NOT_FOUND and "a file" in file.said, file)
    into = ctx.reforge("capture", disk, f"{later}@")
    ctx.that("capture into a file as a repository (66)", into.status == NOT_FOUND, into)
    folder = ctx.folder / "folder"
    folder.mkdir()
    other = ctx.reforge("snapshots", folder)
    ctx.that("a folder that is no repository (66)", other.status == NOT_FOUND and "repository.json" in other.said, other)
    again = ctx.reforge("init-repo", repository)
    ctx.that("a repository that is there is kept (73)", again.status == 73, again)
    ctx.that("and whole", ctx.wrong(f"{repository}@{third}", disk) == "", "")


def test_newer_format(ctx: Context) -> None:
    """A repository of a later program is refused with a sentence, not misread."""
    disk = ctx.make_disk("disk", 8)
    repository = ctx.folder / "repo"
    ctx.done("init-repo", repository, "--chunk-size", "64K")
    ctx.capture(disk, repository)
    configuration = repository / "repository.json"
    original = configuration.read_text()

    def said(name: str, text: str, *words: str) -> None:
        configuration.write_text(text)
        before = files_under(repository)
        for command in (["snapshots", repository], ["capture", disk, f"{repository}@"], ["verify", f"{repository}@latest"]):
            ended = ctx.reforge(*command)
            ctx.that(f"{name} is refused by {command[0]} (65)", ended.status == DAMAGED and all(word in ended.said for word in words), ended)
        ctx.that(f"{name}: nothing was written", files_under(repository) == before)

    said("a newer major version", original.replace('"major" : 1', '"major" : 2'), "version 2")
    said("an unknown feature", original.replace('"incompatibleFeatures" : [\n\n  ]', '"incompatibleFeatures" : ["quantum"]'), "quantum")
    said("a file that is no JSON", original[: len(original) // 2], "repository.json")
    said("an empty file", "", "repository.json")
    configuration.write_text(original)
    ctx.that("the same as before is taken", ctx.reforge("verify", f"{repository}@latest").status == DONE)
