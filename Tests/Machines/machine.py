#!/usr/bin/env python3
"""Machines for tests: QEMU by emulation, with a serial console for input and output, and time limits on every wait.

As a library:

    with Machine("debian", logs, firmware="uefi", disks=[Disk(path, bus="nvme", serial="TARGET")]) as machine:
        machine.wait_for(r"login:", timeout=120)

As a program, to inspect a disk by hand (the console is copied to stdout, stdin to the machine):

    machine.py --firmware bios --disk debian.raw,bus=virtio --snapshot --time-limit 300
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A busy host is several times slower: factor between the limit written at a test and the one applied.
PATIENCE = 3

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# With System Management Mode, which protects the variables, and with Microsoft's keys.
SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
SECURE_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")

# Colours and cursor movements on the console (mostly from GRUB and OVMF), removed before patterns are matched.
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][0-9A-B]|[=>cM78])")


class MachineError(Exception):
    """A machine did not reach the expected state. The message ends with the console's last lines."""


class EmulatorFault(MachineError):
    """QEMU's processor ran an instruction that the guest's kernel had replaced already.

    Linux changes its code by a breakpoint that stays until the new instruction is complete (text_poke). With a thread
    for each processor, QEMU 7.2 now and then still runs the breakpoint afterwards, and the kernel dies of it in its
    first seconds: seen once in some hundred starts, on a busy machine.
    """


@dataclass(frozen=True)
class Disk:
    """A disk file and its controller."""

    path: Path
    bus: str = "virtio"  # virtio, nvme, sata, usb, scsi, sd (a card: its length is a power of two)
    serial: str = ""
    snapshot: bool = False  # writes are dropped
    sector_size: int = 512
    read_only: bool = False
    bad_sectors: tuple[int, ...] = ()  # numbers of 512-byte sectors whose reads fail with EIO
    driver: str = "raw"  # QEMU's name of the file's format


class Machine:
    """One run of one virtual machine, from power-on to power-off, as a context manager.

    A reboot ends the run too, unless `reboots` is set. `nvram` names the file of UEFI variables to use and keep;
    without it, a blank copy is made and deleted. The machine is killed after `time_limit` seconds in any case.
    """

    def __init__(
        self,
        name: str,
        logs: Path,
        *,
        firmware: str = "bios",
        disks: Sequence[Disk] = (),
        cdrom: Path | None = None,
        kernel: Path | None = None,
        initrd: Path | None = None,
        append: str = "",
        memory: int = 512,
        network: bool = False,
        nvram: Path | None = None,
        reboots: bool = False,
        time_limit: float = 600,
        boot_from: str | None = None,
        cpu: str = "max",
        extra: Sequence[str] = (),
    ) -> None:
        """`boot_from`: `cdrom` or the serial of the disk that the firmware tries first; None: the firmware's order.

        `firmware` is bios, uefi, or secure: UEFI with Secure Boot on and Microsoft's keys.
        """
        if firmware not in ("bios", "uefi", "secure"):
            raise ValueError(f"firmware is bios, uefi or secure, not {firmware!r}")
        self.name = name
        self.firmware = firmware
        self.log_path = logs / f"{name}.console.log"
        self.error_path = logs / f"{name}.qemu.log"
        logs.mkdir(parents=True, exist_ok=True)
        self._disks = list(disks)
        self._cdrom, self._kernel, self._initrd, self._append = cdrom, kernel, initrd, append
        self._memory, self._network, self._nvram, self._reboots = memory, network, nvram, reboots
        self._extra = list(extra)  # further options for QEMU; a network among them replaces `network`
        self._time_limit, self._boot_from, self._cpu = PATIENCE * time_limit, boot_from, cpu
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._raw = bytearray()
        self._position = 0  # where the next wait_for starts in the console's text
        self._changed = threading.Condition()
        self._ended = False
        self._expired = False
        self._echo = False

    # MARK: power

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Powers the machine on."""
        self._temporary = tempfile.TemporaryDirectory(prefix=f"machine-{self.name}.")
        try:
            command = self._command(Path(self._temporary.name))
            with open(self.error_path, "wb") as errors:
                errors.write((" ".join(command) + "\n").encode())
                errors.flush()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    preexec_fn=_die_with_parent,
                    env=dict(os.environ, TMPDIR=str(self.log_path.parent)),  # where snapshots of disks go
                )
        except BaseException:
            self._temporary.cleanup()
            raise
        self.started = time.monotonic()
        self._reader = threading.Thread(target=self._read, name=f"console of {self.name}", daemon=True)
        self._reader.start()
        self._watchdog = threading.Timer(self._time_limit, self._expire)
        self._watchdog.daemon = True
        self._watchdog.start()

    def kill(self) -> None:
        """Cuts the power."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=30)

    def close(self) -> None:
        """Kills the machine if it runs and releases everything; may be called twice."""
        try:
            self.kill()
        finally:
            if self._process is not None:
                self._watchdog.cancel()
                self._reader.join(timeout=10)
                for stream in (self._process.stdin, self._process.stdout):
                    if stream is not None:
                        try:
                            stream.close()
                        except OSError:
                            pass
                self._process = None
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None

    # MARK: the console

    def text(self) -> str:
        """The console's output, without escape sequences and carriage returns."""
        with self._changed:
            raw = bytes(self._raw)
        return _plain(raw)

    def tail(self, lines: int = 40) -> str:
        """The console's last lines."""
        kept = [line for line in self.text().splitlines() if line.strip()]
        return "\n".join(f"    | {line}" for line in kept[-lines:])

    def wait_for(self, pattern: str, timeout: float, *, unless: str | None = None) -> re.Match[str]:
        """Waits until `pattern` (a multi-line regular expression) is on the console, after the previous match.

        Raises MachineError when `unless` appears first, when the machine stops, or after `timeout` seconds.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        unwanted = re.compile(unless, re.MULTILINE) if unless else None
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        seen_length = -1
        while True:
            with self._changed:
                while len(self._raw) == seen_length and not self._ended:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise self._error(f"did not say /{pattern}/ within {timeout:.0f} s")
                    self._changed.wait(min(remaining, 1.0))
                seen_length, ended, raw = len(self._raw), self._ended, bytes(self._raw)
            text = _plain(raw)
            if match := wanted.search(text, self._position):
                self._position = match.end()
                return match
            if unwanted and (bad := unwanted.search(text, self._position)):
                raise self._error(f"said {bad.group(0).strip()!r} while /{pattern}/ was waited for")
            if ended:
                why = f"its time limit of {self._time_limit:.0f} s passed" if self._expired else "it stopped"
                raise self._error(f"{why} without saying /{pattern}/")
            if time.monotonic() >= deadline:
                raise self._error(f"did not say /{pattern}/ within {timeout:.0f} s")

    def send(self, text: str) -> None:
        """Types on the serial console."""
        if self._process is None or self._process.stdin is None:
            raise MachineError(f"{self.name} is not running")
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._error("stopped while something was typed") from None

    @property
    def running(self) -> bool:
        """Whether the machine is powered on."""
        return self._process is not None and self._process.poll() is None

    def wait_for_exit(self, timeout: float, *, unless: str | None = None) -> float:
        """Waits for power-off (or reboot); gives the seconds since power-on.

        Raises MachineError when `unless` appears on the console after the previous match.
        """
        assert self._process is not None
        unwanted = re.compile(unless, re.MULTILINE) if unless else None
        deadline = time.monotonic() + PATIENCE * timeout
        while (code := self._process.poll()) is None:
            if time.monotonic() >= deadline:
                raise self._error(f"did not power off within {timeout:.0f} s")
            if unwanted and (bad := unwanted.search(self.text(), self._position)):
                raise self._error(f"said {bad.group(0).strip()!r} before it powered off")
            try:
                self._process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass
        self._reader.join(timeout=10)
        if self._expired:
            raise self._error(f"its time limit of {self._time_limit:.0f} s passed")
        if code != 0:
            raise self._error(f"QEMU ended with {code}: {self.error_path.read_text(errors='replace')[-2000:]}")
        return time.monotonic() - self.started

    # MARK: internals

    def _error(self, what: str) -> MachineError:
        kind = EmulatorFault if re.search(r"^\[[ .0-9]*\] (?:Oops: )?int3: ", self.text(), re.MULTILINE) else MachineError
        return kind(f"{self.name}: {what}\n    console ({self.log_path}):\n{self.tail()}")

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with open(self.log_path, "wb", buffering=0) as log:
            while True:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    data = b""
                if not data:
                    break
                log.write(data)
                if self._echo:
                    os.write(1, data)
                with self._changed:
                    self._raw += data
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _expire(self) -> None:
        self._expired = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def _command(self, work: Path) -> list[str]:
        # TCG: it behaves identically on every host, and KVM is not always available.
        command = [
            "qemu-system-x86_64", "-name", self.name, "-machine", "q35", "-accel", "tcg,thread=multi",
            "-cpu", self._cpu, "-smp", "2", "-m", str(self._memory), "-nodefaults", "-vga", "std", "-display", "none",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-monitor", "none",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip
        if not self._reboots:
            command.append("-no-reboot")
        if self.firmware != "bios":
            secure = self.firmware == "secure"
            nvram = self._nvram or work / "nvram.fd"
            if not nvram.exists():
                shutil.copyfile(SECURE_VARS if secure else OVMF_VARS, nvram)
            code = SECURE_CODE if secure else OVMF_CODE
            if secure:
                command[command.index("q35")] = "q35,smm=on"
                command += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
                command += ["-global", "ICH9-LPC.disable_s3=1"]
            command += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(code)}"]
            command += ["-drive", f"if=pflash,unit=1,format=raw,file={_escaped(nvram)}"]
        for number, disk in enumerate(self._disks):
            command += self._disk_options(number, disk)
        if any(disk.bus == "usb" for disk in self._disks):
            command += ["-device", "qemu-xhci,id=xhci"]
        if any(disk.bus == "scsi" for disk in self._disks):
            command += ["-device", "virtio-scsi-pci,id=scsi"]
        if any(disk.bus == "sd" for disk in self._disks):
            command += ["-device", "sdhci-pci"]
        # Controllers must precede their devices.
        command = _controllers_first(command)
        if self._cdrom is not None:
            command += ["-drive", f"if=none,id=cd,format=raw,media=cdrom,readonly=on,file={_escaped(self._cdrom)}"]
            command += ["-device", "ide-cd,drive=cd,bus=ide.5" + (",bootindex=0" if self._boot_from == "cdrom" else "")]
        if self._kernel is not None:
            command += ["-kernel", str(self._kernel), "-append", self._append]
            if self._initrd is not None:
                command += ["-initrd", str(self._initrd)]
        command += self._extra
        if "-netdev" in self._extra:
            pass
        elif self._network:
            # No option ROM: no test boots from the network, and the firmware starts faster without it.
            command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
        else:
            command += ["-nic", "none"]
        return command

    def _disk_options(self, number: int, disk: Disk) -> list[str]:
        file = f"file={_escaped(disk.path)}"
        if disk.bad_sectors:
            # Event `none`: the errors exist from the start, and stay.
            file = f"file.driver=blkdebug,file.image.driver=file,file.image.filename={_escaped(disk.path)}"
            for rule, sector in enumerate(disk.bad_sectors):
                place = f",file.inject-error.{rule}"
                file += f"{place}.event=none{place}.iotype=read{place}.errno=5{place}.sector={sector}"
        drive = f"if=none,id=disk{number},format={disk.driver},{file},cache=writeback,discard=unmap"
        drive += ",snapshot=on" if disk.snapshot else ""
        drive += ",readonly=on" if disk.read_only else ""
        device = {
            "virtio": "virtio-blk-pci",
            "nvme": "nvme",
            "sata": f"ide-hd,bus=ide.{number}",  # q35's own AHCI
            "usb": "usb-storage,bus=xhci.0,removable=on",
            "scsi": "scsi-hd,bus=scsi.0",
            "sd": "sd-card",
        }[disk.bus] + f",drive=disk{number}"
        if disk.bus == "sd":
            return ["-drive", drive, "-device", device]  # a card has neither a serial of its own nor a boot index
        if disk.serial or disk.bus == "nvme":
            device += f",serial={disk.serial or f'DISK{number}'}"
        if disk.sector_size != 512:
            device += f",logical_block_size={disk.sector_size},physical_block_size={disk.sector_size}"
        # A BIOS has no boot variables, so bootindex sets its order. UEFI's order is left alone by default, because a
        # bootindex makes OVMF rewrite BootOrder.
        if self._boot_from is not None and disk.serial == self._boot_from:
            device += ",bootindex=0"
        elif self.firmware == "bios":
            device += f",bootindex={number + 1}"
        return ["-drive", drive, "-device", device]


def _controllers_first(command: list[str]) -> list[str]:
    """Moves the controllers of USB, SCSI and SD in front of all drives."""
    controllers: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(command):
        pair = command[index : index + 2]
        if pair[0] == "-device" and pair[1].startswith(("qemu-xhci", "virtio-scsi-pci", "sdhci-pci")):
            controllers += pair
            index += 2
        else:
            rest.append(command[index])
            index += 1
    position = rest.index("-drive") if "-drive" in rest else len(rest)
    return rest[:position] + controllers + rest[position:]


def _escaped(path: Path) -> str:
    """Doubles the commas of a path: QEMU separates options by them."""
    return str(path).replace(",", ",,")


def _plain(raw: bytes) -> str:
    return ESCAPES.sub(b"", raw).replace(b"\r", b"").decode(errors="replace")


def _die_with_parent() -> None:
    """Runs in the child: the machine ends with its test, even when the test is killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# MARK: the program


def parse_disk(text: str) -> Disk:
    """`PATH[,bus=…][,serial=…][,snapshot][,sector-size=…]`."""
    path, *words = text.split(",")
    options: dict[str, object] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key in ("bus", "serial"):
            options[key] = value
        elif key == "sector-size":
            options["sector_size"] = int(value)
        elif key == "snapshot":
            options["snapshot"] = True
        else:
            raise argparse.ArgumentTypeError(f"unknown word {word!r} in {text!r}")
    return Disk(Path(path), **options)  # type: ignore[arg-type]


def main() -> int:
    """Runs one machine with its console on stdin and stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firmware", choices=("bios", "uefi", "secure"), default="bios")
    parser.add_argument("--disk", action="append", type=parse_disk, default=[], metavar="PATH[,bus=nvme,serial=X]")
    parser.add_argument("--snapshot", action="store_true", help="keep no writes to any disk")
    parser.add_argument("--cdrom", type=Path)
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--initrd", type=Path)
    parser.add_argument("--append", default="")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB")
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--nvram", type=Path, help="UEFI variables to use and keep; made blank if missing")
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--boot-from", metavar="SERIAL|cdrom")
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--until", metavar="REGEX", help="pull the plug when the console says this")
    options = parser.parse_args()
    disks = [
        Disk(disk.path, disk.bus, disk.serial, disk.snapshot or options.snapshot, disk.sector_size)
        for disk in options.disk
    ]
    machine = Machine(
        f"machine-{os.getpid()}", options.logs, firmware=options.firmware, disks=disks, cdrom=options.cdrom,
        kernel=options.kernel, initrd=options.initrd, append=options.append, memory=options.memory,
        network=options.network, nvram=options.nvram, time_limit=options.time_limit, boot_from=options.boot_from,
        cpu=options.cpu,
    )  # fmt: skip
    machine._echo = True

    def type_along() -> None:
        while data := os.read(0, 1024):
            machine.send(data.decode(errors="replace"))

    try:
        with machine:
            threading.Thread(target=type_along, daemon=True).start()
            if options.until:
                machine.wait_for(options.until, options.time_limit)
                seconds = time.monotonic() - machine.started
            else:
                seconds = machine.wait_for_exit(options.time_limit)
        print(f"\n{seconds:.1f} s", file=sys.stderr)
        return 0
    except MachineError as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
