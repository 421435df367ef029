// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

@testable import DiskImages

extension Judge {
    /// The header of a virtual machine's disk image: what it names is bounded, and a length is plausible.
    static func virtual(_ reader: any BlockReader) throws {
        for kind in [VMDKExtent.Kind.sparse, .vmfsSparse, .seSparse] {
            _ = try? VMDKHeader.sectorCount(ofExtent: reader, kind)
        }
        guard let header = try? VirtualHeader.read(reader) else { return }
        guard header.format != .raw else { return }
        try demand(header.byteCount > 0 && header.byteCount <= VirtualHeader.largest, "a disk of \(header.byteCount)")
        try? header.qcowTables?.check(reader, data: nil)
        if let plain = header.plainByteCount { try demand(plain <= reader.byteCount, "more bytes than the file has") }
        var sectorCount: UInt64 = 0
        for extent in header.extents ?? [] {
            sectorCount += extent.sectorCount
            try demand(extent.sectorCount > 0 && (extent.name == nil) == (extent.kind == .zero), "the extent \(extent)")
        }
        if header.extents != nil { try demand(sectorCount * 512 == header.byteCount, "parts of another length") }
        try demand(try VirtualHeader.read(reader) == header, "another header the second time")
    }
}
