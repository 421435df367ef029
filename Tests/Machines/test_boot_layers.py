"""Boot repair of systems inside of LUKS (with LVM, and without) and on RAID 1: the files are corrected, both members
of an array hold the same afterwards, and nothing is left open.

Everything runs in a guest, because the build machine has neither device-mapper nor md.
"""

from __future__ import annotations

from debian_tree import scratch_directory
from lab import MIB, Context, expect, note, time_limit
from lvm_guest import LVMGuest
from machine import Disk
from test_luks import MODULES

# Disk vda: LUKS with a system, swap, LUKS with a group. Disk vdb: two of three members of an array, swap.
SETUP = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
closed() {
    dmsetup ls | grep -v "No devices" && fail "a mapping is left"; losetup -a | grep . && fail "a loop device is left"
    grep "^md" /proc/mdstat && fail "an array is left"; grep /run/reforge /proc/mounts && fail "a mount is left"; true
}
# Prints a command's output after its end; gives its status in $status.
tried() { status=0; "$@" >/tmp/said.log 2>&1 || status=$?; cat /tmp/said.log; }
# system FOLDER ROOT SWAP CRYPTTAB: the files that boot repair reads.
system() {
    mkdir -p "$1/etc" "$1/boot" "$1/usr/bin"
    printf 'ID=debian\\nPRETTY_NAME="A system inside"\\n' >"$1/etc/os-release"
    printf '%s / ext4 defaults 0 1\\n%s none swap sw 0 0\\n' "$2" "$3" >"$1/etc/fstab"
    echo kernel >"$1/boot/vmlinuz-6.1.0-9-amd64"
    [ -z "$4" ] || echo "$4" >"$1/etc/crypttab"
}
quick="-q --pbkdf-force-iterations 1000 --cipher aes-xts-plain64 --luks2-metadata-size 16k --luks2-keyslots-size 1m"
mkdir -p /mnt/a /run/cryptsetup
printf first >/tmp/key1; printf second >/tmp/key2; printf wrong >/tmp/key3
printf 'label: gpt\\n,64M\\n,16M\\n,64M\\n' | sfdisk -q /dev/vda; settle /dev/vda3
/usr/sbin/mkswap /dev/vda2
cryptsetup luksFormat $quick --type luks2 --pbkdf pbkdf2 --key-file /tmp/key1 /dev/vda1
cryptsetup open --key-file /tmp/key1 /dev/vda1 inside; /usr/sbin/mke2fs -q -t ext4 /dev/mapper/inside
mount /dev/mapper/inside /mnt/a; system /mnt/a /dev/mapper/root_crypt /dev/sda2 "root_crypt /dev/sda1 none luks"
umount /mnt/a; cryptsetup close inside
printf 'label: gpt\\n,48M\\n,48M\\n,16M\\n' | sfdisk -q /dev/vdb; settle /dev/vdb3
/usr/sbin/mkswap /dev/vdb3
mdadm --create /dev/md0 --run --level=1 --raid-devices=3 --metadata=1.2 --bitmap=none --assume-clean /dev/vdb1 /dev/vdb2 missing
/usr/sbin/mke2fs -q -t ext4 /dev/md0; mount /dev/md0 /mnt/a; system /mnt/a /dev/md0 /dev/sda3 ""
umount /mnt/a; mdadm --stop /dev/md0
closed
"""

REPAIR = """
swap=$(/usr/sbin/blkid -o value -s UUID /dev/vda2); luks=$(/usr/sbin/blkid -o value -s UUID /dev/vda1)
sha256sum </dev/vda >/tmp/before.sum
tried reforge boot-repair /dev/vda --luks-key-file /tmp/key3
grep -q "no given key opens it" /tmp/said.log || fail "a wrong key: $status"
tried reforge boot-repair /dev/vda --dry-run --luks-key-file /tmp/key1
sha256sum </dev/vda | cmp - /tmp/before.sum || fail "written without a key, or by a dry run"
closed
tried reforge boot-repair /dev/vda --luks-key-file /tmp/key3 --luks-key-file /tmp/key1
grep -q "rewrote /etc/fstab" /tmp/said.log || fail "fstab was not rewritten: $status"
closed
cryptsetup open --readonly --key-file /tmp/key1 /dev/vda1 inside; /usr/sbin/e2fsck -f -n /dev/mapper/inside || fail "e2fsck: $?"
mount -o ro /dev/mapper/inside /mnt/a; cat /mnt/a/etc/fstab /mnt/a/etc/crypttab
grep -q "^UUID=$swap none swap" /mnt/a/etc/fstab || fail "fstab"
grep -q "^root_crypt UUID=$luks none" /mnt/a/etc/crypttab || fail "crypttab"
umount /mnt/a; cryptsetup close inside
tried reforge boot-repair /dev/vda --dry-run --luks-key-file /tmp/key1
grep -q "rewrite " /tmp/said.log && fail "it is not repaired for good"
# A group in another LUKS: two systems, and the first stays chosen; then only the second.
cryptsetup luksFormat $quick --type luks2 --pbkdf pbkdf2 --key-file /tmp/key2 /dev/vda3
cryptsetup open --key-file /tmp/key2 /dev/vda3 inside
pvcreate -q /dev/mapper/inside; vgcreate -q vg7 /dev/mapper/inside; lvcreate -q -y -Wn -Zn -L 32M -n root vg7
/usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg7-root
mount /dev/mapper/vg7-root /mnt/a; system /mnt/a /dev/mapper/vg7-root /dev/sda2 "pv_crypt /dev/sda3 none luks"
umount /mnt/a; vgchange -q -an vg7; cryptsetup close inside
tried reforge boot-repair /dev/vda --luks-key-file /tmp/key2
closed
cryptsetup open --readonly --key-file /tmp/key2 /dev/vda3 inside; vgchange -q -ay vg7
mount -o ro /dev/mapper/vg7-root /mnt/a; cat /mnt/a/etc/fstab /mnt/a/etc/crypttab
grep -q "^UUID=$swap none swap" /mnt/a/etc/fstab || fail "fstab in the group"
grep -q "^pv_crypt UUID=" /mnt/a/etc/crypttab || fail "crypttab in the group"
umount /mnt/a; vgchange -q -an vg7; cryptsetup close inside
# The array.
swap=$(/usr/sbin/blkid -o value -s UUID /dev/vdb3)
sha256sum </dev/vdb >/tmp/before.sum
tried reforge boot-repair /dev/vdb --dry-run
grep -q "rewrite /etc/fstab" /tmp/said.log || fail "the array's system was not found: $status"
grep -q "fstab-root-elsewhere" /tmp/said.log && fail "the array is not taken for the root"
sha256sum </dev/vdb | cmp - /tmp/before.sum || fail "a look at the array wrote"
tried reforge boot-repair /dev/vdb
closed
mdadm --assemble --run --config=none /dev/md0 /dev/vdb1 /dev/vdb2; cat /proc/mdstat
grep -q "UU_" /proc/mdstat || fail "a member was lost"
/usr/sbin/e2fsck -f -n /dev/md0 || fail "e2fsck of the array: $?"
mount -o ro /dev/md0 /mnt/a; cat /mnt/a/etc/fstab
grep -q "^UUID=$swap none swap" /mnt/a/etc/fstab || fail "fstab on the array"
umount /mnt/a; mdadm --stop /dev/md0
for i in 1 2; do dd if=/dev/vdb$i bs=1M skip=1 2>/dev/null | sha256sum; done | uniq | wc -l | grep -qx 1 || fail "the members differ"
closed
"""


@time_limit(400)
def test_systems_inside_of_containers(ctx: Context) -> None:
    """LUKS with an ext4, LUKS with a group, a degraded array: repaired, and closed again."""
    modules = [*MODULES, "md-mod", "raid1"]
    lab = LVMGuest(scratch_directory(), ctx.binary, programs=["cryptsetup", "blkid", "mdadm"], modules=modules)
    initrd = lab.initramfs(ctx.folder, SETUP + REPAIR)
    disks = [Disk(ctx.blank_disk(f"{name}.raw", size * MIB), "virtio", name) for name, size in {"luks": 160, "array": 128}.items()]
    with ctx.machine(
        "layers", kernel=lab.kernel, initrd=initrd, append="console=ttyS0,115200n8 loglevel=4 panic=-1", disks=disks,
        memory=768, time_limit=350,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 350, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        note(f"{machine.wait_for_exit(60):.0f} s from power-on")
