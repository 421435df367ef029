# SPDX-License-Identifier: GPL-3.0-or-later
# independent reader used to check the facts: restores a partclone v2 image to raw, verifying every checksum
import sys,struct,zlib
def jam(b,c=0xffffffff):  # reflected CRC-32, seed all ones, no final inversion
    return zlib.crc32(b, c ^ 0xffffffff) ^ 0xffffffff
d=open(sys.argv[1],'rb').read()
assert d[:15]==b'partclone-image'
ver=d[30:34]
magic,ptc,v,endi=struct.unpack_from('<16s14s4sH',d,0)
fs,dev,total,usedsb,used,bs=struct.unpack_from('<16sQQQQI',d,36)
fsize,iv,cpu,csm,css,bpc,reseed,bm=struct.unpack_from('<IHHHHIBB',d,88)
crc,=struct.unpack_from('<I',d,106)
print(dict(ptc=ptc.rstrip(b'\0'),v=v,endi=hex(endi),fs=fs.rstrip(b'\0'),dev=dev,total=total,usedsb=usedsb,used=used,bs=bs,fsize=fsize,iv=iv,cpu=cpu,csm=hex(csm),css=css,bpc=bpc,reseed=reseed,bm=bm))
assert jam(d[:106])==crc,'header crc'
o=110; n=(total+7)//8; bits=d[o:o+n]; o+=n
assert struct.unpack_from('<I',d,o)[0]==jam(bits),'bitmap crc'; o+=4
blocks=[i for i in range(total) if bits[i>>3]>>(i&7)&1]
print('bits set',len(blocks))
out=bytearray(max(dev,total*bs)); c=0xffffffff; k=0; chk=0
for b in blocks:
    blk=d[o:o+bs]; o+=bs; assert len(blk)==bs
    out[b*bs:(b+1)*bs]=blk
    if csm==0x20:
        c=jam(blk,c); k+=1
        if k==bpc:
            assert struct.unpack_from('<I',d,o)[0]==c,('strip',b); o+=4; k=0; chk+=1
            if reseed: c=0xffffffff
if csm==0x20 and k:
    assert struct.unpack_from('<I',d,o)[0]==c; o+=4; chk+=1
print('checksums',chk,'left over',len(d)-o)
if len(sys.argv)>2: open(sys.argv[2],'wb').write(out)
