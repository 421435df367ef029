"""Systems restored with `firmware`: made to start by the other firmware than the one that they were installed for."""

from __future__ import annotations

import json
from typing import Any

from lab import MIB, Context, expect, expect_whole, full_only, note, run, time_limit
from test_systems import BOOT_TIMEOUT, System, restored

MBR = System("mbr", "bios", 3072, smaller=None, larger=4096)
MBR_ONLY = System("mbr-only", "bios", 3072, smaller=None, larger=4096)
UEFI_ONLY = System("uefi-only", "uefi", 3072, smaller=None, larger=3072)


def expect_converted(ctx: Context, system: System, mebibytes: int, firmware: str) -> tuple[Any, list[dict[str, Any]], str]:
    """Restores a system for that firmware by a medium that it started, and boots the disk with blank variables.

    Gives the proof, the partitions, and the console's text of the restore.
    """
    target, said, _ = restored(
        ctx, ctx.images_disk(system=system.image(ctx)), mebibytes, firmware=firmware, settings={"firmware": firmware}
    )
    run("sgdisk", "--verify", target)
    partitions = json.loads(run("sfdisk", "--json", target))["partitiontable"]["partitions"]
    # Blank variables: the fallback loader starts it.
    proof = ctx.boot_and_prove(f"boot-{mebibytes}", target, "nvme", firmware, timeout=BOOT_TIMEOUT)
    expect_whole(proof, firmware=firmware, bus="nvme", esp=True)
    note(f"booted by {firmware} in {proof.seconds:.0f} s: root {proof['root-device']}, ESP {proof['esp']}")
    target.unlink()
    return proof, partitions, said


def numbers(partitions: list[dict[str, Any]]) -> list[int]:
    """The numbers of partitions, from their nodes."""
    return [int(part["node"][len(part["node"].rstrip("0123456789")):]) for part in partitions]


@full_only
@time_limit(1800)
def test_mbr_becomes_gpt_for_uefi(ctx: Context) -> None:
    """An MBR with logical partitions, restored by UEFI: they keep their numbers; the system's own grub-install runs."""
    proof, partitions, said = expect_converted(ctx, MBR, MBR.larger, "uefi")
    expect(numbers(partitions) == [1, 5, 6, 7], f"the partitions are {partitions}")
    expect(proof["home"].endswith("p5"), f"/home is on {proof['home']}")
    expect("grub-install --target=x86_64-efi" in said, "grub-install was not run")


@full_only
@time_limit(1800)
def test_mbr_without_grub_for_uefi(ctx: Context) -> None:
    """The system has no GRUB for UEFI: the medium's is written. The disk has the captured size, so the swap shrinks."""
    proof, partitions, said = expect_converted(ctx, MBR_ONLY, MBR_ONLY.mebibytes, "uefi")
    expect(numbers(partitions) == [1, 5, 6, 7], f"the partitions are {partitions}")
    expect(proof["home"].endswith("p5"), f"/home is on {proof['home']}")
    expect("grub-from-medium" in said, "the medium's GRUB is not named")


@full_only
@time_limit(1800)
def test_uefi_without_grub_for_bios(ctx: Context) -> None:
    """A GPT that started by UEFI, restored by BIOS: core.img goes between the table and the first MiB; nothing moves."""
    _, partitions, _ = expect_converted(ctx, UEFI_ONLY, UEFI_ONLY.mebibytes, "bios")
    bios = [part for part in partitions if part["type"].upper() == "21686148-6449-6E6F-744E-656564454649"]
    expect(len(bios) == 1 and bios[0]["start"] == 80 and bios[0]["size"] == 2048 - 80, f"the partitions are {partitions}")
    expect(partitions[0]["start"] == MIB // 512, f"the ESP moved: {partitions}")
