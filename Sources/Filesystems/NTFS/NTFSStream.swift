// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The bytes of an attribute: in its record, or in clusters.
struct NTFSStream {
    /// ATTR_IS_COMPRESSED, ATTR_IS_ENCRYPTED, ATTR_IS_SPARSE, and unknown flags.
    let flags: UInt16
    let byteCount: UInt64
    /// Bytes behind it read as zero, whatever the clusters contain.
    let initializedByteCount: UInt64
    /// The bytes in the record; `nil` if they are in clusters.
    let resident: [UInt8]?
    let runList: NTFSRunList
    private let volume: any BlockReader
    private let clusterSize: UInt64

    init(_ volume: any BlockReader, resident bytes: [UInt8], flags: UInt16) {
        self.volume = volume
        self.flags = flags
        byteCount = UInt64(bytes.count)
        initializedByteCount = byteCount
        resident = bytes
        runList = NTFSRunList()
        clusterSize = 1
    }

    /// - Throws: `FilesystemError.damaged` if the clusters do not suffice for the bytes.
    init(
        _ volume: any BlockReader, _ boot: NTFSBootSector, first part: NTFSAttribute.Clusters, flags: UInt16,
        runList: NTFSRunList, isPartial: Bool = false
    ) throws(FilesystemError) {
        self.volume = volume
        self.flags = flags
        byteCount = part.byteCount
        initializedByteCount = part.initializedByteCount
        resident = nil
        self.runList = runList
        clusterSize = boot.clusterSize
        // Bounds the later multiplication by a cluster's size (2 MiB at most). Then:
        // allocated_size counts the holes too.
        guard runList.end < Self.clusterLimit,
            isPartial || runList.end.multipliedReportingOverflow(by: clusterSize) == (part.allocatedByteCount, false),
            part.initializedByteCount <= part.byteCount, part.byteCount <= part.allocatedByteCount
        else { throw .damaged("an attribute's size contradicts its clusters") }
    }

    /// The ranges of the volume (bytes) of its clusters, in the order of the attribute; whole clusters.
    var ranges: [ByteRange] {
        runList.runs.compactMap { run in
            run.place.map { $0 * clusterSize..<($0 + run.count) * clusterSize }
        }
    }

    var hasHoles: Bool { runList.runs.contains { $0.place == nil } }

    /// `count` bytes from `offset` on.
    /// - Throws: `FilesystemError.damaged` if they are compressed or encrypted, or exceed the attribute.
    func read(at offset: UInt64, count: Int) throws(FilesystemError) -> [UInt8] {
        guard offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw .damaged("an attribute is shorter than it should be")
        }
        if let resident { return Array(resident[Int(offset)..<Int(offset) + count]) }
        guard flags & ~Self.sparse == 0 else { throw .damaged("a system file is compressed or encrypted") }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let position = offset + UInt64(bytes.count)
            guard let run = runList.run(at: position / clusterSize) else {
                throw .damaged("an attribute has fewer clusters than it should have")
            }
            let within = position - run.start * clusterSize
            var length = min(UInt64(count - bytes.count), run.count * clusterSize - within)
            if position >= initializedByteCount || run.place == nil {
                bytes += [UInt8](repeating: 0, count: Int(length))
            } else if let place = run.place {
                length = min(length, initializedByteCount - position)
                let start = place * clusterSize + within
                bytes += try FilesystemError.reading { () throws(BlockIOError) in
                    try volume.readBytes(at: start, count: Int(length))
                }
            }
        }
        return bytes
    }

    private static let clusterLimit: UInt64 = 1 << 42
    /// ATTR_IS_SPARSE.
    private static let sparse: UInt16 = 0x8000
}
