"""A physical volume on a disk of another size: the medium resizes its content; the checks of LVM and of the filesystems
judge the result.

The source is made in a guest, because the build machine has no device-mapper: a group of volumes in several segments
with holes between them.
"""

from __future__ import annotations

import re
from pathlib import Path

from debian_tree import scratch_directory
from lab import MIB, Context, copy_sparse, expect, full_only, note, time_limit
from lvm_guest import LVMGuest
from machine import Disk
from test_restore import RESTORE_FAILED, RESTORE_TIMEOUT, TARGET_SERIAL, medium

EXTENT_MIB = 4
SOURCE_MIB = 1000
# The partition starts at 1 MiB and ends 1 MiB before the end of the disk; its extents start at 1 MiB.
FRONT_MIB = 3
# Sizes in MiB. XFS cannot shrink, and swap keeps its size.
VOLUMES = {"root": 320, "swap_1": 32, "data": 304, "home": 120}

# device-mapper doubles hyphens in names. Two volumes in the middle are removed, and others grow into the holes.
SETUP = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
printf 'label: gpt\\nstart=1MiB, size=998MiB, type=lvm\\n' | sfdisk -q /dev/vda; settle /dev/vda1
pvcreate -q METADATA /dev/vda1; vgcreate -q -s 4M vg-0 /dev/vda1
for one in gone:60 root:120 lost:40 swap_1:32 data:304 home:20; do
    lvcreate -q -y -Wn -Zn -L "${one#*:}M" -n "${one%:*}" vg-0
done
lvremove -q -y vg-0/gone vg-0/lost
lvextend -q -L 320M vg-0/root; lvextend -q -L 120M vg-0/home
lvs --noheadings -o lv_name,seg_pe_ranges vg-0
/usr/sbin/mke2fs -q -t ext4 /dev/vg-0/root; /usr/sbin/mke2fs -q -t ext4 /dev/vg-0/home
/usr/sbin/mkfs.xfs -q /dev/vg-0/data; /usr/sbin/mkswap -L swap /dev/vg-0/swap_1
for place in root home data; do mkdir -p "/mnt/$place"; mount "/dev/vg-0/$place" "/mnt/$place"; done
# Padding, removed later, pushes the files towards the end, outside of a smaller filesystem.
dd if=/dev/zero of=/mnt/root/pad bs=1M count=200 2>/dev/null; dd if=/dev/zero of=/mnt/home/pad bs=1M count=50 2>/dev/null
sync
for place in root home data; do
    for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of="/mnt/$place/$i" bs=64k count=$((i * 12)) 2>/dev/null; done
done
rm /mnt/root/pad /mnt/home/pad; sync
(cd /mnt && sha256sum root/[1-8] home/[1-8] data/[1-8]) | sed 's/^/GUEST-SUM /'
umount /mnt/root /mnt/home /mnt/data; vgchange -q -an vg-0
/usr/sbin/mke2fs -q -t ext4 -L IMAGES /dev/vdb; mkdir /mnt/images; mount /dev/vdb /mnt/images
reforge capture /dev/vda /mnt/images/lvm.img.zst || fail "the capture ended with $?"
umount /mnt/images
"""

CHECK = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
settle /dev/vda1
pvck /dev/vda1 || fail pvck; vgck vg-0 || fail vgck
lvs --noheadings -o lv_name,seg_pe_ranges vg-0
lvs --noheadings --units m --nosuffix -o lv_name,lv_size vg-0 | sed 's/^ */GUEST-VOLUME /'
echo "GUEST-EXTENTS $(pvs --noheadings -o pv_pe_count,pv_pe_alloc_count /dev/vda1)"
vgchange -q -ay vg-0
for place in root home; do /usr/sbin/e2fsck -f -n "/dev/vg-0/$place" || fail "e2fsck of $place: $?"; done
/usr/sbin/xfs_repair -n /dev/vg-0/data >/dev/null 2>&1 || fail "xfs_repair"
dd if=/dev/vg-0/swap_1 bs=1 skip=4086 count=10 2>/dev/null | grep -q SWAPSPACE2 || fail "no swap"
for place in root home data; do mkdir -p "/mnt/$place"; mount -o ro "/dev/vg-0/$place" "/mnt/$place"; done
df -m /mnt/root /mnt/home /mnt/data | sed 's/^/GUEST-DF /'
(cd /mnt && sha256sum root/[1-8] home/[1-8] data/[1-8]) | sed 's/^/GUEST-SUM /'
umount /mnt/root /mnt/home /mnt/data; vgchange -q -an vg-0
"""

# /dev/vda has the image, /dev/vdb is the target, /dev/vdc gets a copy of the source, /dev/vdd is the scratch.
STOP = """
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
fail() { echo "GUEST-FAILED $*"; exit 1; }
mkdir -p /mnt/images /mnt/scratch; mount -o ro /dev/vda /mnt/images
/usr/sbin/mke2fs -q -t ext4 /dev/vdd; mount /dev/vdd /mnt/scratch
# Not a function: in the background, a shell would run it and receive the signal.
shrink="reforge restore /mnt/images/lvm.img.zst /dev/vdb --yes --partition 1=557MiB --scratch /mnt/scratch --no-boot-repair"
refused() {
    status=0; $shrink >/tmp/log 2>&1 || status=$?
    [ $status = 77 ] && grep -q "$1" /tmp/log || { cat /tmp/log; fail "exit status $status, and no mention of: $1"; }
}
reforge restore /mnt/images/lvm.img.zst /dev/vdc --yes --layout keep --no-boot-repair
blockdev --rereadpt /dev/vdc 2>/dev/null || true; settle /dev/vdc1
vgchange -q -ay vg-0
refused "is active on this machine"
vgchange -q -an vg-0
refused "holds a copy of the same LVM2_member"
dd if=/dev/zero of=/dev/vdc bs=1M count=4 conv=fsync 2>/dev/null; blockdev --flushbufs /dev/vdc
blockdev --rereadpt /dev/vdc

$shrink >/tmp/log 2>&1 &
pid=$!
for i in $(seq 1 1500); do
    [ -e /dev/mapper/vg--0-root ] && break
    kill -0 $pid 2>/dev/null || { cat /tmp/log; fail "it ended before its volumes were seen"; }
    sleep 0.1
done
kill -TERM $pid
status=0; wait $pid || status=$?
[ $status = 75 ] || { cat /tmp/log; fail "exit status $status after SIGTERM"; }
ls /sys/block | grep '^dm-' && fail "devices are left"
cat /sys/block/loop*/loop/backing_file 2>/dev/null && fail "loop devices are left"
[ -z "$(ls -A /mnt/scratch | grep -v lost+found)" ] || fail "the scratch is left"
sfdisk -d /dev/vdb 2>/dev/null && fail "it looks whole"
$shrink || fail "the second run ended with $?"
ls /sys/block | grep '^dm-' && fail "devices are left"
# Killed while a program works on a volume: the program continues, and the volumes keep their devices.
mv /usr/sbin/resize2fs /usr/sbin/resize2fs.real
cat >/usr/sbin/resize2fs <<'WRAPPER'
#!/bin/sh
for word; do case "$word" in /dev/*) exec 9<"$word" ;; esac; done
touch /tmp/begun; sleep 8; exec /usr/sbin/resize2fs.real "$@"
WRAPPER
chmod 755 /usr/sbin/resize2fs
$shrink >/tmp/log 2>&1 &
pid=$!
for i in $(seq 1 1500); do
    [ -e /tmp/begun ] && break
    kill -0 $pid 2>/dev/null || { cat /tmp/log; fail "it ended before resize2fs began"; }
    sleep 0.1
done
kill -KILL $pid; wait $pid || true
mv /usr/sbin/resize2fs.real /usr/sbin/resize2fs
ls /sys/block | grep -q '^dm-' || fail "no device is left after the kill"
$shrink >/tmp/log 2>&1 || { cat /tmp/log; fail "killed, the next run ended with $?"; }
grep -q "an interrupted restore left it at work" /tmp/log || { cat /tmp/log; fail "resize2fs was not waited for"; }
ls /sys/block | grep '^dm-' && fail "devices are left"
blockdev --rereadpt /dev/vdb 2>/dev/null || true; settle /dev/vdb1
"""


def guest(ctx: Context, name: str, script: str, disks: list[Path]) -> str:
    """Runs a script in a guest; gives the console's text."""
    lab = LVMGuest(scratch_directory(), ctx.binary)
    initrd = lab.initramfs(ctx.folder, script)
    with ctx.machine(
        name, kernel=lab.kernel, initrd=initrd, append="console=ttyS0,115200n8 loglevel=4 panic=-1",
        disks=[Disk(disk, "virtio", disk.stem.upper()) for disk in disks], memory=768, time_limit=600,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 600, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        note(f"{name}: {machine.wait_for_exit(60):.0f} s from power-on")
        return machine.text()


def sums(said: str) -> list[str]:
    """The files and hashes that a guest printed."""
    found = sorted(re.findall(r"^GUEST-SUM (\S+ .*)$", said, re.MULTILINE))
    expect(len(found) == 24, f"{len(found)} hashes")
    return found


def source(ctx: Context) -> tuple[Path, list[str]]:
    """A disk labelled IMAGES with the image, and the hashes of its files."""

    def make() -> tuple[Path, list[str]]:
        disk = ctx.blank_disk("source.raw", SOURCE_MIB * MIB)
        images = ctx.workdir / "lvm-images.raw"
        with open(images, "wb") as handle:
            handle.truncate(1024 * MIB)
        # The second metadata area, at the end, has to move too.
        said = guest(ctx, "source", SETUP.replace("METADATA", "--pvmetadatacopies 2"), [disk, images])
        return images, sums(said)

    return ctx.shared.once("image of logical volumes", make)


def restored(ctx: Context, name: str, mebibytes: int, **settings: str) -> tuple[dict[str, int], int]:
    """Restores onto a disk of that size by the medium and checks the result.

    Gives the lengths of the volumes in MiB and the number of free extents.
    """
    images, wanted = source(ctx)
    target = ctx.blank_disk(f"{name}.raw", mebibytes * MIB)
    unattended = {
        "restore": "LABEL=IMAGES:/lvm.img.zst", "target": f"serial={TARGET_SERIAL}", "finish": "poweroff", **settings,
    }  # fmt: skip
    disks = [Disk(target, "nvme", TARGET_SERIAL), Disk(images, "virtio", "IMAGES", snapshot=True)]
    with medium(ctx, f"{name}-medium", unattended, disks) as machine:
        seconds = machine.wait_for_exit(RESTORE_TIMEOUT, unless=RESTORE_FAILED)
        said = machine.text()
    expect("REFORGE-RESULT exit=0" in said, f"the restore ended otherwise\n{said[-2500:]}")
    note(f"restored onto {mebibytes} MiB in {seconds:.0f} s from power-on")
    expect(re.search(r"vg-0/root +logical volume +ext4", said) is not None, f"the plan does not show volumes\n{said[-2500:]}")
    said = guest(ctx, f"{name}-check", CHECK, [target])
    expect(sums(said) == wanted, "files have changed")
    return lengths(said)


def lengths(said: str) -> tuple[dict[str, int], int]:
    """The lengths of the volumes in MiB, and the number of free extents, from a guest's output."""
    volumes = {name: int(float(size)) for name, size in re.findall(r"^GUEST-VOLUME (\S+) +([\d.]+)", said, re.MULTILINE)}
    extents = re.search(r"^GUEST-EXTENTS +(\d+) +(\d+)", said, re.MULTILINE)
    expect(extents is not None, "no extents")
    assert extents
    note(f"volumes in MiB: {volumes}; {extents[2]} of {extents[1]} extents in use")
    return volumes, int(extents[1]) - int(extents[2])


@full_only
@time_limit(900)
def test_a_larger_disk(ctx: Context) -> None:
    """The physical volume, the volumes and their filesystems grow, each by its share; swap does not."""
    mebibytes = 1700
    volumes, _ = restored(ctx, "larger", mebibytes, layout="proportional")
    # One MiB for the metadata at the end, and one for its alignment.
    added = (mebibytes - FRONT_MIB - 2) // EXTENT_MIB - (SOURCE_MIB - FRONT_MIB - 1) // EXTENT_MIB
    growing = {name: size // EXTENT_MIB for name, size in VOLUMES.items() if name != "swap_1"}
    wanted = {name: (size + added * size // sum(growing.values())) * EXTENT_MIB for name, size in growing.items()}
    wanted["root"] += (sum(growing.values()) + added) * EXTENT_MIB - sum(wanted.values())
    expect(volumes == {**wanted, "swap_1": VOLUMES["swap_1"]}, f"other lengths than planned: {wanted}")


@time_limit(900)
def test_a_smaller_disk(ctx: Context) -> None:
    """The largest ext4 shrinks, and extents beyond the new end move into holes; XFS moves unchanged."""
    mebibytes = 560
    volumes, free = restored(ctx, "smaller", mebibytes)
    available = (mebibytes - FRONT_MIB - 2) // EXTENT_MIB * EXTENT_MIB
    wanted = {**VOLUMES, "root": available - sum(size for name, size in VOLUMES.items() if name != "root")}
    expect(volumes == wanted, f"other lengths than planned: {wanted}")
    expect(free <= 1, f"{free} extents are free")


@full_only
@time_limit(1200)
def test_a_stop_leaves_nothing_behind(ctx: Context) -> None:
    """A shrink is refused beside an active or attached copy of the source.

    When stopped while its volumes have devices, it releases them and leaves the disk without a table; the same command
    continues. It continues after SIGKILL, too.
    """
    images, wanted = source(ctx)
    copy = copy_sparse(images, ctx.folder / "images.raw")
    disks = [
        copy, ctx.blank_disk("target.raw", 700 * MIB), ctx.blank_disk("copy.raw", SOURCE_MIB * MIB),
        ctx.blank_disk("scratch.raw", 1024 * MIB),
    ]  # fmt: skip
    said = guest(ctx, "stop", STOP + CHECK.replace("/dev/vda", "/dev/vdb"), disks)
    expect(sums(said) == wanted, "files have changed")
    volumes, _ = lengths(said)
    expect(volumes["root"] < VOLUMES["root"] and volumes["data"] == VOLUMES["data"], f"volumes: {volumes}")
