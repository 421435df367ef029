// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The header of a VMDK image: a sparse extent with its descriptor, or a descriptor alone (VMware, *Virtual Disk Format
/// 5.0*).
enum VMDKHeader {
    private static let sparseMagic = Array("KDMV".utf8)
    private static let vmfsMagic = Array("COWD".utf8)
    private static let seSparseMagic: UInt64 = 0xCAFE_BABE
    /// The place of the grain directory of a stream-optimized extent: its real header is at its end.
    private static let atEnd = UInt64.max

    private struct Sparse {
        var capacity: UInt64
        var descriptorOffset: UInt64
        var descriptorSectorCount: UInt64
        var directoryOffset: UInt64

        init(_ bytes: [UInt8]) throws(ParsingError) {
            capacity = try bytes.littleEndian(UInt64.self, at: 12)
            descriptorOffset = try bytes.littleEndian(UInt64.self, at: 28)
            descriptorSectorCount = try bytes.littleEndian(UInt64.self, at: 36)
            directoryOffset = try bytes.littleEndian(UInt64.self, at: 56)
        }
    }

    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        let head = try file.part(at: 0, count: Int(min(file.byteCount, 512)))
        guard head.starts(with: sparseMagic) else {
            guard file.byteCount <= UInt64(VMDKDescriptor.longest) else {
                throw file.damaged("its descriptor is too long", at: 0)
            }
            let text = try file.part(at: 0, count: Int(file.byteCount))
            return try described(try VMDKDescriptor(text, of: file), file)
        }
        let first = try file.parsing(at: 0) { () throws(ParsingError) in try Sparse(head) }
        let sparse = try last(first, head, file)
        guard first.descriptorOffset != 0, first.descriptorSectorCount != 0 else {
            throw file.refused(
                "it is one part of a VMDK of several files", instead: "Give the small file that names its parts")
        }
        guard sparse.capacity > 0, sparse.capacity <= VirtualHeader.largest / 512,
            first.descriptorSectorCount <= UInt64(VMDKDescriptor.longest / 512),
            first.descriptorOffset <= VirtualHeader.largest / 512
        else { throw file.damaged("the measures in its header", at: 12) }
        let text = try file.part(
            at: first.descriptorOffset * 512, count: Int(first.descriptorSectorCount) * 512)
        let descriptor = try VMDKDescriptor(text, of: file)
        guard descriptor.extents.count <= 1 else { throw file.damaged("it names several parts", at: 0) }
        var header = VirtualHeader(format: .vmdk, byteCount: sparse.capacity * 512)
        try take(descriptor, &header, file)
        return header
    }

    /// The header that counts: of a stream-optimized extent, the one before the end-of-stream marker. Its tables are
    /// checked.
    private static func last(_ first: Sparse, _ head: [UInt8], _ file: any BlockReader) throws(ImageError) -> Sparse {
        guard first.directoryOffset == atEnd else {
            try file.parsing(at: 0) { () throws(ParsingError) in try VMDKTables(head) }.check(file)
            return first
        }
        guard file.byteCount >= 2048 else { throw .truncated(name: file.name, at: file.byteCount) }
        let place = file.byteCount - 1024
        let bytes = try file.part(at: place, count: 512)
        guard bytes.starts(with: sparseMagic) else {
            throw file.damaged(
                "the footer of a stream-optimized VMDK is missing: it was not written to its end", at: place)
        }
        let (last, tables) = try file.parsing(at: place) { () throws(ParsingError) in
            (try Sparse(bytes), try VMDKTables(bytes))
        }
        try tables.check(file)
        return last
    }

    private static func described(
        _ descriptor: VMDKDescriptor, _ file: any BlockReader
    ) throws(ImageError) -> VirtualHeader {
        var sectorCount: UInt64 = 0
        for extent in descriptor.extents {
            sectorCount += extent.sectorCount
            guard sectorCount <= VirtualHeader.largest / 512 else {
                throw file.damaged("the length of its disk", at: 0)
            }
        }
        guard !descriptor.extents.isEmpty else { throw file.damaged("it names no part of a disk", at: 0) }
        var header = VirtualHeader(format: .vmdk, byteCount: sectorCount * 512)
        header.extents = descriptor.extents
        try take(descriptor, &header, file)
        return header
    }

    private static func take(
        _ descriptor: VMDKDescriptor, _ header: inout VirtualHeader, _ file: any BlockReader
    ) throws(ImageError) {
        header.contentIDs = descriptor.ids
        guard descriptor.ids.parent != VMDKDescriptor.withoutParent else { return }
        guard let name = descriptor.parentName else { throw file.damaged("the name of its parent is missing", at: 0) }
        header.backing = VirtualHeader.Reference(name: name, format: "vmdk")
    }

    /// The length in sectors of a sparse extent's own disk. It decides how much of the disk QEMU takes from it, so it
    /// must be what the descriptor says.
    static func sectorCount(ofExtent file: any BlockReader, _ kind: VMDKExtent.Kind) throws(ImageError) -> UInt64 {
        let head = try file.part(at: 0, count: 512)
        let found: UInt64?
        switch kind {
        case .sparse where head.starts(with: sparseMagic):
            let first = try file.parsing(at: 0) { () throws(ParsingError) in try Sparse(head) }
            found = try last(first, head, file).capacity
        case .vmfsSparse where head.starts(with: vmfsMagic):
            found = try file.parsing(at: 12) { () throws(ParsingError) in
                UInt64(try head.littleEndian(UInt32.self, at: 12))
            }
        case .seSparse where (try? head.littleEndian(UInt64.self, at: 0)) == seSparseMagic:
            found = try file.parsing(at: 16) { () throws(ParsingError) in
                try head.littleEndian(UInt64.self, at: 16)
            }
        default: found = nil
        }
        // Without a length, QEMU would read it as a description of other files.
        guard let found, found > 0 else { throw file.damaged("it is no part of the kind \(kind.rawValue)", at: 0) }
        return found
    }
}
