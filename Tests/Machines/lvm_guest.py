"""A guest with logical volumes: Debian's kernel and an initramfs of busybox, lvm2, e2fsprogs and the binary under test.

    guest = LVMGuest(cache, binary, script)
    with Machine("lvm", logs, kernel=guest.kernel, initrd=guest.initramfs(folder), append="console=ttyS0") as machine: …

`programs` and `modules` are added to the default ones. `script` runs as /script under `sh -e`; the console's last line
is `GUEST-END` with its status.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import Skip

# In addition to the host's programs (busybox, e2fsprogs, sfdisk): lvm2 and the libraries of it that the host lacks.
PACKAGES = ["lvm2", "dmsetup", "libdevmapper1.02.1", "libdevmapper-event1.02.1", "libaio1", "libreadline8", "libedit2"]
PROGRAMS = ["mke2fs", "e2fsck", "sfdisk", "sha256sum", "dmsetup", "mkswap", "mkfs.xfs", "xfs_repair", "resize2fs"]
MODULES = ["virtio_pci", "virtio_blk", "dm-mod", "dm-snapshot", "dm-mirror", "loop", "crc32c_generic", "ext4", "xfs"]

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /etc/lvm /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DM_DISABLE_UDEV=1 SWIFT_BACKTRACE=enable=no
while read -r module; do insmod "$module"; done </modules
echo GUEST-BEGIN
sh -e /script
echo "GUEST-END $?"
sync
poweroff -f
"""


def _run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return str(done.stdout)


class LVMGuest:
    """A guest's kernel and initramfs; packages are downloaded once into `cache`."""

    def __init__(
        self, cache: Path, binary: Path, *, programs: Sequence[str] = (), modules: Sequence[str] = ()
    ) -> None:
        trees = sorted((cache / "kernel").glob("linux-image-*"))
        if not trees:
            raise Skip("Debian's kernel is not unpacked yet: run Scripts/build-media")
        self.binary = binary
        self.programs = [*PROGRAMS, *programs]
        self.modules = [*MODULES, *modules]
        self.kernel_tree = trees[-1]
        self.version = next((self.kernel_tree / "lib/modules").iterdir()).name
        self.kernel = self.kernel_tree / f"boot/vmlinuz-{self.version}"
        self.packages = self._packages(cache / "lvm2")

    def _packages(self, folder: Path) -> Path:
        """Unpacks the packages into one tree."""
        tree = folder / "tree"
        if (folder / "complete").exists():
            return tree
        shutil.rmtree(folder, ignore_errors=True)
        tree.mkdir(parents=True)
        try:
            _run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *PACKAGES, cwd=folder, timeout=300)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            raise Skip(f"lvm2 cannot be downloaded: {error}") from error
        for package in sorted(folder.glob("*.deb")):
            _run("dpkg", "-x", package, tree)
        (folder / "complete").touch()
        return tree

    def _modules(self) -> list[str]:
        """Paths of the modules, dependencies first."""
        depends: dict[str, list[str]] = {}
        for line in (self.kernel_tree / f"lib/modules/{self.version}/modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            depends[path] = rest.split()
        by_name = {re.sub(r"\.ko.*", "", Path(path).name).replace("_", "-"): path for path in depends}
        order: list[str] = []

        def add(path: str) -> None:
            # modules.dep lists all dependencies, the nearest first.
            for needed in [*reversed(depends[path]), path]:
                if needed not in order:
                    order.append(needed)

        for name in self.modules:
            if path := by_name.get(name.replace("_", "-")):
                add(path)
        return order

    def _find(self, name: str) -> Path:
        for root in (self.packages, Path("/")):
            for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
                if (path := root / folder / name).exists():
                    return path
        raise Skip(f"there is no {name}")

    def initramfs(self, folder: Path, script: str) -> Path:
        """Packs everything with `script` into `folder`/initramfs.img."""
        root = folder / "initramfs"
        shutil.rmtree(root, ignore_errors=True)
        for name in ("bin", "sbin", "usr/bin", "usr/sbin", "lib", "lib64", "etc/lvm", "lib/modules"):
            (root / name).mkdir(parents=True)
        shutil.copy(self._find("busybox"), root / "bin/busybox")
        for applet in _run(root / "bin/busybox", "--list").split():
            if not (root / "bin" / applet).exists():
                (root / "bin" / applet).symlink_to("busybox")
        libraries = os.pathsep.join(
            str(self.packages / name) for name in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
        )
        for program in [self._find("lvm"), *map(self._find, self.programs)]:
            target = root / "usr/sbin" / program.name
            shutil.copy(program, target)
            found = _run("ldd", program, env=dict(os.environ, LD_LIBRARY_PATH=libraries))
            if "not found" in found:
                raise Skip(f"a library of {program.name} is missing: {found}")
            for library in re.findall(r"(?:=> )?(/\S+) \(0x", found):
                place = root / ("lib64" if "ld-linux" in library else "lib") / Path(library).name
                if not place.exists():
                    shutil.copy(library, place)
        for name in ("lvs pvs vgs lvcreate lvremove lvextend vgchange vgck pvck pvcreate vgcreate").split():
            (root / "usr/sbin" / name).symlink_to("lvm")
        (root / "etc/lvm/lvm.conf").write_text("devices { use_devicesfile = 0 }\n")
        listed = []
        for module in self._modules():
            source = self.kernel_tree / f"lib/modules/{self.version}" / module
            shutil.copy(source, root / "lib/modules" / source.name)
            listed.append(f"/lib/modules/{source.name}")
        (root / "modules").write_text("\n".join(listed) + "\n")
        # In /usr/bin: /bin holds busybox and its links.
        shutil.copy(self.binary, root / "usr/bin/reforge")
        (root / "script").write_text(script)
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        image = folder / "initramfs.img"
        names = _run("find", ".", "-mindepth", "1", cwd=root)
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], input=names.encode(), cwd=root, capture_output=True, check=True
        )
        with gzip.open(image, "wb", compresslevel=1) as handle:
            handle.write(packed.stdout)
        shutil.rmtree(root)
        return image
