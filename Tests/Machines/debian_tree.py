"""The root directory of the Debian that the machine tests capture and restore: built once, cached, then only read.

Two stages. The base (debootstrap, about 80 s) is in a directory named after the hash of its inputs. The configuration
on top of it (a few seconds, a stamp beside the directory) can be repeated in place: each of its steps overwrites.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent

SUITE = "bookworm"
DEFAULT_MIRROR = "http://deb.debian.org/debian"

# Packages beyond debootstrap's minbase. The stock kernel, because the smaller cloud kernel has no AHCI.
PACKAGES = [
    "linux-image-amd64",
    "systemd-sysv",
    "udev",
    "initramfs-tools",
    "zstd",  # initramfs-tools' preferred compressor
    "grub-pc-bin",  # with grub2-common: the system can run grub-install for both firmwares
    "grub-efi-amd64-bin",
    "grub2-common",
    "efibootmgr",
    "e2fsprogs",
    "dosfstools",  # fsck of the ESP at boot
    "fdisk",
    "attr",  # the proof reads extended attributes
]

# Packages for layouts with more than ext4 partitions. A separate tree, because they make every boot slower.
MORE_PACKAGES = [*PACKAGES, "btrfs-progs", "lvm2", "cryptsetup-initramfs"]

# Kernel modules that no test machine can use, and documentation: 450 MB less to capture and restore each time.
# dpkg's configuration lists them too, so upgrades in the system leave them out.
EXCLUDED = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/staging/*",
    "/lib/modules/*/kernel/drivers/iio/*",
    "/lib/modules/*/kernel/drivers/comedi/*",
]

# Units started by timers or at boot, useless on a machine that runs for a minute.
MASKED_UNITS = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",  # five more gettys where dbus is not installed
]

HOST_NAME = "proof"
MACHINE_ID = "5eed5eed5eed5eed5eed5eed5eed5eed"
ROOT_UUID = "5eed0003-0000-4000-8000-000000000003"
SWAP_UUID = "5eed0004-0000-4000-8000-000000000004"
ESP_SERIAL = "5EED0002"  # FAT volume serial number; its UUID is written 5EED-0002
ESP_UUID = "5EED-0002"

PROOF_SEED = 20240229


def log(text: str) -> None:
    """Prints progress on stderr: stdout belongs to the caller."""
    print(f"    {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a command; on failure, the error holds the end of its output."""
    words = [str(word) for word in command]
    done = subprocess.run(  # type: ignore[call-overload]
        words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {' '.join(words)[:300]}\n{tail}")
    return done


def scratch_directory() -> Path:
    """The cache outside the checkout that Scripts/lib.sh names too."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reforge"
    path = Path(os.environ.get("REFORGE_SCRATCH") or default)
    path.mkdir(parents=True, exist_ok=True)
    return path


def host_mirror() -> str:
    """The Debian mirror that this host's apt uses for the suite, or the default."""
    if override := os.environ.get("REFORGE_DEBIAN_MIRROR"):
        return override
    apt = Path("/etc/apt")
    one_line = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    candidates: list[tuple[str, list[str]]] = []
    for path in one_line:
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
            words = [word for word in line.split() if not word.startswith(("[", "signed-by=", "arch=")) and word != "]"]
            if len(words) >= 3 and words[0] == "deb":
                candidates.append((words[1], [words[2]]))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for paragraph in path.read_text(errors="replace").split("\n\n"):
            fields = {
                key.strip().lower(): value.split()
                for key, separator, value in (
                    line.partition(":") for line in paragraph.splitlines() if not line.startswith("#")
                )
                if separator
            }
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[:1] != ["no"]:
                candidates += [(uri, fields.get("suites", [])) for uri in fields.get("uris", [])]
    for uri, suites in candidates:
        url = urllib.parse.urlparse(uri)
        if SUITE in suites and url.scheme in ("http", "https") and url.path.rstrip("/").endswith("/debian"):
            return uri.rstrip("/")
    return DEFAULT_MIRROR


def proxy_environment() -> dict[str, str]:
    """Environment with apt's proxy for debootstrap, which downloads with wget and ignores apt's configuration."""
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        dump = subprocess.run(
            ["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"], capture_output=True, text=True, check=False
        ).stdout
        proxy = dump.partition("=")[2].strip().strip("'")
        if proxy and proxy != "DIRECT":
            environment.setdefault(f"{scheme}_proxy", proxy)
    return environment


@contextlib.contextmanager
def locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Holds a lock file while the cached tree is read (shared) or changed."""
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def base_key(packages: list[str]) -> str:
    """Hash of the base's inputs, part of the name of its directory."""
    return hashlib.sha256("\n".join([SUITE, *packages, *EXCLUDED]).encode()).hexdigest()[:12]


def configuration_key() -> str:
    """Hash of this file and everything under guest/."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted((HERE / "guest").iterdir())]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def debian_tree(packages: list[str] = PACKAGES) -> Iterator[Path]:
    """The finished root directory, built if missing; a shared lock protects it while the block runs."""
    if os.geteuid() != 0:
        raise RuntimeError("making a Debian tree needs root (debootstrap, chroot)")
    tree = scratch_directory() / f"debian-tree-{base_key(packages)}"
    stamp = tree.with_suffix(".configured")
    lock = tree.with_suffix(".lock")
    with locked(lock, shared=False):
        if not tree.is_dir():
            build_base(tree, packages)
        if not stamp.is_file() or stamp.read_text() != configuration_key():
            stamp.unlink(missing_ok=True)
            configure(tree)
            stamp.write_text(configuration_key())
    with locked(lock, shared=True):
        yield tree


def build_base(tree: Path, packages: list[str]) -> None:
    """Runs debootstrap from the host's mirror into a directory that gets its final name only when complete."""
    started = time.monotonic()
    mirror = host_mirror()
    log(f"debootstrap {SUITE} from {mirror}")
    partial = tree.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # Its own mount namespace: debootstrap's mounts disappear with it, even when it is killed.
    run(
        "unshare", "--mount", "--propagation", "private",
        "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, partial, mirror,
        env=proxy_environment(), timeout=900,
    )  # fmt: skip
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for path in (partial / cache).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (partial / "etc/dpkg/dpkg.cfg.d/90-proof-excludes").write_text(
        "".join(f"path-exclude={pattern}\n" for pattern in EXCLUDED)
    )
    for pattern in EXCLUDED:
        for path in partial.glob(pattern.lstrip("/")):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    partial.rename(tree)
    log(f"debootstrap took {time.monotonic() - started:.0f} s")


def in_chroot(root: Path, script: str, prepare: str = "", finish: str = "") -> str:
    """Runs a shell script in a chroot with /proc, /sys and a small /dev, in its own mount namespace.

    `prepare` runs before and `finish` after the script, outside the chroot, with $root set.
    """
    outer = f"""
        set -eu
        root=$1
        {prepare}
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        mknod -m 666 "$root/dev/null" c 1 3
        mknod -m 666 "$root/dev/zero" c 1 5
        mknod -m 666 "$root/dev/random" c 1 8
        mknod -m 666 "$root/dev/urandom" c 1 9
        ln -s /proc/self/fd "$root/dev/fd"
        if [ -e /dev/vda ] && [ -n "${{loop:-}}" ]; then
            cp -a /dev/vda "$root/dev/vda"
            mkdir -p "$root/dev/disk/by-uuid"
            ln -s ../../vda "$root/dev/disk/by-uuid/{ROOT_UUID}"
        fi
        chroot "$root" /bin/sh -euc "$2"
        {finish}
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    return run(
        "unshare", "--mount", "--propagation", "private", "bash", "-c", outer, "chroot", root, script,
        env=environment, timeout=300,
    ).stdout  # fmt: skip


def configure(tree: Path) -> None:
    """Configures the base as a system: names, fstab, loader files, units, initramfs, the proof and its files."""
    started = time.monotonic()

    def write(path: str, text: str) -> None:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)

    write("etc/hostname", f"{HOST_NAME}\n")
    write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {HOST_NAME}\n::1 localhost ip6-localhost ip6-loopback\n")
    write("etc/machine-id", f"{MACHINE_ID}\n")
    write("etc/resolv.conf", "")
    write("etc/fstab", (
        "# <file system> <mount point> <type> <options> <dump> <pass>\n"
        f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n"
        f"UUID={ESP_UUID} /boot/efi vfat umask=0077 0 1\n"
        f"UUID={SWAP_UUID} none swap sw 0 0\n"
    ))  # fmt: skip
    # On a busy machine the guest takes minutes for what systemd gives 90 s; the tests' own limits end one that hangs.
    write("etc/systemd/system.conf.d/slow.conf", (
        "[Manager]\nDefaultDeviceTimeoutSec=30min\nDefaultTimeoutStartSec=30min\n"
    ))  # fmt: skip
    # As Debian's installer writes it. An initramfs that does not find the device waits for 30 s and prints a warning.
    write("etc/initramfs-tools/conf.d/resume", f"RESUME=UUID={SWAP_UUID}\n")
    write("etc/default/grub", (
        'GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR="Debian"\n'
        'GRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200n8"\n'
        'GRUB_TERMINAL="console serial"\nGRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n'
    ))  # fmt: skip
    (tree / "boot/efi").mkdir(exist_ok=True)
    for name in ("proof", "proof-metadata", "proof-xattrs"):
        shutil.copy(HERE / "guest" / name, tree / "usr/local/sbin" / name)
    shutil.copy(HERE / "guest/proof.service", tree / "etc/systemd/system/proof.service")
    # GRUB's modules where grub-install puts them, for both firmwares.
    for target in ("i386-pc", "x86_64-efi"):
        folder = tree / "boot/grub" / target
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("*.mod", "*.lst"):
            for path in (tree / "usr/lib/grub" / target).glob(pattern):
                shutil.copy2(path, folder / path.name)
    run("chroot", tree, "grub-editenv", "/boot/grub/grubenv", "create")

    log("units, modules and initramfs")
    in_chroot(tree, f"""
        systemctl --quiet mask {' '.join(MASKED_UNITS)}
        systemctl --quiet enable proof.service
        echo root:proof | chpasswd
        depmod "$(ls /lib/modules)"
        update-initramfs -u
    """)
    shutil.rmtree(tree / "srv/proof", ignore_errors=True)
    shutil.rmtree(tree / "home/proof", ignore_errors=True)
    make_grub_configuration(tree)

    log("files to prove")
    make_proof_files(tree / "srv/proof")
    # A part of them in /home, which is a separate filesystem in some layouts.
    shutil.copytree(tree / "srv/proof/tree", tree / "home/proof", symlinks=True)
    write_manifests(tree)
    log(f"configuration took {time.monotonic() - started:.0f} s")


def make_grub_configuration(tree: Path) -> None:
    """Has the system's own update-grub write /boot/grub/grub.cfg.

    grub-probe needs a real filesystem under `/`, with the UUID that the disk will have: a temporary copy of the tree.
    """
    log("update-grub")
    work = tree.with_suffix(".grub")
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    try:
        image = work / "root.ext4"
        run("mke2fs", "-q", "-t", "ext4", "-U", ROOT_UUID, "-d", tree, image, "2G")
        # Named other than loop*, because grub.d/10_linux writes no entries for that name. The tmpfs hides /dev in this
        # namespace only; the loop device is detached with the mount.
        mount = f"""
            loop=$(losetup --find --show "{image}")
            trap 'losetup --detach "$loop" 2>/dev/null || true' EXIT
            major=0x$(stat -c %t "$loop") minor=0x$(stat -c %T "$loop")
            mount -t tmpfs tmpfs /dev
            mknod /dev/vda b $((major)) $((minor))
            mknod "$loop" b $((major)) $((minor))
            mount /dev/vda "$root"
        """
        result = tree / "boot/grub/grub.cfg"
        in_chroot(work / "root", "update-grub", prepare=mount, finish=f'cp "$root/boot/grub/grub.cfg" "{result}"')
        text = result.read_text()
        if f"root=UUID={ROOT_UUID}" not in text or "/boot/vmlinuz" not in text:
            raise RuntimeError("update-grub wrote a grub.cfg without the root filesystem's UUID")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make_proof_files(top: Path) -> None:
    """Writes some 300 MiB of files of every shape, identical on every run."""
    source = random.Random(PROOF_SEED)
    top.mkdir(parents=True)

    # A big file of random, text-like and zero ranges.
    with open(top / "big", "wb") as big:
        for _ in range(96):
            kind = source.choice(("random", "text", "zero"))
            if kind == "random":
                big.write(source.randbytes(1 << 20))
            elif kind == "text":
                big.write((source.randbytes(1 << 10).hex().encode() * 512)[: 1 << 20])
            else:
                big.write(bytes(1 << 20))
    # Sparse files: short data ranges between holes, with a hole at the end.
    for name, length, islands in (("sparse", 64 << 20, 12), ("sparse-tail", 24 << 20, 3)):
        with open(top / name, "wb") as sparse:
            for _ in range(islands):
                sparse.seek(source.randrange(0, length // 2) & ~0xFFF)
                sparse.write(source.randbytes(source.randrange(1, 200_000)))
            sparse.truncate(length)
    # Many small files in deep and wide directories.
    folders = [top / "tree"]
    folders[0].mkdir()
    for number in range(200):
        folder = source.choice(folders[-40:]) / f"directory-{number:03}"
        folder.mkdir()
        folders.append(folder)
    files: list[Path] = []
    for number in range(4000):
        path = source.choice(folders) / f"file-{number:04}"
        length = source.choice((0, 1, 100, 4096, 4097, source.randrange(20_000), source.randrange(60_000)))
        path.write_bytes(source.randbytes(length))
        files.append(path)
    for number in range(40):
        path = top / f"medium-{number:02}"
        path.write_bytes(source.randbytes(source.randrange(1 << 20, 4 << 20)))
        files.append(path)
    # A directory large enough for an index tree.
    wide = top / "wide"
    wide.mkdir()
    for number in range(1500):
        (wide / f"a-file-with-a-rather-long-name-to-fill-directory-blocks-{number:05}").write_bytes(b"%d\n" % number)
    # Unusual names, and links.
    (top / ("n" * 255)).write_bytes(b"the longest name\n")
    (top / "a name with spaces, é, 日本 and 'quotes'").write_bytes(b"unusual\n")
    for number, path in enumerate(source.sample(files, 60)):
        (top / f"hard-link-{number:02}").hardlink_to(path)
    (top / "symbolic-link").symlink_to("tree/directory-000")
    (top / "symbolic-link-long").symlink_to("x" * 200)
    (top / "symbolic-link-dangling").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    # Extended attributes: in the inode, and too large for it.
    for number, path in enumerate(source.sample(files, 200)):
        os.setxattr(path, "user.proof", source.randbytes(16).hex().encode())
        if number % 10 == 0:
            os.setxattr(path, "user.large", source.randbytes(1500))
    for path in source.sample(files, 20):
        os.chown(path, 1000 + source.randrange(70_000), source.randrange(70_000))
        path.chmod(source.choice((0o600, 0o644, 0o755, 0o4755, 0o1777)))
    # Whole seconds, because mke2fs -d keeps no fractions. Directories last: changes of their files alter them.
    for path in sorted(top.rglob("*"), key=lambda path: -len(path.parts)):
        moment = 1_500_000_000 + source.randrange(200_000_000)
        os.utime(path, (moment, moment), follow_symlinks=False)
    os.utime(top, (1_700_000_000, 1_700_000_000))


def write_manifests(tree: Path) -> None:
    """Writes the manifests for the proof, with the commands that run on the restored system."""
    in_chroot(tree, """
        cd /
        find srv/proof home/proof usr/bin usr/sbin boot/vmlinuz-* -xdev -type f -print0 | LC_ALL=C sort -z |
            xargs -0 sha256sum >/root/proof.sha256
        /usr/local/sbin/proof-metadata >/root/proof.metadata
        /usr/local/sbin/proof-xattrs >/root/proof.xattrs
    """)
    for name in ("sha256", "metadata", "xattrs"):
        if not (tree / f"root/proof.{name}").stat().st_size:
            raise RuntimeError(f"the manifest proof.{name} came out empty")
