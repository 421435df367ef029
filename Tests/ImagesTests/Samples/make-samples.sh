#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes partclone images of small filesystems with partclone itself, plain and as Clonezilla and FOG name them.
# Needs: partclone, e2fsprogs, dosfstools, mtools, ntfs-3g, xfsprogs, btrfs-progs, exfatprogs, f2fs-tools, gzip, zstd, xz. Root only for xfs (loop mount).
set -eu
out=${1:?folder}; mkdir -p "$out"; cd "$out"
mkdir -p tree/dir
seq 1 200000 > tree/dir/numbers; head -c 3000000 /dev/urandom > tree/random; printf 'hello\n' > tree/hello; dd if=/dev/zero of=tree/zeros bs=1M count=2 status=none
truncate -s 96M ext4.raw; mke2fs -q -F -t ext4 -L CZEXT4 -U 11111111-1111-4111-8111-111111111111 -d tree ext4.raw
truncate -s 32M ext1k.raw; mke2fs -q -F -t ext2 -b 1024 -L CZEXT2 -d tree ext1k.raw
truncate -s 64M fat.raw; mkfs.fat -F 32 -n CZFAT -i 12345678 fat.raw >/dev/null; mcopy -s -i fat.raw tree/* ::
truncate -s 48M ntfs.raw; mkntfs -q -F -L CZNTFS ntfs.raw >/dev/null 2>&1; ntfscp -f ntfs.raw tree/random random >/dev/null 2>&1; ntfscp -f ntfs.raw tree/hello hello >/dev/null 2>&1
if [ "$(id -u)" = 0 ] && truncate -s 310M xfs.raw && mkfs.xfs -f -q -L CZXFS xfs.raw && mkdir -p mnt && mount -o loop xfs.raw mnt; then
  cp -r tree/* mnt/; umount mnt
else
  rm -f xfs.raw
fi
truncate -s 120M btrfs.raw; mkfs.btrfs -f -q -L CZBTRFS --rootdir tree btrfs.raw
truncate -s 64M exfat.raw; mkfs.exfat -L CZEXFAT exfat.raw >/dev/null
for pair in ext4:ext4 ext1k:ext2 fat:fat32 ntfs:ntfs xfs:xfs btrfs:btrfs exfat:exfat; do
  fs=${pair%%:*}; tool=partclone.${pair##*:}
  [ -e $fs.raw ] && command -v $tool >/dev/null || { echo "no $tool" >&2; continue; }
  $tool -c -s $fs.raw -O $fs.ptcl -L $fs.log >/dev/null 2>&1 || echo "$tool failed" >&2
done
# checksum variants of one filesystem
partclone.ext4 -c -a0    -s ext4.raw -O ext4.a0.ptcl -L log >/dev/null 2>&1       # no checksums
partclone.ext4 -c -a1 -k 7 -s ext4.raw -O ext4.k7.ptcl -L log >/dev/null 2>&1     # CRC32 every 7 blocks
partclone.ext4 -c -a1 -k 7 -K -s ext4.raw -O ext4.k7K.ptcl -L log >/dev/null 2>&1 # the same without a reset after each
partclone.ext4 -c -z 10485760 -s ext4.raw -O ext4.z10.ptcl -L log >/dev/null 2>&1 # as Clonezilla calls it: strips of 2560 blocks
partclone.dd -s fat.raw -O fat.dd -L log >/dev/null 2>&1
# as Clonezilla names them
gzip -c --fast ext4.z10.ptcl | split -a 2 -b 1MB - sda2.ext4-ptcl-img.gz.
zstd -q -c -3 ext4.z10.ptcl > sda3.ext4-ptcl-img.zst
zstd -q -c -3 ntfs.ptcl | split -a 2 -b 1MB - sda5.ntfs-ptcl-img.zst.
xz -c -1 fat.ptcl > sda1.vfat-ptcl-img.xz
cp btrfs.ptcl sda4.btrfs-ptcl-img.uncomp
