# SPDX-License-Identifier: GPL-3.0-or-later
"""New identities and hooks, on disks in files: the volumes are judged by blkid, e2fsck and debugfs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faults import DONE, MIB, NOT_FOUND, USAGE, Context, Skip, tool

INCOMPLETE = 70
ROOT = "5eed0003-0000-4000-8000-000000000003"
SWAP = "5eed0004-0000-4000-8000-000000000004"
FILES = "5eed0005-0000-4000-8000-000000000005"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
# The partitions: root, swap, files. No ESP: the kernel here may not mount FAT.
ROOT_PART, SWAP_PART, FILES_PART = 1, 2, 3
FSTAB = f"UUID={ROOT} / ext4 defaults 0 1\nUUID={SWAP} none swap sw 0 0\nUUID={FILES} /srv {{}} defaults 0 2\n"


def copy_program(tree: Path, name: str) -> None:
    """Copies a program of this machine with its libraries."""
    found = shutil.which(name)
    if found is None:
        raise Skip(f"there is no {name} (openssh-client, busybox-static)")
    files = [found]
    done = subprocess.run(["ldd", found], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        files += [word for word in done.stdout.split() if word.startswith("/")]
    for file in files:
        place = tree / file.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(file, place)


def make_tree(context: Context, kind: str) -> Path:
    """A system of a few files, whose programs are busybox and ssh-keygen."""
    tree = context.folder / "tree"
    for name in (
        "bin boot/grub etc/ssh etc/default etc/initramfs-tools/conf.d etc/udev/rules.d etc/kernel var/lib/dbus "
        "var/lib/dhcp var/lib/systemd srv root tmp"
    ).split():
        (tree / name).mkdir(parents=True)
    copy_program(tree, "busybox")
    copy_program(tree, "ssh-keygen")
    busybox = tree / (shutil.which("busybox") or "").lstrip("/")
    for name in ("sh", "cat", "ls", "touch", "sleep"):
        (tree / "bin" / name).symlink_to("/" + str(busybox.relative_to(tree)))
    texts = {
        "etc/os-release": 'ID=debian\nPRETTY_NAME="Debian of a test"\n', "etc/fstab": FSTAB.format(kind),
        "boot/vmlinuz-6.1.0-9-amd64": "a kernel",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/hostname": "old\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 old.example.org old\n10.0.0.1 old\n",
        "etc/machine-id": MACHINE_ID + "\n", "var/lib/dbus/machine-id": MACHINE_ID + "\n",
        "etc/default/grub": f'GRUB_CMDLINE_LINUX="resume=UUID={SWAP}"\n',
        "etc/initramfs-tools/conf.d/resume": f"RESUME=UUID={SWAP}\n", "etc/motd": "unchanged\n",
        "boot/grub/grub.cfg": f"menuentry x {{\nsearch --fs-uuid {ROOT}\nlinux /v root=UUID={ROOT}\n}}\n",
        "boot/grub/grubenv": f"# GRUB Environment Block\nroot={ROOT}\n".ljust(1024, "#"),
        "var/lib/systemd/random-seed": "seed", "var/lib/dhcp/dhclient.leases": "lease",
        "etc/udev/rules.d/70-persistent-net.rules": "rule",
    }  # fmt: skip
    for name, text in texts.items():
        (tree / name).write_text(text)
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tree / "etc/ssh/ssh_host_ed25519_key")
    return tree


def places(disk: Path) -> dict[int, tuple[int, int]]:
    """Offset and length of each partition, in bytes."""
    table = json.loads(tool("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    return {number: (part["start"] * 512, part["size"] * 512) for number, part in enumerate(table, 1)}


@contextmanager
def node(disk: Path, number: int) -> Iterator[str]:
    """A loop device over a partition."""
    (offset, length) = places(disk)[number]
    options = ["--offset", str(offset), "--sizelimit", str(length)]
    made = tool("losetup", "--find", "--show", *options, disk).strip()
    try:
        yield made
    finally:
        tool("losetup", "--detach", made)


def make_disk(context: Context, change: Callable[[Path], None] | None = None, kind: str = "ext4") -> Path:
    """A disk with a root, swap, and a filesystem of that kind."""
    tree = make_tree(context, kind)
    if change:
        change(tree)
    disk = context.folder / "disk.raw"
    with disk.open("wb") as made:
        made.truncate(800 * MIB)
    tool("sfdisk", "-q", disk, input="label: gpt\nsize=300M,type=L\nsize=64M,type=S\ntype=L\n")
    with node(disk, ROOT_PART) as device:
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-U", ROOT, "-d", tree, device)
    with node(disk, SWAP_PART) as device:
        tool("mkswap", "-q", "-U", SWAP, device)
    with node(disk, FILES_PART) as device:
        makers = {
            "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-U", FILES], "xfs": ["mkfs.xfs", "-q", "-m", f"uuid={FILES}"],
            "btrfs": ["mkfs.btrfs", "-q", "-U", FILES],
        }  # fmt: skip
        if shutil.which(makers[kind][0]) is None:
            raise Skip(f"there is no {makers[kind][0]}")
        tool(*makers[kind], device)
    shutil.rmtree(tree)
    return disk


def uuids(disk: Path) -> dict[int, str]:
    """The identifiers, by blkid."""
    found = {}
    for number in places(disk):
        with node(disk, number) as device:
            found[number] = tool("blkid", "-p", "-o", "value", "-s", "UUID", device).strip()
    return found


def read(disk: Path, path: str) -> str:
    """A file of the root, by debugfs."""
    return tool("debugfs", "-R", f"cat {path}", f"{disk}?offset={places(disk)[ROOT_PART][0]}")


def listed(disk: Path, path: str) -> list[str]:
    """The names in a folder of the root, by debugfs."""
    text = tool("debugfs", "-R", f"ls -p {path}", f"{disk}?offset={places(disk)[ROOT_PART][0]}")
    return [line.split("/")[5] for line in text.splitlines() if line.count("/") > 5 and line.split("/")[1] != "0"]


def expect_whole(context: Context, disk: Path, kind: str = "ext4") -> None:
    """Checks the filesystems by their own tools."""
    checks = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check"]}
    for number, check in ((ROOT_PART, checks["ext4"]), (FILES_PART, checks[kind])):
        with node(disk, number) as device:
            done = subprocess.run([*check, device], check=False, capture_output=True, text=True)
        context.that(f"partition {number} is clean", done.returncode == 0, done.stdout + done.stderr)


def test_identity(context: Context) -> None:
    """Each part of an identity is renewed, every reference follows, and all else stays."""
    kind = context.random.choice(["ext4", "xfs", "btrfs"]) if not context.full else "btrfs"
    disk = make_disk(context, kind=kind)
    (before, key) = (uuids(disk), read(disk, "/etc/ssh/ssh_host_ed25519_key.pub"))
    untouched = hashlib.sha256(disk.read_bytes()).hexdigest()
    parts = "standard,hostname:web2,uuids"
    plan = context.reforge("customize", disk, f"--new-identity={parts}", "--dry-run")
    context.that("the plan is shown", plan.status == DONE and "hostname: set the host name to web2" in plan.out, plan)
    context.that("a dry run only reads", hashlib.sha256(disk.read_bytes()).hexdigest() == untouched)
    ended = context.reforge("customize", disk, f"--new-identity={parts}", "--json")
    context.that(f"it is done ({kind})", ended.status == DONE, ended)
    after = uuids(disk)
    context.that("every volume has a new UUID", all(after[number] != before[number] for number in before), after)
    expect_whole(context, disk, kind)
    new = {ROOT: after[ROOT_PART], SWAP: after[SWAP_PART], FILES: after[FILES_PART]}

    def follow(text: str) -> str:
        for old, fresh in new.items():
            text = text.replace(old, fresh)
        return text

    for path, text in (
        ("/etc/fstab", FSTAB.format(kind)), ("/etc/default/grub", f'GRUB_CMDLINE_LINUX="resume=UUID={SWAP}"\n'),
        ("/boot/grub/grubenv", f"# GRUB Environment Block\nroot={ROOT}\n".ljust(1024, "#")),
        ("/etc/initramfs-tools/conf.d/resume", f"RESUME=UUID={SWAP}\n"), ("/etc/hostname", "web2\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 web2.example.org web2\n10.0.0.1 old\n"),
        ("/etc/machine-id", ""), ("/etc/motd", "unchanged\n"),
    ):  # fmt: skip
        context.that(f"{path} is right", read(disk, path) == follow(text), read(disk, path))
    context.that("no old UUID is in grub.cfg", ROOT not in read(disk, "/boot/grub/grub.cfg"))
    context.that("the SSH host key is new", read(disk, "/etc/ssh/ssh_host_ed25519_key.pub") not in ("", key))
    for folder, name in (
        ("/var/lib/dbus", "machine-id"), ("/var/lib/systemd", "random-seed"), ("/var/lib/dhcp", "dhclient.leases"),
        ("/etc/udev/rules.d", "70-persistent-net.rules"), ("/", ".reforge-new-identity"),
    ):  # fmt: skip
        context.that(f"{folder}/{name} is gone", name not in listed(disk, folder))
    left = [name for name in listed(disk, "/etc/ssh") if "reforge" in name]
    context.that("no old key is left", not left, left)
    again = context.reforge("customize", disk, "--new-identity=hostname:web2,machine-id,random-seed")
    context.that("again, there is nothing to do", again.status == DONE and "nothing to do" in again.out, again)


def test_restored_twice(context: Context) -> None:
    """Two restores of one image with new identities differ in them, and without they are the same."""
    disk = make_disk(context)
    image = context.folder / "image.img.zst"
    tool(context.binary, "capture", disk, image)
    hook = context.folder / "hook.sh"
    hook.write_text("#!/bin/sh\ncat > /root/report.json\necho done\n")
    facts = []
    for name in ("one", "two", "plain"):
        target = context.folder / f"{name}.raw"
        with target.open("wb") as made:
            made.truncate(800 * MIB)
        options = [] if name == "plain" else [f"--new-identity=standard,uuids,hostname:{name}", "--hook", str(hook)]
        ended = context.reforge("restore", image, target, "--yes", "--json", *options)
        # Without partition nodes, boot repair cannot run the programs of the system.
        context.that(f"{name} is restored", ended.status in (DONE, INCOMPLETE), ended)
        report = json.loads(ended.out)
        context.that(f"{name} is complete", report["diskState"] == "complete", ended)
        if name == "plain":
            context.that("nothing changes unasked", "identity" not in report and "hooks" not in report, ended)
            context.that("the UUIDs stay", uuids(target)[ROOT_PART] == ROOT)
            context.that("the host name stays", read(target, "/etc/hostname") == "old\n")
            continue
        context.that("the hook ran", [one["exitStatus"] for one in report["hooks"]] == [0], ended)
        told = json.loads(read(target, "/root/report.json"))
        context.that("the hook was told the report", told["diskState"] == "complete" and told["identity"]["changed"])
        context.that("the host name is set", read(target, "/etc/hostname") == f"{name}\n")
        expect_whole(context, target)
        facts.append((uuids(target), read(target, "/etc/ssh/ssh_host_ed25519_key.pub")))
    (one, two) = facts
    context.that("the UUIDs differ", all(one[0][number] != two[0][number] for number in one[0]), facts)
    context.that("the SSH host keys differ", one[1] != two[1])


def test_hooks(context: Context) -> None:
    """Hooks run confined, in order, up to the first that fails; one that cannot run stops the restore before it begins."""
    disk = make_disk(context)

    def script(name: str, text: str) -> str:
        path = context.folder / name
        path.write_text(text)
        return str(path)

    good = script("1-good", "#!/bin/sh\ntouch /root/good\nls /dev /sys/class/net > /root/seen\n")
    bad = script("2-bad", "#!/bin/sh\necho this is why >&2\nexit 3\n")
    late = script("3-late", "#!/bin/sh\ntouch /root/late\n")
    ended = context.reforge("customize", disk, "--hook", good, "--hook", bad, "--hook", late, "--json")
    context.that("a failing hook ends with 70", ended.status == INCOMPLETE, ended)
    hooks = json.loads(ended.out)["hooks"]
    context.that("its status is told", [one.get("exitStatus") for one in hooks] == [0, 3], hooks)
    context.that("its output is told", "this is why" in hooks[1]["output"], hooks)
    names = listed(disk, "/root")
    context.that("hooks end at the first failure", "good" in names and "late" not in names, names)
    seen = read(disk, "/root/seen")
    context.that("a hook sees no other disk", not re.search(r"\b(sd[a-z]|vd[a-z]|nvme\d|loop\d)", seen), seen)
    context.that("a hook sees no network card", not re.search(r"\b(eth|enp|ens)\d", seen), seen)
    context.that("nothing of a hook is left", "reforge" not in listed(disk, "/dev"))
    expect_whole(context, disk)

    image = context.folder / "image.img.zst"
    tool(context.binary, "capture", disk, image)
    target = context.folder / "target.raw"
    with target.open("wb") as made:
        made.truncate(800 * MIB)
    for options, status in (
        (["--hook", script("text", "no script\n")], USAGE), (["--hook", str(context.folder / "none")], NOT_FOUND),
        (["--new-identity=uuid"], USAGE), (["--new-identity=hostname:a/b"], USAGE),
        (["--new-identity=uuids", "--no-boot-repair"], USAGE), (["--only", "1", "--hook", good], USAGE),
    ):  # fmt: skip
        ended = context.reforge("restore", image, target, "--yes", *options)
        context.that(f"{options} is refused", ended.status == status, ended)
        with target.open("rb") as made:
            context.that("nothing was written", not any(made.read(2 * MIB)))
    ended = context.reforge("restore", image, target, "--yes", "--no-boot-repair", "--hook", bad, "--json")
    report = json.loads(ended.out)
    context.that("a restore whose hook fails ends with 70", ended.status == INCOMPLETE, ended)
    context.that("its disk is complete", report["diskState"] == "complete" and report["incomplete"], report)


def hostile(tree: Path) -> None:
    """Links that lead out, folders in place of files, and files of any size."""
    for name in ("hostname", "hosts", "machine-id", "mailname"):
        (tree / "etc" / name).unlink(missing_ok=True)
        (tree / "etc" / name).symlink_to(f"../../../../../../../../etc/{name}")
    shutil.rmtree(tree / "etc/ssh")
    (tree / "etc/ssh").symlink_to("/../../../../../../etc/ssh")
    shutil.rmtree(tree / "var/lib/systemd")
    (tree / "var/lib/systemd").symlink_to("/proc/self/root/var/lib/systemd")
    os.mkfifo(tree / "etc/crypttab")
    (tree / "etc/udev/rules.d/70-persistent-net.rules").unlink()
    (tree / "etc/udev/rules.d/70-persistent-net.rules").mkdir()
    with (tree / "boot/grub/grub.cfg").open("wb") as made:
        made.truncate(1 << 38)
    (tree / ".reforge-new-identity").write_text(f"{ROOT} {ROOT}\n../x /y\n" * 1000 + "\0" * 1000)
    for number in range(3000):
        (tree / "etc/initramfs-tools/conf.d" / f"x{number}").write_text(ROOT)


def test_hostile_trees(context: Context) -> None:
    """A foreign tree cannot make anything outside of it change, and costs bounded time."""
    watched = [Path(name) for name in ("/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/ssh")]
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in watched if path.exists()]
    disk = make_disk(context, hostile)
    (old, command) = (uuids(disk), ("customize", disk, "--new-identity=standard,hostname:web2,uuids"))
    for _ in range(2):
        ended = context.reforge(*command)
        context.that("what cannot be read is said", ended.status == INCOMPLETE, ended)
        context.that("the volumes keep their UUIDs", "keep their UUIDs" in ended.said and uuids(disk) == old, ended)
    after = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in watched if path.exists()]
    context.that("this machine is unchanged", before == after)
    with node(disk, ROOT_PART) as device:
        done = subprocess.run(["e2fsck", "-fn", device], check=False, capture_output=True, text=True)
    context.that("the root is clean", done.returncode == 0, done.stdout)


def test_interrupted(context: Context) -> None:
    """References that a power cut left behind are followed by the next run."""
    fresh = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    disk = make_disk(context, lambda tree: (tree / ".reforge-new-identity").write_text(f"{ROOT} {fresh}\n{SWAP} {fresh[:-1]}f\n"))
    with node(disk, ROOT_PART) as device:
        tool("e2fsck", "-fp", device)
        tool("tune2fs", "-U", fresh, device)
    # As before the change, /etc/fstab names the old one.
    ended = context.reforge("customize", disk, "--new-identity=uuids")
    now = uuids(disk)
    context.that("it is done", ended.status == DONE, ended)
    context.that("the volume that was changed keeps its new UUID", now[ROOT_PART] == fresh, now)
    context.that("the others change", now[SWAP_PART] not in (SWAP, fresh[:-1] + "f"), now)
    fstab = read(disk, "/etc/fstab")
    context.that("fstab names what is there", all(uuid in fstab for uuid in now.values()), fstab)
    context.that("the record is gone", ".reforge-new-identity" not in listed(disk, "/"))
    expect_whole(context, disk)
