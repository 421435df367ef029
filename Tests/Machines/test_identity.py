# SPDX-License-Identifier: GPL-3.0-or-later
"""Two copies of one machine, each with its own identity, up at the same time."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import Context, Skip, copy_sparse, expect, full_only, note, run, time_limit
from machine import Disk
from proof import Proof, wait_for_proof
from test_lab import ESP_OFFSET, ROOT_OFFSET
from test_restore import IMAGE, TARGET_BYTES, TARGET_SERIAL, finish_restore, medium, restore_settings

# The root of a restored disk begins where it did; only its end moves.
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def edit_root(disk: Path, commands: list[str]) -> None:
    """Runs debugfs commands on the root."""
    for command in commands:
        run("debugfs", "-w", "-R", command, f"{disk}?offset={ROOT_OFFSET}")


def read_root(disk: Path, path: str) -> str:
    """A file of the root."""
    return run("debugfs", "-R", f"cat {path}", f"{disk}?offset={ROOT_OFFSET}")


def image_with_keys(ctx: Context) -> Path:
    """An image of the lab's Debian with SSH host keys, and the program that makes them."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Skip("there is no ssh-keygen (openssh-client)")
    disk = copy_sparse(ctx.debian_disk(), ctx.folder / "source.raw")
    key = ctx.folder / "ssh_host_ed25519_key"
    run(program, "-q", "-t", "ed25519", "-N", "", "-f", key)
    edit_root(disk, [
        "mkdir /etc/ssh", f"write {program} /usr/bin/ssh-keygen", "sif /usr/bin/ssh-keygen mode 0100755",
        f"write {key} {KEY.removesuffix('.pub')}", f"sif {KEY.removesuffix('.pub')} mode 0100600",
        f"write {key}.pub {KEY}",
    ])  # fmt: skip
    run("e2fsck", "-f", "-p", f"{disk}?offset={ROOT_OFFSET}", codes=(0, 1))
    image = ctx.folder / "debian.img.zst"
    ctx.reforge("capture", disk, image)
    disk.unlink()
    return image


@full_only
@time_limit(2400)
def test_two_clones_differ(ctx: Context) -> None:
    """The lab's Debian is restored twice with new identities and UUIDs; both start, and differ in each of them."""
    image = image_with_keys(ctx)
    images = ctx.images_disk(debian=image)
    old = {"uuid": run("blkid", "-p", "-O", str(ROOT_OFFSET), "-o", "value", "-s", "UUID", ctx.debian_disk()).strip()}
    clones: dict[str, Path] = {}
    for name in ("one", "two"):
        target = ctx.blank_disk(f"{name}.raw", TARGET_BYTES)
        disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES")]
        settings = restore_settings(IMAGE, **{"new-identity": f"standard,uuids,hostname:clone-{name}"})
        with medium(ctx, f"restore-{name}", settings, disks) as machine:
            finish_restore(machine)
        clones[name] = target
    proofs = boot_together(ctx, clones)
    for name, proof in proofs.items():
        expect(proof["hostname"] == f"clone-{name}", f"the host name is {proof['hostname']}")
        expect(proof["state"] == "running" and proof["failed-units"] == "0", f"{name} is {proof['state']}")
        expect(len(proof["machine-id"]) == 32, f"the machine id is {proof['machine-id']}")
        swap = proof["swap"].split()
        expect(len(swap) == 2, f"swap is found by its new UUID: {proof['swap']!r}")
        expect(proof["esp"].endswith(" vfat"), f"the ESP is found by its new volume id: {proof['esp']!r}")
    expect(proofs["one"]["machine-id"] != proofs["two"]["machine-id"], "the machine ids differ")
    keys = {name: read_root(disk, KEY) for name, disk in clones.items()}
    expect(len(set(keys.values())) == 2 and all(keys.values()), f"the SSH host keys differ: {keys}")
    for place in (ESP_OFFSET, ROOT_OFFSET):
        found = {
            run("blkid", "-p", "-O", str(place), "-o", "value", "-s", "UUID", disk).strip() for disk in clones.values()
        }
        expect(len(found) == 2 and old["uuid"] not in found, f"the UUIDs at {place} differ: {found}")


def boot_together(ctx: Context, clones: dict[str, Path]) -> dict[str, Proof]:
    """Boots both at once, by BIOS; their writes are dropped."""
    one, two = clones.items()
    with (
        ctx.machine(one[0], disks=[Disk(one[1], "nvme", "ONE", snapshot=True)], time_limit=900) as first,
        ctx.machine(two[0], disks=[Disk(two[1], "nvme", "TWO", snapshot=True)], time_limit=900) as second,
    ):
        proofs = {one[0]: wait_for_proof(first, 600), two[0]: wait_for_proof(second, 600)}
    note(f"both up: {', '.join(f'{name} in {proof.seconds:.0f} s' for name, proof in proofs.items())}")
    return proofs
