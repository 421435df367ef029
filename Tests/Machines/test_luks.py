"""LUKS with a known key: only sectors in use are captured, as ciphertext, and the content (a filesystem, or a volume
group with a filesystem) grows and shrinks with its partition.

Everything runs in a guest, because the build machine has no device-mapper. The unused sectors of the source and all
sectors of the targets hold noise, which exposes a used sector that was counted as unused.
"""

from __future__ import annotations

import re

from debian_tree import scratch_directory
from lab import MIB, Context, expect, note, time_limit
from lvm_guest import LVMGuest
from machine import Disk

MODULES = [
    "loop", "dm-crypt", "ecb", "xts", "aes_generic", "aesni-intel", "sha256_generic", "af_alg", "algif_skcipher", "algif_hash",
]  # fmt: skip

# Partition 1 is plain. 2 is a LUKS2 with sectors of 4 KiB. 3 is a LUKS1 with a physical volume and a separate key.
SETUP = """
fail() { echo "GUEST-FAILED $*"; exit 1; }
settle() { for i in 1 2 3 4 5 6 7 8 9 10; do [ -b "$1" ] && return; sleep 0.5; done; fail "no $1"; }
# Prints a command's output after its end: the console cannot take the progress line of every second.
quietly() { "$@" >/tmp/said.log 2>&1 || { status=$?; cat /tmp/said.log; fail "$1 $2 ended with $status"; }; cat /tmp/said.log; }
closed() { dmsetup ls | grep reforge && fail "a mapping is left"; losetup -a | grep . && fail "a loop device is left"; true; }
quick="-q --pbkdf-force-iterations 1000 --cipher aes-xts-plain64"
small="--luks2-metadata-size 16k --luks2-keyslots-size 1m"
mkdir -p /mnt/a /mnt/b /mnt/images /run/cryptsetup
printf first >/tmp/key1; printf 'second\\n' >/tmp/key2; printf wrong >/tmp/key3
/usr/sbin/mke2fs -q -t ext4 /dev/vdb; mount /dev/vdb /mnt/images
printf 'label: gpt\\n,4M\\n,64M\\n,24M\\n' | sfdisk -q /dev/vda; settle /dev/vda3
cryptsetup luksFormat $quick --type luks2 --pbkdf pbkdf2 --sector-size 4096 $small --key-file /tmp/key1 /dev/vda2
cryptsetup luksFormat $quick --type luks1 --key-file /tmp/key2 /dev/vda3
cryptsetup open --key-file /tmp/key1 /dev/vda2 two; cryptsetup open --key-file /tmp/key2 /dev/vda3 three
# Encrypted zeros are noise on the disk.
dd if=/dev/zero of=/dev/mapper/two bs=1M 2>/dev/null || true; dd if=/dev/zero of=/dev/mapper/three bs=1M 2>/dev/null || true
/usr/sbin/mke2fs -q -t ext4 -b 4096 -E lazy_itable_init=1 /dev/mapper/two
pvcreate -q /dev/mapper/three; vgcreate -q vg0 /dev/mapper/three; lvcreate -q -y -Wn -Zn -L 16M -n root vg0
/usr/sbin/mke2fs -q -t ext4 /dev/mapper/vg0-root
mount /dev/mapper/two /mnt/a; mount /dev/mapper/vg0-root /mnt/b
for i in 1 2 3 4 5 6 7 8 9; do dd if=/dev/urandom of="/mnt/a/$i" bs=777 count=$((i * 75)) 2>/dev/null; done
rm /mnt/a/4 /mnt/a/7
for i in 1 2 3; do dd if=/dev/urandom of="/mnt/b/$i" bs=1000 count=$((i * 300)) 2>/dev/null; done
sync; (cd /mnt && sha256sum a/[0-9] b/[0-9]) >/tmp/sums
umount /mnt/a /mnt/b; vgchange -q -an vg0; cryptsetup close two; cryptsetup close three
sha256sum </dev/vda >/tmp/source.sum
"""

CAPTURE = """
reforge capture /dev/vda /mnt/images/wrong.img.zst --luks-key-file /tmp/key3 && fail "a wrong key was taken" || status=$?
[ $status = 77 ] || fail "a wrong key ends with $status"
[ ! -e /mnt/images/wrong.img.zst ] || fail "a wrong key left an image"
closed
quietly reforge capture /dev/vda /mnt/images/one.img.zst --luks-key-file /tmp/key1
grep -q "partition 3: all of this crypto_LUKS counts as used.*none of the given keys opens it" /tmp/said.log || fail "no warning"
closed
quietly reforge inspect /dev/vda --luks-key-file /tmp/key1 --luks-key-file /tmp/key2
grep -Eq "vg0/root +ext4 .* [0-9.]+ MiB +from its allocation map" /tmp/said.log || fail "inspect shows no volume inside"
quietly reforge capture /dev/vda /mnt/images/both.img.zst --luks-key-file /tmp/key1 --luks-key-file /tmp/key2
dd if=/dev/vda of=/mnt/images/disk.raw bs=1M 2>/dev/null
quietly reforge capture /mnt/images/disk.raw /mnt/images/file.img.zst --luks-key-file /tmp/key1 --luks-key-file /tmp/key2
rm /mnt/images/disk.raw
closed
sha256sum </dev/vda | cmp - /tmp/source.sum || fail "the source was written"
for name in one both file; do echo "GUEST-IMAGE $name $(stat -c %s /mnt/images/$name.img.zst)"; done
"""

# `restored` NAME DISK, followed by options of `restore`.
RESTORE = """
restored() {
    name=$1; disk=$2; shift 2
    dd if=/dev/urandom of="$disk" bs=1M 2>/dev/null || true
    quietly reforge restore /mnt/images/both.img.zst "$disk" --yes --no-boot-repair "$@"
    cp /tmp/said.log /tmp/restore.log
    closed
    blockdev --rereadpt "$disk" 2>/dev/null || true
    settle "${disk}3"
    cryptsetup open --key-file /tmp/key1 "${disk}2" two || fail "open 2: $?"
    cryptsetup open --key-file /tmp/key2 "${disk}3" three || fail "open 3: $?"
    vgchange -q -ay vg0
    /usr/sbin/e2fsck -f -n /dev/mapper/two || fail "e2fsck two: $?"
    /usr/sbin/e2fsck -f -n /dev/mapper/vg0-root || fail "e2fsck root: $?"
    mount /dev/mapper/two /mnt/a; mount -o ro /dev/mapper/vg0-root /mnt/b
    (cd /mnt && sha256sum -c /tmp/sums) || fail "files differ"
    echo "GUEST-SIZES $name $(blockdev --getsize64 "${disk}2") $(blockdev --getsize64 /dev/mapper/two) $(stat -f -c %b /mnt/a)" \
        $(blockdev --getsize64 "${disk}3") $(blockdev --getsize64 /dev/mapper/vg0-root) $(stat -f -c %b /mnt/b)
    umount /mnt/a /mnt/b
}
# All targets have the same ids: each disk is wiped before the next restore.
gone() {
    vgchange -q -an vg0; cryptsetup close two; cryptsetup close three
    dd if=/dev/zero of="$1" bs=1M count=2 conv=fsync 2>/dev/null; blockdev --rereadpt "$1" 2>/dev/null || true
}
reforge restore /mnt/images/both.img.zst /dev/vdc --yes --partition 2=rest --luks-key-file /tmp/key3 && fail "grown by a wrong key" || status=$?
[ $status = 77 ] || fail "a wrong key: $status"
restored grown /dev/vdc --partition 2=rest --luks-key-file /tmp/key1
grep -qE "keeps? (its|their) size" /tmp/restore.log && fail "something was left out"
gone /dev/vdc
both="--luks-key-file /tmp/key1 --luks-key-file /tmp/key2"
# Each partition gets half of the added space; the volume grows in the group of the second.
restored proportional /dev/vdc --layout proportional $both
grep -q "vg0/root.*16 MiB.*grow" /tmp/restore.log || fail "the plan does not show the volume"
gone /dev/vdc
restored locked /dev/vdd --partition 2=rest
grep -q "resize2fs /dev/mapper/NAME" /tmp/restore.log || fail "no command for later"
mount /dev/mapper/two /mnt/a; /usr/sbin/resize2fs /dev/mapper/two || fail "resize2fs: $?"; umount /mnt/a
/usr/sbin/e2fsck -f -n /dev/mapper/two || fail "e2fsck behind resize2fs: $?"
gone /dev/vdd
# An attached copy holds the same volumes: nothing shrinks beside it.
reforge restore /mnt/images/both.img.zst /dev/vde --yes --no-boot-repair $both >/tmp/small.log 2>&1 && fail "restored beside a twin" || status=$?
[ $status = 77 ] || { cat /tmp/small.log; fail "beside a twin: $status"; }
cat /tmp/small.log; grep -q "holds a copy of the same crypto_LUKS" /tmp/small.log || fail "the twin is not named"
reforge restore /mnt/images/both.img.zst /dev/vde --yes --no-boot-repair >/tmp/small.log 2>&1 && fail "restored onto less" || status=$?
[ $status = 77 ] || { cat /tmp/small.log; fail "less than it was: $status"; }
cat /tmp/small.log; grep -q "LUKS is made smaller only with its key" /tmp/small.log || fail "no reason"
# The source is wiped: only its image is left.
cp /tmp/sums /tmp/sums.kept; dd if=/dev/zero of=/dev/vda bs=1M count=2 conv=fsync 2>/dev/null; blockdev --rereadpt /dev/vda 2>/dev/null || true
sha256sum </mnt/images/both.img.zst >/tmp/image.sum
# A wrong key is refused before anything is written.
sha256sum </dev/vde >/tmp/target.sum
for keys in "--luks-key-file /tmp/key3" "--luks-key-file /tmp/key1"; do
    reforge restore /mnt/images/both.img.zst /dev/vde --yes --no-boot-repair $keys >/tmp/wrong.log 2>&1 && fail "shrunk by $keys" || status=$?
    [ $status = 77 ] || { cat /tmp/wrong.log; fail "a wrong key: $status"; }
    cat /tmp/wrong.log; grep -q "none of the given keys.* opens the LUKS volume" /tmp/wrong.log || fail "no word of the key"
done
sha256sum </dev/vde | cmp - /tmp/target.sum || fail "written with a wrong key"
# With a stream, a wrong key is detected only after the data arrived; the right key then continues.
reforge restore - /dev/vde --yes --no-boot-repair --luks-key-file /tmp/key3 </mnt/images/both.img.zst >/tmp/wrong.log 2>&1 && fail "shrunk by a wrong key" || status=$?
[ $status = 74 ] || { cat /tmp/wrong.log; fail "a wrong key: $status"; }
cat /tmp/wrong.log; grep -q "none of the given keys opens its LUKS volume" /tmp/wrong.log || fail "no word of the key"
blkid -p /dev/vde | grep -q PTTYPE && fail "a table before the end"
restored shrunk /dev/vde $both
gone /dev/vde
sha256sum </mnt/images/both.img.zst | cmp - /tmp/image.sum || fail "the image was written"
"""


@time_limit(500)
def test_used_sectors_and_sizes(ctx: Context) -> None:
    """Captures with a wrong key, one key, both keys; restores onto larger and smaller disks, with and without keys."""
    lab = LVMGuest(scratch_directory(), ctx.binary, programs=["cryptsetup", "resize2fs", "blkid"], modules=MODULES)
    initrd = lab.initramfs(ctx.folder, SETUP + CAPTURE + RESTORE)
    sizes = {"source": 96, "images": 256, "larger": 128, "another": 128, "smaller": 72}
    disks = [Disk(ctx.blank_disk(f"{name}.raw", size * MIB), "virtio", name) for name, size in sizes.items()]
    with ctx.machine(
        "luks", kernel=lab.kernel, initrd=initrd, append="console=ttyS0,115200n8 loglevel=4 panic=-1", disks=disks,
        memory=768, time_limit=450,
    ) as machine:  # fmt: skip
        end = machine.wait_for(r"^GUEST-END (\d+)", 450, unless=r"GUEST-FAILED.*|Kernel panic")
        expect(end[1] == "0", f"the script ended with {end[1]}\n{machine.tail(60)}")
        note(f"{machine.wait_for_exit(60):.0f} s from power-on")
        said = machine.text()
    images = {name: int(size) for name, size in re.findall(r"^GUEST-IMAGE (\w+) (\d+)", said, re.MULTILINE)}
    note(f"images: {images}")
    # 64 and 24 MiB of ciphertext do not compress. Some MiB of files, journals and key slots are in use.
    expect(24 * MIB < images["one"] < 44 * MIB, "with one key")
    expect(images["both"] < 24 * MIB and abs(images["file"] - images["both"]) < MIB, "with both keys")
    places = {
        name: [int(number) for number in numbers.split()]
        for name, numbers in re.findall(r"^GUEST-SIZES (\w+) ([\d ]+)", said, re.MULTILINE)
    }
    note(f"sizes of partition 2, its mapping, its blocks, and of partition 3, its volume, its blocks: {places}")
    with_key, without = places["grown"], places["locked"]
    expect(with_key[:2] == without[:2] and with_key[0] > 90 * MIB, "the partition has not grown")
    expect(with_key[0] - with_key[1] < 4 * MIB, "LUKS has not grown")
    # 31 MiB more in blocks of 4 KiB, minus metadata.
    expect(with_key[2] > without[2] + 24 * 256, "the filesystem has not grown")
    # The group in partition 3 had a volume of 16 MiB in 24.
    expect(with_key[4] == 16 * MIB, "the volume has grown although its partition has not")
    shared, shrunk = places["proportional"], places["shrunk"]
    expect(shared[0] > 80 * MIB and shared[3] > 30 * MIB, "the partitions have not shared the added space")
    expect(shared[4] > 16 * MIB and shared[5] > with_key[5], "the volume and its filesystem have not grown")
    expect(shrunk[0] < 64 * MIB and shrunk[2] < without[2], "the filesystem has not shrunk")
    expect(shrunk[3] < 24 * MIB and shrunk[4] < 16 * MIB and shrunk[5] < with_key[5], "the volume has not shrunk")
