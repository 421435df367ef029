# SPDX-License-Identifier: GPL-3.0-or-later
# partclone image version 0002 (CRC-32 or none) -> version 0001, to have inputs that no current program writes. usage: make-v1.py IN OUT [8]
import sys,struct,zlib
d=open(sys.argv[1],'rb').read(); wide=len(sys.argv)>3
fs=d[36:52].rstrip(b'\0'); dev,total,_,used=struct.unpack_from('<QQQQ',d,52); bs,=struct.unpack_from('<I',d,84); csm,css,bpc=struct.unpack_from('<HHI',d,96)
o=110; n=(total+7)//8; bits=d[o:o+n]; o+=n+4
out=bytearray(b'partclone-image'+fs.ljust(15,b'\0')+b'0001'+b'\0\0'+struct.pack('<iQQQ',bs,total*bs,total,used)+bytes(4096)); assert len(out)==4160
out+=bytes(bits[i>>3]>>(i&7)&1 for i in range(total))+b'BiTmAgIc'
k=0; c=0xffffffff; tab={}
def step(c,b,n):  # n times the same byte, CRC state as it is; runs on from block to block
    return zlib.crc32(bytes([b])*n,c^0xffffffff)^0xffffffff
for i in range(total):
    if not bits[i>>3]>>(i&7)&1: continue
    blk=d[o:o+bs]; o+=bs; k+=1
    if css and k%bpc==0: o+=css
    c=step(c,blk[0],bs)
    out+=blk+struct.pack('<I',c)+(bytes(4) if wide else b'')
open(sys.argv[2],'wb').write(out)
