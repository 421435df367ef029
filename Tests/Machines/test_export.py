"""Exported disks of virtual machines: each format has the bytes of a restore, boots, and is captured back unchanged."""

from __future__ import annotations

import json
from pathlib import Path

from lab import Context, expect, expect_whole, full_only, note, run, time_limit

# The formats, with QEMU's driver and the controller that the disk boots on.
FORMATS = {
    "qcow2": ("qcow2", "virtio"),
    "vmdk": ("vmdk", "scsi"),
    "vhdx": ("vhdx", "sata"),
    "vhd": ("vpc", "sata"),
    "vdi": ("vdi", "nvme"),
    "raw": ("raw", "virtio"),
}


def restored(ctx: Context) -> Path:
    """The image as a plain restore writes it onto a disk of the same size."""

    def make() -> Path:
        target = ctx.workdir / "export-restored.raw"
        with open(target, "wb") as handle:
            handle.truncate(ctx.used_debian_disk()[0].stat().st_size)
        ctx.reforge("restore", ctx.debian_image(), target, "--yes", "--layout", "keep", "--no-boot-repair")
        return target

    return ctx.shared.once("the restore that exports equal", make)


def repository(ctx: Context) -> Path:
    """A repository with a snapshot of the image."""

    def make() -> Path:
        path = ctx.workdir / "export-repo"
        ctx.reforge("init-repo", path)
        ctx.reforge("copy", ctx.debian_image(), f"{path}@", "--host", "debian")
        return path

    return ctx.shared.once("the repository of exports", make)


def exported(ctx: Context, source: Path | str, extension: str) -> None:
    """One format: its bytes, its boot, and its capture."""
    driver, bus = FORMATS[extension]
    out = ctx.folder / f"exported.{extension}"
    ctx.reforge("export", source, out)
    run("qemu-img", "compare", "-f", "raw", "-F", driver, restored(ctx), out)
    proof = ctx.boot_and_prove(f"exported-{extension}", out, bus, "bios", driver=driver, timeout=300)
    expect_whole(proof, firmware="bios", bus=bus)
    # In a copy of the repository: tests that run beside this one must not add chunks.
    own = ctx.folder / "repo"
    run("cp", "-a", repository(ctx), own)
    report = json.loads(ctx.reforge("capture", out, f"{own}@", "--host", "back", "--disk", extension, "--json"))
    expect(report["newByteCount"] == 0, f"the capture of the exported disk added {report['newByteCount']} bytes")
    note(f"{extension}: {out.stat().st_size >> 20} MiB, booted on {bus}, and captured back without a new chunk")


@full_only
@time_limit(1800)
def test_export_qcow2(ctx: Context) -> None:
    """From an image."""
    exported(ctx, ctx.debian_image(), "qcow2")


@full_only
@time_limit(1800)
def test_export_vmdk(ctx: Context) -> None:
    """From a snapshot."""
    exported(ctx, f"{repository(ctx)}@latest", "vmdk")


@full_only
@time_limit(1800)
def test_export_vhdx(ctx: Context) -> None:
    """From an image."""
    exported(ctx, ctx.debian_image(), "vhdx")


@full_only
@time_limit(1800)
def test_export_vhd(ctx: Context) -> None:
    """From a snapshot."""
    exported(ctx, f"{repository(ctx)}@latest", "vhd")


@full_only
@time_limit(1800)
def test_export_vdi(ctx: Context) -> None:
    """From an image."""
    exported(ctx, ctx.debian_image(), "vdi")


@full_only
@time_limit(1800)
def test_export_raw(ctx: Context) -> None:
    """From a snapshot."""
    exported(ctx, f"{repository(ctx)}@latest", "raw")
