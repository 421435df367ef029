"""`reforge vm`: a snapshot is used at once, and a kept overlay becomes the next snapshot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from lab import MIB, Context, expect, full_only, note, run, sha256, time_limit
from machine import PATIENCE
from test_prove import proven, quiet_disk, wait_for_machine


@full_only
@time_limit(1800)
def test_overlay_becomes_an_increment(ctx: Context) -> None:
    """A machine that boots, is shut down by Ctrl-C, and is captured: only its changes are new, and it still boots."""
    disk = quiet_disk(ctx)
    repository = ctx.folder / "repo"
    ctx.reforge("init-repo", repository)
    first = json.loads(ctx.reforge("capture", disk, f"{repository}@", "--host", "lab", "--disk", "system", "--json"))
    disk.unlink()
    overlay = ctx.folder / "trial.qcow2"
    before = sha256_of_tree(repository)
    process = subprocess.Popen(
        [str(ctx.binary), "vm", f"{repository}@lab/latest", "--keep", str(overlay), "--no-kvm", "--memory", "768M",
         "--display", "none"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_machine(process.pid)
    try:
        # Long enough to write something.
        process.wait(timeout=150)
        raise AssertionError(f"the machine ended by itself with {process.returncode}: {process.stderr.read().decode()}")
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    # The power button, which the lab's Debian does not obey; once more ends the machine.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=PATIENCE * 30)
    finally:
        process.kill()
    expect(process.returncode == 0, f"vm ended with {process.returncode}")
    expect(sha256_of_tree(repository) == before, "the repository is unchanged")
    expect((ctx.folder / "trial.qcow2.reforge.json").is_file(), "the overlay has its record")
    words = ["qemu-img", "dd", f"if={overlay}", f"of={ctx.folder / 'alone'}", "bs=512", "count=1"]
    alone = subprocess.run(words, capture_output=True, check=False)
    expect(alone.returncode != 0, "without its base, the overlay cannot be read")
    kept = sha256(overlay)
    report = proven(ctx, str(overlay))
    expect(report["verdict"] == "proven", f"{report}")
    expect(sha256(overlay) == kept, "a proof leaves the overlay as it is")
    second = json.loads(ctx.reforge("capture", overlay, f"{repository}@", "--json"))
    note(f"new: {second['newByteCount'] / MIB:.1f} MiB after {first['newByteCount'] / MIB:.1f} MiB")
    expect(second["newByteCount"] < first["newByteCount"] // 2, "most of the second snapshot is deduplicated")
    names = {(entry["host"], entry["disk"]) for entry in json.loads(ctx.reforge("snapshots", repository, "--json"))["snapshots"]}
    expect(names == {("lab", "system")}, f"both snapshots are of one host and disk: {names}")
    report = proven(ctx, f"{repository}@lab/latest")
    expect(report["verdict"] == "proven", f"{report}")


@full_only
@time_limit(300)
def test_overlay_needs_its_base(ctx: Context) -> None:
    """A base that is missing or another is refused, by vm, prove and capture."""
    disk = ctx.blank_disk("base.raw", 64 * MIB)
    overlay = ctx.folder / "trial.qcow2"
    process = subprocess.Popen(
        [str(ctx.binary), "vm", str(disk), "--keep", str(overlay), "--no-kvm", "--memory", "256M", "--display", "none"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    machine = wait_for_machine(process.pid)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        # A machine without a system does not obey its power button.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            pass
    expect(process.returncode == 0 and not os.path.exists(f"/proc/{machine}"), f"vm ended with {process.returncode}")
    image = ctx.folder / "again.img.zst"
    ctx.reforge("capture", overlay, image)
    with open(disk, "r+b") as handle:
        handle.write(b"x" * 512)
    for command in (["vm", overlay], ["prove", overlay], ["capture", overlay, image, "--overwrite"]):
        ctx.reforge(*command, codes=(77,))
    disk.unlink()
    for command in (["vm", overlay], ["prove", overlay], ["capture", overlay, image, "--overwrite"]):
        ctx.reforge(*command, codes=(66,))


@full_only
@time_limit(300)
def test_overlay_without_room(ctx: Context) -> None:
    """A folder for temporary files that cannot hold an overlay is an error that names it."""
    disk = ctx.blank_disk("base.raw", 64 * MIB)
    done = subprocess.run(
        [str(ctx.binary), "vm", str(disk), "--no-kvm", "--memory", "256M", "--display", "none"],
        env=dict(os.environ, TMPDIR=str(ctx.folder / "missing")), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    expect(done.returncode in (66, 73, 74), f"vm ended with {done.returncode}: {done.stderr}")
    expect("missing" in done.stderr, f"the message names the folder: {done.stderr}")


def sha256_of_tree(folder: Path) -> dict[str, str]:
    """The hashes of the files of a repository, without its locks."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*")) if path.is_file() and "lock" not in str(path.relative_to(folder))
    }  # fmt: skip
