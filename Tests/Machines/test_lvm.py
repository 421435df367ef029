"""A machine that runs from logical volumes is captured while it writes: the image holds the state at the moment of the
snapshots, and no snapshot outlives the capture, however it ends.

Everything runs in a guest, because the build machine has no device-mapper.
"""

from __future__ import annotations

import re
from pathlib import Path

from debian_tree import scratch_directory
from lab import GIB, MIB, Context, expect, full_only, note, time_limit
from lvm_guest import LVMGuest
from machine import Disk

# A disk with a plain partition and a group of three volumes: two mounted, one not. 20 % of the group is free.
SETUP = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
snapshots() { lvs --noheadings -o lv_name 2>/dev/null | grep -c reforge-snap || true; }
printf 'label: gpt\\n,64M\\n,\\n' | sfdisk -q /dev/vda; settle /dev/vda2
/usr/sbin/mke2fs -q -t ext4 -L plain /dev/vda1
pvcreate -q --pvmetadatacopies 2 /dev/vda2; vgcreate -q vg0 /dev/vda2
# `root` has two segments, the second before the first on the disk.
lvcreate -q -y -Wn -Zn -L 100M -n gone vg0; lvcreate -q -y -Wn -Zn -L 200M -n root vg0
lvremove -q -y vg0/gone; lvextend -q -L +100M vg0/root
lvcreate -q -y -Wn -Zn -L 150M -n home vg0; lvcreate -q -y -Wn -Zn -L 32M -n idle vg0
/usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg0-root; /usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg0-home
dd if=/dev/urandom of=/dev/mapper/vg0-idle bs=1M count=32 2>/dev/null
mkdir -p /mnt/root /mnt/home /mnt/images /mnt/back
mount /dev/mapper/vg0-root /mnt/root; mount /dev/mapper/vg0-home /mnt/home
for place in root home; do
    mkdir "/mnt/$place/files"
    for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of="/mnt/$place/files/$i" bs=64k count=$((i * 12)) 2>/dev/null; done
done
sync
(cd /mnt && sha256sum root/files/* home/files/*) >/tmp/files.sums
sha256sum </dev/mapper/vg0-idle >/tmp/idle.sum
/usr/sbin/mke2fs -q -t ext4 /dev/vdb; mount /dev/vdb /mnt/images

# The worker process of $pid.
worker() { cat /proc/$pid/task/$pid/children; }
# Starts a capture, stops it as soon as both snapshots exist, and sets $pid.
capture_and_stop() {
    reforge capture /dev/vda "$1" --snapshot >/tmp/capture.log 2>&1 &
    pid=$!
    for i in $(seq 1 300); do
        [ "$(snapshots)" = 2 ] && break
        kill -0 $pid 2>/dev/null || { cat /tmp/capture.log; fail "the capture ended before its snapshots were seen"; }
        sleep 0.1
    done
    # Time for the capture to start reading.
    sleep 3
    kill -STOP $(worker)
    echo "CAPTURE-STOPPED with $(snapshots) snapshots"
    [ "$(snapshots)" = 2 ] || fail "$(snapshots) snapshots"
}
# Changes every file: data read past the snapshots is wrong from here on.
overwrite() {
    for place in root home; do
        for i in 1 2 3 4 5 6 7 8; do
            dd if=/dev/urandom of="/mnt/$place/files/$i" bs=64k count=$((i * 12)) conv=notrunc 2>/dev/null
        done
        dd if=/dev/urandom of="/mnt/$place/new" bs=1M count=20 2>/dev/null
        rm "/mnt/$place/files/3"
    done
    sync
}
guards() { for one in /proc/[0-9]*; do grep -qs snapshot-guard "$one/cmdline" && echo "${one#/proc/}"; done; true; }
nothing_left() {
    [ "$(snapshots)" = 0 ] || { lvs; fail "snapshots are left"; }
    dmsetup table | grep -E ' snapshot| snapshot-origin' && fail "the kernel still has snapshots"
    true
}
"""

RESTORE = """
umount /mnt/root /mnt/home; vgchange -q -an vg0
# The source is wiped, because its group has the same name and ids.
dd if=/dev/zero of=/dev/vda2 bs=1M count=2 conv=fsync 2>/dev/null; blockdev --flushbufs /dev/vda2
reforge restore "$image" /dev/vdc --yes --layout keep --no-boot-repair || fail "the restore ended with $?"
blockdev --rereadpt /dev/vdc 2>/dev/null || true
settle /dev/vdc2
vgck vg0 || fail "vgck"
echo "GUEST-VOLUMES $(lvs -a --noheadings -o lv_name vg0 | tr -s ' \\n' ' ')"
echo "GUEST-TAGS $(lvs -a --noheadings -o lv_tags vg0 | tr -s ' \\n' ' ')"
vgchange -q -ay vg0
for name in root home; do
    /usr/sbin/e2fsck -f -n "/dev/mapper/vg0-$name" || fail "e2fsck of $name: $?"
    mkdir -p "/mnt/back/$name"; mount -o ro "/dev/mapper/vg0-$name" "/mnt/back/$name"
done
(cd /mnt/back && sha256sum -c /tmp/files.sums) || fail "files differ"
[ ! -e /mnt/back/root/new ] || fail "a later file is in the image"
sha256sum </dev/mapper/vg0-idle | cmp - /tmp/idle.sum || fail "the idle volume differs"
umount /mnt/back/root /mnt/back/home; vgchange -q -an vg0
"""


def guest(ctx: Context, name: str, script: str, seconds: float = 400) -> str:
    """Runs a script in a guest with three disks; gives the console's text. Fails on `GUEST-FAILED` or a bad status."""
    lab = LVMGuest(scratch_directory(), ctx.binary)
    initrd = lab.initramfs(ctx.folder, script)
    disks = [Disk(ctx.blank_disk(f"{letter}.raw", GIB), "virtio", letter.upper()) for letter in ("source", "images", "target")]
    with ctx.machine(
        name, kernel=lab.kernel, initrd=initrd, append="console=ttyS0,115200n8 loglevel=4 panic=-1", disks=disks,
        memory=768, time_limit=seconds,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", seconds, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        note(f"{machine.wait_for_exit(60):.0f} s from power-on")
        return machine.text()


@time_limit(500)
def test_snapshots_hold_a_running_machine_still(ctx: Context) -> None:
    """Every file of two mounted volumes is overwritten during the capture; the restored files have the old contents."""
    said = guest(
        ctx, "image",
        SETUP + """
image=/mnt/images/a.img.zst
capture_and_stop "$image"
overwrite
kill -CONT $(worker)
wait $pid || { cat /tmp/capture.log; fail "the capture ended with $?"; }
cat /tmp/capture.log
nothing_left
""" + RESTORE,
    )  # fmt: skip
    volumes = re.search(r"^GUEST-VOLUMES (.*)$", said, re.MULTILINE)
    expect(volumes is not None and sorted(volumes[1].split()) == ["home", "idle", "root"], f"volumes: {volumes}")
    tags = re.search(r"^GUEST-TAGS(.*)$", said, re.MULTILINE)
    expect(tags is not None and not tags[1].strip(), f"tags: {tags}")


@full_only
@time_limit(500)
def test_snapshots_go_into_a_repository(ctx: Context) -> None:
    """Two captures into a repository; files are overwritten during the second, which restores the old contents."""
    guest(
        ctx, "repository",
        SETUP + """
reforge init-repo /mnt/images/repo
reforge capture /dev/vda /mnt/images/repo@ --snapshot || fail "the first capture ended with $?"
nothing_left
capture_and_stop /mnt/images/repo@
overwrite
kill -CONT $(worker)
wait $pid || { cat /tmp/capture.log; fail "the capture ended with $?"; }
cat /tmp/capture.log
nothing_left
image=/mnt/images/repo@latest
""" + RESTORE,
    )  # fmt: skip


@full_only
@time_limit(500)
def test_no_snapshot_outlives_its_capture(ctx: Context) -> None:
    """Captures killed, killed together with their guard, interrupted, out of space, and refused."""
    guest(
        ctx, "guard",
        SETUP + """
echo "--- kill -9"
capture_and_stop /mnt/images/b.img.zst
kill -KILL $pid; wait $pid || true
for i in $(seq 1 60); do [ "$(snapshots)" = 0 ] && break; sleep 0.5; done
nothing_left
# The guard checks repeatedly for a while.
for i in $(seq 1 60); do [ -z "$(guards)" ] && break; sleep 0.5; done

echo "--- kill -9, and the guard too: the next capture cleans up"
capture_and_stop /mnt/images/b.img.zst
kill -KILL $(guards); kill -KILL $pid; wait $pid || true
sleep 2
[ "$(snapshots)" = 2 ] || fail "leftovers: $(snapshots)"
reforge capture /dev/vda /mnt/images/c.img.zst --snapshot >/tmp/capture.log 2>&1 || fail "after leftovers: $?"
cat /tmp/capture.log
[ "$(grep -c 'Removed the snapshot' /tmp/capture.log)" = 2 ] || fail "the leftovers were not reported"
nothing_left
rm /mnt/images/c.img.zst

echo "--- SIGTERM"
capture_and_stop /mnt/images/b.img.zst
kill -TERM $pid; kill -CONT $(worker)
status=0; wait $pid || status=$?
cat /tmp/capture.log
[ $status = 75 ] || fail "interrupted: $status"
nothing_left

echo "--- another capture's snapshots"
capture_and_stop /mnt/images/b.img.zst
status=0; reforge capture /dev/vda /mnt/images/d.img.zst --snapshot 2>/tmp/refused || status=$?
cat /tmp/refused
[ $status = 77 ] || fail "two at once: $status"
[ "$(snapshots)" = 2 ] || fail "it removed another's: $(snapshots)"
kill -TERM $pid; kill -CONT $(worker); wait $pid || true
nothing_left

echo "--- out of room"
lvcreate -q -y -Wn -Zn -l $(($(vgs --noheadings -o vg_free_count vg0) - 8)) -n filler vg0
capture_and_stop /mnt/images/b.img.zst
overwrite
kill -CONT $(worker)
status=0; wait $pid || status=$?
cat /tmp/capture.log
[ $status = 74 ] || fail "out of room: $status"
grep -q 'ran out of room' /tmp/capture.log || fail "out of room is not reported"
nothing_left

echo "--- no room at all"
lvextend -q -l +100%FREE vg0/filler
status=0; reforge capture /dev/vda /mnt/images/b.img.zst --snapshot 2>/tmp/refused || status=$?
cat /tmp/refused
[ $status = 77 ] || fail "no room: $status"
grep -q 'no free space' /tmp/refused || fail "no room is not reported"
nothing_left
[ -z "$(ls /mnt/images | grep -v lost)" ] || { ls -la /mnt/images; fail "something is left of the failed captures"; }
umount /mnt/root /mnt/home; vgchange -q -an vg0
""",
    )  # fmt: skip


@time_limit(500)
def test_what_no_snapshot_holds_still_is_refused(ctx: Context) -> None:
    """A group on another mapping of the disk (as with LUKS) is refused: its snapshots are not on the disk itself."""
    guest(
        ctx, "covered",
        """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
printf 'label: gpt\\n,96M\\n,96M\\n' | sfdisk -q /dev/vda; settle /dev/vda2
dmsetup create cover --table "0 163840 linear /dev/vda1 32768"
mkdir -p /mnt/images /mnt/covered /mnt/plain
/usr/sbin/mke2fs -q -t ext4 /dev/vdb; mount /dev/vdb /mnt/images
make() {
    pvcreate -q "$1"; vgcreate -q "$2" "$1"; lvcreate -q -y -Wn -Zn -L 48M -n root "$2"
    /usr/sbin/mke2fs -q -t ext4 "/dev/mapper/$2-root"; mount "/dev/mapper/$2-root" "$3"
}
refused() {
    status=0; reforge capture /dev/vda /mnt/images/a --snapshot >/tmp/log 2>&1 || status=$?
    cat /tmp/log
    [ $status = 77 ] || fail "$1: $status"
    grep -q "$2" /tmp/log || fail "$1: $2 is not named"
    [ ! -e /mnt/images/a ] || fail "$1: an image"
    [ "$(lvs --noheadings -o lv_name | grep -c reforge-snap)" = 0 ] || fail "$1: a snapshot"
}
make /dev/mapper/cover vg1 /mnt/covered
refused covered /mnt/covered
make /dev/vda2 vg0 /mnt/plain
refused mixed /mnt/covered
reforge capture /dev/vda /mnt/images/b --snapshot --allow-mounted || fail "allowed: $?"
umount /mnt/covered
sleep 1000 </dev/mapper/vg1-root & opener=$!
sleep 1
refused open /dev/vg1/root
kill $opener; wait $opener || true
reforge capture /dev/vda /mnt/images/c --snapshot || fail "the plain group alone: $?"
umount /mnt/plain; vgchange -q -an vg0 vg1
""",
    )  # fmt: skip
