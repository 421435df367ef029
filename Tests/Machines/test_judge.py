"""All files of every kind of filesystem, captured, restored over noise, and checked by the kernel and each kind's fsck.

Each filesystem is aged first: filled completely, half emptied, and filled again in the gaps. Unwritten parts of the
disk hold noise, and so does the target: a used block that a map counts as free comes back as other noise.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tarfile
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, expect, note, partition, run, sha256, time_limit
from lvm_guest import LVMGuest
from machine import Disk
from test_recovery import restored_on_the_host

# Holes and attributes; blocks reserved but not written; ranges collapsed in a file and inserted into it.
EXT = "unix,attr"
FULL = "unix,attr,reserve,collapse"

# Name: length in MiB, mkfs command, mount type, features, read-only check.
KINDS: dict[str, tuple[int, list[str], str, str, str]] = {
    "ext2": (48, ["mke2fs", "-q", "-t", "ext2", "-E", "nodiscard"], "ext2", EXT, "e2fsck -fn"),
    "ext3": (64, ["mke2fs", "-q", "-t", "ext3", "-E", "nodiscard"], "ext3", EXT, "e2fsck -fn"),
    "ext4": (96, ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "nodiscard"], "ext4", FULL, "e2fsck -fn"),
    "xfs": (300, ["mkfs.xfs", "-q", "-K"], "xfs", f"{FULL},reflink,bigattr", "xfs_repair -n"),
    "xfs4": (300, ["mkfs.xfs", "-q", "-K", "-m", "crc=0"], "xfs", f"{FULL},bigattr", "xfs_repair -n"),
    "btrfs": (256, ["mkfs.btrfs", "-q", "-K"], "btrfs", f"{EXT},reserve,reflink,subvolumes", "btrfs check --readonly"),
    "f2fs": (128, ["mkfs.f2fs", "-q", "-t", "0"], "f2fs", FULL, "fsck.f2fs -f --dry-run"),
    "vfat": (48, ["mkfs.fat", "-F", "32"], "vfat", "", "fsck.fat -n"),
    "exfat": (48, ["mkfs.exfat"], "exfat", "noroot", "fsck.exfat -n"),
}  # fmt: skip
MODULES = ["ext4", "xfs", "btrfs", "f2fs", "crc32_generic", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "exfat"]
PROGRAMS = [
    "btrfs", "fsck.f2fs", "fsck.fat", "fsck.exfat",
    "find", "cp", "split", "fallocate", "setfattr", "getfattr", "setfacl", "getfacl",
]  # fmt: skip
CONSOLE = "console=ttyS0,115200n8 loglevel=4 panic=-1"

# Full paths, because busybox's applets come first in PATH.
COMMON = """
set -o pipefail
fail() { echo "GUEST-FAILED $*"; exit 1; }
has() { case ",$what," in *,$1,*) true;; *) false;; esac; }
"""

FILL = r"""
noise() { dd if=/dev/urandom of="$1" bs="$2" count=1 conv=notrunc,fsync seek="${3:-0}" 2>/dev/null; }

fill() {
  kind=$1 type=$2 what=$3 device=$4
  mkdir -p /mnt/$kind; mount -t $type $device /mnt/$kind; cd /mnt/$kind
  head -c 3145728 /dev/urandom >/tmp/pool; head -c 3145728 /dev/urandom >/tmp/other
  # Fill completely, then remove every second file: later files are in gaps all over the partition.
  mkdir fill small mid large odd
  i=0; while cp /tmp/pool fill/$i 2>/dev/null; do i=$((i + 1)); done
  sync; rm fill/*[13579]
  head -c 900000 /tmp/other | /usr/sbin/split -a 3 -b 1500 - small/
  /usr/sbin/split -a 3 -b 41234 /tmp/other mid/
  # Two files that grow alternately.
  i=0; while [ $i -lt 16 ]; do
    for name in one two; do dd if=/tmp/other bs=64k skip=$i count=1 conv=fsync 2>/dev/null >>large/$name; done
    i=$((i + 1))
  done
  sync; rm small/*[acegikmoqsuwy] mid/*[bdfhjlnprtvxz]
  # A file in the gaps of the small ones, then partly overwritten.
  cp /tmp/other large/three; sync
  noise large/three 70001 7; noise large/one 4096 100; truncate -s 700001 large/two; truncate -s 1500000 large/two
  for i in 1 2 3 4 5 6 7 8 9; do noise small/new$i $((i * 1777)); done; : >small/empty
  mkdir -p odd/a/b/c/d/e/f/g/h; echo deep >odd/a/b/c/d/e/f/g/h/file
  long=$(printf '%0100d' 7); echo 1 >"odd/$long$long"
  echo 2 >'odd/two  spaces'; echo 3 >odd/-rf; echo 4 >"odd/it's #1 %s \$HOME"; echo 5 >odd/Ünï-名前; echo 6 >odd/MiXed.Case
  touch -d '1981-02-03 04:05:06' small/empty odd/a; touch -d '2037-12-31 23:59:58' odd/-rf
  ! has unix || fill_unix
  ! has attr || fill_attr
  ! has reserve || fill_reserve
  ! has collapse || { cp large/three large/moved; fallocate=/usr/sbin/fallocate
    $fallocate -c -o 65536 -l 131072 large/moved; $fallocate -i -o 1048576 -l 65536 large/moved; }
  ! has reflink || { /usr/sbin/cp --reflink=always large/three large/shared; sync; noise large/shared 8192 20
    /usr/sbin/cp --reflink=always large/shared large/again; rm large/shared; }
  ! has subvolumes || fill_subvolumes
  rm fill/*[2468]; sync
  cd /; umount /mnt/$kind
}

fill_unix() {
  printf 'x' >"odd/$(printf 'new\nline\\')"; printf 'y' >"odd/$(printf '\377\376bytes')"; echo 7 >'odd/a:b*c?"<>|'
  mkdir links
  for file in small/*[bdf]; do ln $file links/; done
  rm small/*b; ln large/one links/large
  ln -s ../large/one links/short; ln -s "$long$long/nowhere" links/dangling; ln -s . links/dot
  chmod 4755 small/new1; chmod 1777 odd; chmod 0 small/new2; chmod 2750 links; chown 1234:5678 small/new1
  chown 100000:4000000000 small/new3; chown -h 7:8 links/short
  mkfifo odd/fifo; mknod odd/null c 1 3; mknod odd/disk b 259 70000
  # Data at the start, in the middle and at the end; the last range is beyond 4 GiB.
  noise large/sparse 5000; noise large/sparse 65536 30; noise large/sparse 65536 190; truncate -s 14M large/sparse
  truncate -s 5M large/hole; noise large/far 65536; noise large/far 65536 70000
  cp large/three large/punched
  for i in 1 3 5 7 20 30; do /usr/sbin/fallocate -p -o $((i * 65536 + 100)) -l 65536 large/punched; done
}

fill_attr() {
  value=$(head -c 150 /dev/urandom | xxd -p | tr -d '\n')
  for file in small/new*; do setfattr -n user.name -v "$file" $file; setfattr -n user.$file -v "$value" $file; done
  setfattr -n user.empty odd; setfattr -n trusted.own -v "$value" large; setfattr -h -n trusted.link -v here links/short
  if has bigattr; then setfattr -n user.big -v "$(head -c 30000 /dev/urandom | xxd -p | tr -d '\n')" large/three; fi
  setfacl -m u:1001:rw-,g:1002:r--,m::rwx small/new4 small/new5; setfacl -m u:4000000000:--- large/one
  setfacl -d -m u:1003:rwx,g:1004:r-x odd; mkdir odd/inherits; echo 8 >odd/inherits/file
  # Files that lose attributes.
  setfattr -x user.name small/new6; setfacl -b small/new5
}

fill_reserve() {
  /usr/sbin/fallocate -l 2M large/reserved; noise large/reserved 65536 9
  cp /tmp/other mid/behind; truncate -s 100001 mid/behind; /usr/sbin/fallocate -n -o 1M -l 1M mid/behind
}

fill_subvolumes() {
  btrfs subvolume create sub >/dev/null; cp -r mid large/one small/new* sub/; sync
  btrfs subvolume snapshot -r sub before >/dev/null
  rm sub/mid/*[aei]; noise sub/one 50000 3; cp large/two sub/later; setfattr -n user.later -v yes sub/new1
  btrfs subvolume snapshot sub copy >/dev/null; echo 10 >copy/own; noise copy/one 4096 9
  btrfs subvolume create sub/inner >/dev/null; echo 9 >sub/inner/file
  btrfs subvolume create gone >/dev/null; cp large/three gone/; sync; btrfs subvolume delete -c gone >/dev/null
}
"""

# Runs on the source and on the restored disk.
JUDGE = r"""
sorted() { /usr/sbin/find . "$@" -print0 | sort -z; }

judge() {
  kind=$1 type=$2 what=$3 device=$4 check=$5
  out=/tmp/judged/$kind; mkdir -p $out /mnt/$kind
  /usr/sbin/$check $device >/tmp/said 2>&1 || { status=$?; tail -n 30 /tmp/said; fail "$kind: $check ended with $status"; }
  # The exit status alone does not show all errors.
  ! grep -E '\[(ASSERT|FAIL)\]|\[Fail\]' /tmp/said || fail "$kind: $check complains"
  mount -o ro -t $type $device /mnt/$kind; cd /mnt/$kind
  # The root of an exFAT has no times.
  from=0; ! has noroot || from=1
  all='%p %y mode %m owner %U:%G size %s links %n blocks %b time %T@ %l\0'
  /usr/sbin/find . -mindepth $from -printf "$all" | sort -z >$out/entries
  sorted -type f -size -65536k | xargs -0 /usr/sbin/sha256sum -z >$out/sums
  if has unix; then
    for place in 0 1 69999 70000; do dd if=large/far bs=65536 skip=$place count=1 2>/dev/null; done | sha256sum >$out/far
    sorted -type b -o -type c | xargs -0 stat -c '%n %F %t:%T' >$out/nodes
  fi
  if has attr; then
    sorted | xargs -0 getfattr -h -d -m - -e hex >$out/attributes
    sorted ! -type l | xargs -0 getfacl -n >$out/acls
  fi
  if has subvolumes; then
    { btrfs subvolume list -puqR .; for name in sub before copy; do btrfs property get $name ro; done; } >$out/subvolumes
  fi
  cd /; umount /mnt/$kind
}
"""


def script(*steps: str) -> str:
    """Runs each step for every kind, and writes the manifests to the second disk."""
    lines = [COMMON, FILL, JUDGE]
    for step in steps:
        for number, (kind, (_, _, mounted, has, check)) in enumerate(KINDS.items(), 1):
            lines.append(f"{step} {kind} {mounted} '{has}' /dev/vda{number} '{check}'")
            lines.append(f"echo {step} {kind} $(cut -d' ' -f1 /proc/uptime)")
    lines.append("tar -cf - -C /tmp/judged . | dd of=/dev/vdb bs=64k conv=fsync 2>/dev/null\n")
    return "\n".join(lines)


def noisy(path: Path, byte_count: int) -> Path:
    """A file of noise."""
    with open(path, "wb") as handle:
        while (left := byte_count - handle.tell()) > 0:
            handle.write(os.urandom(min(left, 4 * MIB)))
    return path


def source_disk(ctx: Context) -> Path:
    """A GPT disk with an empty filesystem of each kind, and noise in all unwritten sectors."""
    disk = ctx.blank_disk("source.raw", (sum(length for length, *_ in KINDS.values()) + 2) * MIB)
    partition(disk, "label: gpt\n" + "".join(f"size={length}MiB\n" for length, *_ in KINDS.values()))
    start = 1
    for length, command, *_ in KINDS.values():
        part = noisy(ctx.folder / "part", length * MIB)
        # Noise may look like a signature, which some mkfs would not overwrite.
        with open(part, "r+b") as handle:
            handle.write(bytes(MIB // 16))
        run(*command, part)
        run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc", "status=none")
        part.unlink()
        start += length
    return disk


def judged(ctx: Context, lab: LVMGuest, name: str, disk: Disk, *steps: str) -> dict[str, list[str]]:
    """Runs the steps in a guest; gives the manifests' lines, by kind/name."""
    out = ctx.blank_disk(f"{name}.tar", 32 * MIB)
    with ctx.machine(
        name, kernel=lab.kernel, initrd=lab.initramfs(ctx.folder, script(*steps)), disks=[disk, Disk(out, "virtio", "OUT")],
        memory=768, time_limit=300, append=CONSOLE,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 300, unless=r"Kernel panic")
        expect(end[1] == "0", f"{name}: the script ended with {end[1]}\n{machine.tail()}")
        note(f"{name}: {machine.wait_for_exit(60):.0f} s from power-on")
    with tarfile.open(out) as archive:
        return {
            member.name.removeprefix("./"): handle.read().replace(b"\0", b"\n").decode(errors="backslashreplace").split("\n")
            for member in archive
            if (handle := archive.extractfile(member))
        }


def differences(wanted: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    """Lines of a diff over all manifests."""
    lines: list[str] = []
    for name in sorted(wanted.keys() | found.keys()):
        one, other = wanted.get(name, []), found.get(name, [])
        lines += difflib.unified_diff(one, other, f"source/{name}", f"restored/{name}", n=0, lineterm="")
    return lines


@time_limit(500)
def test_all_files_of_every_kind(ctx: Context) -> None:
    """Files, attributes, holes, links and snapshots of nine filesystems are unchanged, and no fsck finds an error."""
    source = source_disk(ctx)
    lab = LVMGuest(scratch_directory(), ctx.binary, programs=PROGRAMS, modules=MODULES)
    wanted = judged(ctx, lab, "source", Disk(source, "virtio", "SOURCE"), "fill", "judge")
    before = sha256(source)
    image = ctx.folder / "judge.img.zst"
    ctx.reforge("capture", source, image, "--overwrite")
    expect(sha256(source) == before, "the capture has changed its source")
    volumes = json.loads(ctx.reforge("inspect", image, "--json"))["volumes"]
    for (kind, (length, _, _, has, _)), volume in zip(KINDS.items(), volumes, strict=True):
        entries, filesystem, used = wanted[f"{kind}/entries"], volume["filesystem"], volume["usedByteCount"]
        # Some names contain a newline.
        count, files = (sum(f" {word} " in line for line in entries) for word in ("mode", "f mode"))
        sums = sum(re.match("[0-9a-f]{64} ", line) is not None for line in wanted[f"{kind}/sums"])
        note(f"{kind}: {files} files, {count - files} other entries, {used / MIB:.1f} of {length} MiB in use")
        # large/far is checked separately.
        expect(files > 350 and sums == files - ("unix" in has), f"{kind}: {sums} of {files} files were read")
        expect(filesystem["mapSource"] != "whole", f"{kind} was taken whole: {filesystem.get('wholeReason')}")
        expect(used < length * MIB // 2, f"{kind}: half of it or more counts as used")
        if "attr" in has:
            expect(any("user:1001:rw-" in line for line in wanted[f"{kind}/acls"]), f"{kind}: no ACL was read")
            expect(any("user.name=" in line for line in wanted[f"{kind}/attributes"]), f"{kind}: no attribute was read")
    size, in_use = image.stat().st_size, sum(volume["usedByteCount"] for volume in volumes)
    note(f"image: {size / MIB:.1f} MiB of {in_use / MIB:.1f} in use")
    expect(size < in_use, "what is not in use was captured: noise does not compress")
    target = noisy(ctx.folder / "target.raw", source.stat().st_size)
    restored_on_the_host(ctx, image, target)
    found = judged(ctx, lab, "restored", Disk(target, "virtio", "TARGET", read_only=True), "judge")
    diff = differences(wanted, found)
    shown = "\n".join(f"    | {line[:300]}" for line in diff[:60])
    expect(not diff, f"what was restored differs from its source:\n{shown}")
