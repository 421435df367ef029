"""Exported disks of virtual machines: each format has the bytes of a restore, boots, and is captured back unchanged."""

from __future__ import annotations

import json
from pathlib import Path

from lab import Context, expect, expect_whole, full_only, note, run, sha256, time_limit
from test_systems import System

# The formats, with QEMU's driver and the controller that the disk boots on.
FORMATS = {
    "qcow2": ("qcow2", "virtio"),
    "vmdk": ("vmdk", "scsi"),
    "vhdx": ("vhdx", "sata"),
    "vhd": ("vpc", "sata"),
    "vdi": ("vdi", "nvme"),
    "raw": ("raw", "virtio"),
}

# Its initramfs has the driver of AHCI, and of no other controller.
AHCI = System("ahci-only", "bios", 3072, smaller=None, larger=4096)


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


@full_only
@time_limit(3600)
def test_export_for_another_controller(ctx: Context) -> None:
    """A Debian whose initramfs has only AHCI's driver, exported `--for kvm`: the appliance rebuilds it inside the new
    file, the image stays as it is, and the disk starts from virtio. As captured, it does not have the driver.
    """
    ctx.medium("vmlinuz")
    image = AHCI.image(ctx)
    before = sha256(image)
    media = ("--media", ctx.media)
    foreseen = json.loads(ctx.reforge(
        "export", image, ctx.folder / "a.qcow2", "--for", "kvm", "--dry-run", "--json", *media, codes=(0,), timeout=1200,
    ))  # fmt: skip
    found = {finding["code"]: finding for finding in foreseen["findings"]}
    expect("driver-missing" in found and "virtio_blk" in found["driver-missing"]["sentence"], f"{foreseen}")
    expect("steps" in found["driver-missing"]["fix"] and foreseen["dryRun"], f"{foreseen}")
    expect(not (ctx.folder / "a.qcow2").exists(), "a dry run made a file")
    ctx.reforge("export", image, ctx.folder / "b.qcow2", "--for", "vmware", *media, codes=(64,))
    ctx.reforge("export", image, ctx.folder / "b", "--for", "kvm", "--format", "vdi", *media, codes=(64,))

    out = ctx.folder / "adapted.qcow2"
    report = json.loads(ctx.reforge("export", image, out, "--for", "kvm", "--json", *media, timeout=3000))
    expect(any("rebuilt /boot/initrd.img" in change for change in report["changed"]), f"{report}")
    expect("driver-missing" not in [finding["code"] for finding in report["findings"]], f"{report}")
    expect(sha256(image) == before, "the image was changed")
    run("qemu-img", "check", "-f", "qcow2", out)
    note(f"adapted in {report['seconds']:.0f} s: {'; '.join(report['changed'])}")
    for bus in ("virtio", "scsi"):
        proof = ctx.boot_and_prove(f"adapted-{bus}", out, bus, "bios", driver="qcow2", timeout=600)
        expect_whole(proof, firmware="bios", bus=bus)
    # The second export of the result finds nothing to do.
    again = json.loads(ctx.reforge("export", out, ctx.folder / "again.qcow2", "--for", "kvm", "--json", *media, timeout=1800))
    expect(again["changed"] == [], f"the second run changed something: {again}")


@full_only
@time_limit(1800)
def test_export_for_each_hypervisor(ctx: Context) -> None:
    """Each format that an adapted disk can have is written by the appliance, and whole."""
    ctx.medium("vmlinuz")
    image = AHCI.image(ctx)
    for hypervisor, extension, driver in (("vmware", "vmdk", "vmdk"), ("hyperv", "vhdx", "vhdx"), ("virtualbox", "vdi", "vdi")):
        out = ctx.folder / f"for.{extension}"
        words = ["export", image, out, "--for", hypervisor, "--json", "--media", ctx.media]
        report = json.loads(ctx.reforge(*words, timeout=1500, codes=(0, 70)))
        expect(report["findings"] is not None and report["machine"].startswith(("VMware", "Hyper-V", "VirtualBox")), f"{report}")
        expect("not-adapted" not in [finding["code"] for finding in report["findings"]], f"{report}")
        run("qemu-img", "convert", "-f", driver, "-O", "raw", out, ctx.folder / "as.raw")
        table = run("sfdisk", "--verify", ctx.folder / "as.raw")
        expect("No errors" in table, table)
        note(f"{hypervisor}: {report['seconds']:.0f} s, {report['changed']}")
        out.unlink()
        (ctx.folder / "as.raw").unlink()


@time_limit(900)
def test_export_without_a_medium(ctx: Context) -> None:
    """Where there is nothing to boot, the disk is as captured, and the finding says so before the end (70)."""
    out = ctx.folder / "plain.vdi"
    said = ctx.reforge(
        "export", ctx.debian_image(), out, "--for", "virtualbox", "--json", "--media", ctx.folder / "none", codes=(70,)
    )
    report = json.loads(said)
    expect([finding["code"] for finding in report["findings"]] == ["not-adapted"], f"{report}")
    run("qemu-img", "compare", "-f", "raw", "-F", "vdi", restored(ctx), out)
