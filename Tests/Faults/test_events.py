# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a command with `--events`, as read by another program."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from faults import DAMAGED, DONE, INTERRUPTED, MIB, REFUSED, USAGE, Context


def followed(ctx: Context, *words: str | Path, interrupt: bool = False) -> tuple[int, list[dict[str, Any]], str]:
    """Runs a command with a pipe for its events; with `interrupt`, SIGINT is sent at its first progress."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [str(ctx.binary), *(str(word) for word in words), "--events", str(writing)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ctx.folder,
        pass_fds=[writing], start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    events = []
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            events.append(json.loads(line))
            if interrupt and events[-1]["event"] == "progress":
                child.send_signal(2)
                interrupt = False
    said = child.communicate(timeout=120)[1]
    return child.returncode, events, said


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The kinds of events, with repetitions collapsed."""
    found: list[str] = []
    for event in events:
        if not found or found[-1] != event["event"]:
            found.append(event["event"])
    return found


def test_events(ctx: Context) -> None:
    """Every job ends with one `finished` event, which agrees with its exit code and the disk."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(ctx.random.randbytes(48 * MIB))
    image = ctx.folder / "disk.img.zst"
    status, events, _ = followed(ctx, "capture", disk, image, "--level", "1")
    ctx.that("a capture: plan, progress, end", status == DONE and kinds(events)[0] == "planned", events)
    last = events[-1]
    ctx.that("each event has schema 1", all(event["schema"] == 1 for event in events), events)
    ctx.that(
        "the last event has the image's id",
        last["event"] == "finished" and last["report"]["outcome"] == {"status": 0} and last["report"]["imageID"],
        last,
    )

    target = ctx.folder / "target.raw"
    with target.open("wb") as file:
        file.truncate(48 * MIB)
    status, events, _ = followed(ctx, "restore", image, target)
    ctx.that(
        "not confirmed: refused, untouched, after the plan",
        status == REFUSED and events[-1]["report"]["outcome"] == {"status": 77, "diskState": "untouched"}
        and "planned" in kinds(events),
        events,
    )  # fmt: skip
    status, events, _ = followed(ctx, "restore", image, target, "--yes", "--verify")
    order = kinds(events)
    ctx.that(
        "a restore: plan, phases with progress, end",
        status == DONE and order[0] == "planned" and order[-1] == "finished" and order.count("finished") == 1
        and "phase" in order and "progress" in order,
        order,
    )  # fmt: skip
    far = [event["progress"] for event in events if event["event"] == "progress"]
    ctx.that("progress never exceeds the total", all(at["done"] <= at["total"] for at in far if at["total"]), far)
    ctx.that(
        "and complete", events[-1]["report"]["outcome"] == {"status": 0, "diskState": "complete"}, events[-1]
    )

    status, events, said = followed(ctx, "verify", image)
    ctx.that("verify", status == DONE and events[-1]["report"]["operation"] == "verify", (events, said))
    status, events, _ = followed(ctx, "copy", image, ctx.folder / "copy.img.zst")
    ctx.that("copy", status == DONE and events[-1]["report"]["operation"] == "copy", events)

    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 0x55
    image.write_bytes(content)
    blank = ctx.folder / "blank.raw"
    with blank.open("wb") as file:
        file.truncate(48 * MIB)
    status, events, said = followed(ctx, "restore", image, blank, "--yes")
    report = events[-1]["report"]
    ctx.that(
        "a damaged image: partial, with the message of stderr",
        status == DAMAGED and report["outcome"] == {"status": 65, "diskState": "partial"}
        and report["message"] in said,
        (report, said),
    )  # fmt: skip


def test_interrupted(ctx: Context) -> None:
    """An interrupted job ends with `finished`, too."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(ctx.random.randbytes(64 * MIB))
    image = ctx.folder / "disk.img.zst"
    ctx.done("capture", disk, image, "--level", "1")
    target = ctx.folder / "target.raw"
    with target.open("wb") as file:
        file.truncate(64 * MIB)
    status, events, said = followed(ctx, "restore", image, target, "--yes", "--verify", interrupt=True)
    report = events[-1]["report"]
    if status == DONE:
        ctx.that("the restore finished before the interruption", report["outcome"]["diskState"] == "complete", report)
        return
    ctx.that(
        "75, and the state of the disk", status == INTERRUPTED and report["outcome"]["status"] == 75
        and report["outcome"]["diskState"] in ("untouched", "partial") and report["message"] in said, (report, said),
    )  # fmt: skip
    status, events, _ = followed(ctx, "restore", image, target, "--yes")
    ctx.that("the same command resumes", status == DONE and target.read_bytes() == disk.read_bytes(), events[-1])


def test_wrong_descriptors(ctx: Context) -> None:
    """Descriptors that are invalid, not open, or in use."""
    disk = ctx.folder / "disk.raw"
    disk.write_bytes(bytes(MIB))
    for number in ("1", "77", "-1", "x"):
        ended = ctx.reforge("capture", disk, ctx.folder / "disk.img.zst", f"--events={number}")
        ctx.that(f"--events={number} is refused (64)", ended.status == USAGE, ended)
    # A reader that closes its end does not stop the command.
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [str(ctx.binary), "capture", str(disk), str(ctx.folder / "disk.img.zst"), "--events", str(writing)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[writing],
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    ctx.that("without a reader the capture continues", child.wait(timeout=120) == DONE)
