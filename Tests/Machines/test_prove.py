"""`reforge prove`: whole systems are proven, and each bad end is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from lab import MIB, Context, copy_sparse, expect, full_only, note, run, time_limit
from machine import PATIENCE
from test_lab import ROOT_OFFSET

# The lab's Debian takes about a minute; a busy host is several times slower.
TIMEOUT = PATIENCE * 300


def quiet_disk(ctx: Context, name: str = "quiet", fstab: str = "") -> Path:
    """The lab's Debian without the service that reports and powers off; with more lines in its fstab."""
    disk = copy_sparse(ctx.debian_disk(), ctx.folder / f"{name}.raw")
    root = f"{disk}?offset={ROOT_OFFSET}"
    run("debugfs", "-w", "-R", "rm /etc/systemd/system/multi-user.target.wants/proof.service", root)
    if fstab:
        text = run("debugfs", "-R", "cat /etc/fstab", root)
        lines = ctx.folder / "fstab"
        lines.write_text(text + fstab + "\n")
        run("debugfs", "-w", "-R", "rm /etc/fstab", root)
        run("debugfs", "-w", "-R", f"write {lines} /etc/fstab", root)
        lines.unlink()
    return disk


def captured(ctx: Context, disk: Path) -> Path:
    """The image of a disk, which is deleted."""
    image = disk.with_suffix(".img.zst")
    ctx.reforge("capture", disk, image, "--overwrite")
    disk.unlink()
    return image


def proven(ctx: Context, image: Path | str, *options: str, code: int = 0) -> dict[str, object]:
    """Runs the proof; gives its report, which is also in the folder of --output with a picture."""
    out = ctx.folder / "proof"
    said = ctx.reforge(
        "prove", image, "--json", "--no-kvm", "--memory", "768M", "--timeout", str(TIMEOUT), "--output", out, *options,
        codes=(code,), timeout=TIMEOUT + 120, TMPDIR=str(ctx.folder),
    )  # fmt: skip
    report = json.loads(said)
    kept = json.loads((out / "verdict.json").read_text())
    expect(kept["proof"]["verdict"] == report["verdict"] and kept["signature"], "the kept verdict is the printed one")
    expect((out / "screen.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), "the screen is a PNG file")
    note(f"{report['verdict']} {report.get('sign') or report.get('reason')}: {report['seconds']:.0f} s")
    return report


def expect_nothing_left(ctx: Context) -> None:
    """No machine with its overlay in the folder of the test is left, and no folder of one."""
    left = [line for line in run("ps", "-eo", "args").splitlines() if "qemu-system" in line and str(ctx.folder) in line]
    expect(not left, f"a machine is left: {left}")
    folders = list(ctx.folder.glob("reforge-*"))
    expect(not folders, f"a folder is left: {folders}")


@time_limit(TIMEOUT + 300)
def test_prove_bios(ctx: Context) -> None:
    """A good Debian is proven by its login on the serial line."""
    report = proven(ctx, captured(ctx, quiet_disk(ctx)))
    expect(report["verdict"] == "proven" and report["sign"] == "serial-login", f"{report}")
    expect(report["firmware"] == "bios", f"the firmware: {report['firmware']}")
    expect("login:" in (ctx.folder / "proof/serial.log").read_text(errors="replace"), "the serial log has the login")
    expect_nothing_left(ctx)


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_uefi(ctx: Context) -> None:
    """By UEFI on NVMe: its ESP has no loader at the usual place, so the machine needs a boot entry."""
    report = proven(ctx, captured(ctx, quiet_disk(ctx)), "--firmware", "uefi", "--disk", "nvme")
    expect(report["verdict"] == "proven" and report["firmware"] == "uefi", f"{report}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_lost_root(ctx: Context) -> None:
    """A root filesystem with another id leaves the initramfs at its shell."""
    disk = quiet_disk(ctx)
    run("e2fsck", "-f", "-p", f"{disk}?offset={ROOT_OFFSET}", codes=(0, 1))
    run("tune2fs", "-U", "random", f"{disk}?offset={ROOT_OFFSET}")
    report = proven(ctx, captured(ctx, disk), code=70)
    expect(report["verdict"] == "not-proven", f"{report}")
    expect(report["reason"] in ("initramfs-shell", "grub-rescue", "grub-prompt"), f"{report}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_missing_driver(ctx: Context) -> None:
    """An initramfs without the driver of the disk's controller ends at its shell."""
    disk = quiet_disk(ctx)
    root, tree, packed = f"{disk}?offset={ROOT_OFFSET}", ctx.folder / "initrd", ctx.folder / "initrd.img"
    (path,) = {word for word in run("debugfs", "-R", "ls /boot", root).split() if word.startswith("initrd.img")}
    run("debugfs", "-R", f"dump /boot/{path} {packed}", root)
    tree.mkdir()
    run("sh", "-c", f"cd {tree} && zstd -dc {packed} | cpio -i --quiet")
    found = list(tree.glob("usr/lib/modules/*/kernel/drivers/nvme"))
    expect(len(found) == 1, f"the driver: {found}")
    shutil.rmtree(found[0])
    run("sh", "-c", f"cd {tree} && find . | cpio -o -H newc --quiet | zstd -q -f -o {packed}")
    run("debugfs", "-w", "-R", f"rm /boot/{path}", root)
    run("debugfs", "-w", "-R", f"write {packed} /boot/{path}", root)
    shutil.rmtree(tree)
    report = proven(ctx, captured(ctx, disk), "--disk", "nvme", code=70)
    expect(report["verdict"] == "not-proven" and report["reason"] == "initramfs-shell", f"{report}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_emergency(ctx: Context) -> None:
    """A required filesystem that does not exist ends in emergency mode."""
    disk = quiet_disk(ctx, fstab="UUID=dead0000-0000-4000-8000-000000000000 /srv/none ext4 x-systemd.device-timeout=5s 0 2")
    report = proven(ctx, captured(ctx, disk), code=70)
    expect(report["verdict"] == "not-proven" and report["reason"] == "emergency-mode", f"{report}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_expected_text(ctx: Context) -> None:
    """The expected text is the sign; one that only the command line has is none."""
    image = captured(ctx, quiet_disk(ctx))
    report = proven(ctx, image, "--expect", "Debian GNU/Linux 12 proof")
    expect(report["verdict"] == "proven" and report["sign"] == "expected-text", f"{report}")
    report = proven(ctx, image, "--expect", "console=ttyS0,115200n8", "--timeout", "240", code=70)
    expect(report["verdict"] == "not-proven" and report["reason"] == "timeout", f"{report}")


HANGING = """[Unit]
Description=Never ends
DefaultDependencies=no
Before=sysinit.target
After=systemd-journald.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sleep infinity
"""


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_text_before_a_hang(ctx: Context) -> None:
    """A system that shows the expected text, and then waits for a job that never ends."""
    disk = quiet_disk(ctx)
    root, unit = f"{disk}?offset={ROOT_OFFSET}", ctx.folder / "hang.service"
    unit.write_text(HANGING)
    place = "/etc/systemd/system"
    run("debugfs", "-w", "-R", f"write {unit} {place}/hang.service", root)
    run("debugfs", "-w", "-R", f"symlink {place}/sysinit.target.wants/hang.service {place}/hang.service", root)
    report = proven(ctx, captured(ctx, disk), "--expect", "Journal Service", "--timeout", "240", code=70)
    expect(report["verdict"] == "not-proven" and report["reason"] == "timeout", f"{report}")
    expect("/start running (" in (ctx.folder / "proof/serial.log").read_text(errors="replace"), "it waits for the job")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_nothing_to_boot(ctx: Context) -> None:
    """A disk without boot code."""
    disk = ctx.blank_disk("blank.raw", 64 * MIB)
    report = proven(ctx, disk, code=70)
    expect(report["reason"] == "no-bootable-device", f"{report}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_stored(ctx: Context) -> None:
    """The verdict is stored with its snapshot and beside an image; a place that takes nothing does not hide it."""
    disk = ctx.blank_disk("blank.raw", 64 * MIB)
    repository, image = ctx.folder / "repo", ctx.folder / "blank.img.zst"
    ctx.reforge("init-repo", repository)
    ctx.reforge("capture", disk, f"{repository}@", "--host", "web1")
    ctx.reforge("capture", disk, image)
    report = proven(ctx, f"{repository}@latest", code=70)
    files = {Path(file).name for file in report["stored"]["files"]}
    # Nothing wrote to the serial line.
    expect(report["stored"]["proof"] == str(repository) and files == {"verdict.json", "screen.png"}, f"{report}")
    listed = json.loads(ctx.reforge("snapshots", repository, "--json"))["snapshots"][0]["proofs"]
    expect([one["verdict"] for one in listed] == ["not-proven"], f"{listed}")
    expect(listed[0]["sign"].startswith("no-bootable-device:") and listed[0]["screenshot"], f"{listed}")
    report = proven(ctx, image, code=70)
    expect(report["stored"]["proof"] == f"{image}.proof.json", f"{report}")
    expect((ctx.folder / "blank.img.zst.proof.png").exists(), "the picture is beside the image")
    for suffix in ("json", "png", "log"):
        Path(f"{image}.proof.{suffix}").unlink(missing_ok=True)
    Path(f"{image}.proof.json").mkdir()
    report = proven(ctx, image, code=70)
    expect("proof" not in report["stored"] and report["stored"]["problems"], f"{report}")


@time_limit(300)
def test_prove_by_itself(ctx: Context) -> None:
    """Without --no-kvm: where KVM does not work, the processor is emulated."""
    disk = ctx.blank_disk("blank.raw", 64 * MIB)
    said = ctx.reforge("prove", disk, "--json", "--memory", "256M", "--timeout", "120", codes=(70,), timeout=280)
    report = json.loads(said)
    expect(report["reason"] == "no-bootable-device", f"{report}")
    note(f"with {report['accelerator']}")


@full_only
@time_limit(TIMEOUT + 300)
def test_prove_damaged(ctx: Context) -> None:
    """Damage that the system meets is exit code 65, whatever it shows."""
    image = captured(ctx, quiet_disk(ctx))
    with open(image, "r+b") as handle:
        for place in range(8 * MIB, image.stat().st_size - 8 * MIB, 4 * MIB):
            handle.seek(place)
            handle.write(b"\xa5" * 4096)
    said = ctx.reforge("prove", image, "--json", "--no-kvm", "--memory", "768M", "--timeout", "600", codes=(65,), timeout=900)
    expect(json.loads(said)["exitCode"] == 65, said)


@full_only
@time_limit(300)
def test_prove_interrupted(ctx: Context) -> None:
    """Ctrl-C ends the machine, and so does SIGKILL of reforge."""
    disk = ctx.blank_disk("blank.raw", 64 * MIB)
    for number, code in ((signal.SIGINT, 75), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(
            [str(ctx.binary), "prove", str(disk), "--no-kvm", "--memory", "256M", "--expect", "never"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, TMPDIR=str(ctx.folder)),
        )  # fmt: skip
        machine = wait_for_machine(process.pid)
        # The overlay loses its name once QEMU has opened it.
        deadline = time.monotonic() + 60
        while list(ctx.folder.glob("**/overlay.qcow2")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        expect(process.wait(timeout=60) == code, f"it ended with {process.returncode}, not {code}")
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{machine}") and time.monotonic() < deadline:
            time.sleep(0.2)
        expect(not os.path.exists(f"/proc/{machine}"), f"the machine outlives {signal.Signals(number).name}")
        expect(not list(ctx.folder.glob("**/overlay.qcow2")), "no overlay is left")


def wait_for_machine(process: int, seconds: float = 60) -> int:
    """The process id of the QEMU below a process, once it runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        below = {str(process)}
        for line in run("ps", "-eo", "pid,ppid,comm", "--sort", "pid").splitlines()[1:]:
            pid, parent, name = line.split(None, 2)
            if parent in below:
                below.add(pid)
                if name.startswith("qemu-system"):
                    return int(pid)
        time.sleep(0.2)
    raise AssertionError("no machine was started")
