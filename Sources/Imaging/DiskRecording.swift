// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import LinuxSystem
import SystemPackage

/// Presents a disk as a capture: the records that `capture` would store, read from the disk on demand.
///
/// The hashes are computed from the data read, so they cannot detect damage.
package final class DiskRecording: ImageReader {
    /// The length of a chunk in bytes.
    package static let chunkByteCount = 4 << 20

    package let name: String
    package let header: ImageHeader
    package let coding = ChunkCoding(codec: .stored)
    package private(set) var ending: ImageEnding?
    package var position: UInt64 { last?.range.lowerBound ?? 0 }
    package var unread: [ByteRange] { source.unreadable.ranges }

    private let plan: CapturePlan
    private let source: any BlockReader
    private let confirmEnd: () throws(ImageError) -> Void
    private let failure: () -> ImageError?
    private let unreadable: AllocationMap?
    private let passesDamage: Bool
    private let chunks: PlannedChunks
    private var walk: ChunkWalk
    private var identity = ContentHash.Running()
    private var content: [UInt8]
    private var last: ChunkRecord?

    /// - Parameters:
    ///   - plan: from `CapturePlanner.recording`.
    ///   - failure: returns the error of a failed read that the system did not cause.
    ///   - unreadable: ranges of the disk that are not read and become zeros: the caller reports them as lost.
    ///   - passesDamage: whether chunks behind one that failed can be read.
    ///   - confirmEnd: called after everything was read; if it throws, the recording has no ending.
    /// - Throws: `ImageError.foreign` if the plan contradicts itself.
    package init(
        _ plan: CapturePlan, of source: any BlockReader, failure: @escaping () -> ImageError? = { nil },
        unreadable: AllocationMap? = nil, passesDamage: Bool = false,
        confirmEnd: @escaping () throws(ImageError) -> Void
    ) throws(ImageError) {
        self.plan = plan
        self.source = source
        self.failure = failure
        self.unreadable = unreadable
        self.passesDamage = passesDamage
        self.confirmEnd = confirmEnd
        name = source.name
        header = plan.header
        if let contradiction = header.manifest.contradiction(codec: "stored") {
            throw .foreign(name: source.name, why: "as a disk, it would have \(contradiction)")
        }
        chunks = PlannedChunks(plan, of: source)
        walk = ChunkWalk(plan.header)
        content = [UInt8](repeating: 0, count: header.manifest.chunkByteCount)
        // Equal contents have equal ids, whatever the path of the file.
        var nameless = header
        nameless.manifest.disk.path = ""
        nameless.manifest.warnings = []
        do { identity.update(try nameless.payload()) } catch { throw .foreign(name: source.name, why: "\(error)") }
    }

    /// A new reader of this recording, at its start.
    package func again() throws(ImageError) -> DiskRecording {
        try DiskRecording(
            plan, of: source, failure: failure, unreadable: unreadable, passesDamage: passesDamage,
            confirmEnd: confirmEnd)
    }

    /// The next record is that of the next chunk.
    package func passDamage() -> Bool { passesDamage }

    /// The disk with random access. Ranges that the recording leaves out as unreadable are read errors there.
    /// - Parameter zeros: the source of known zeros.
    package func planned(_ zeros: PlannedDisk.Zeros) -> PlannedDisk {
        PlannedDisk(plan, of: source, zeros, missing: unreadable)
    }

    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        if ending != nil { return nil }
        guard let step = walk.next() else {
            try confirmEnd()
            ending = ImageEnding(
                id: identity.finish(),
                lateFacts: LateFacts(ended: header.manifest.started, unreadable: source.unreadable.ranges))
            return nil
        }
        var record = ChunkRecord(
            kind: .unused, region: step.region, range: step.range, storedByteCount: 0, hash: nil)
        if case .used(let used) = step.content {
            let ranges = readable(used, in: step.range)
            let byteCount = Int(step.range.byteCount)
            let read = content.withUnsafeMutableBytes { content in
                Result { () throws(BlockIOError) in
                    try chunks.read(
                        ranges, at: step.range.lowerBound,
                        into: UnsafeMutableRawBufferPointer(rebasing: content[..<byteCount]))
                }
            }
            do { try read.get() } catch { throw imageError(error) }
            record.hash = content.withUnsafeBytes { content -> ContentHash? in
                let bytes = UnsafeRawBufferPointer(rebasing: content[..<byteCount])
                return ZeroTest.isZero(bytes) ? nil : ContentHash(of: bytes)
            }
            record.kind = record.hash == nil ? .zero : .data
            record.storedByteCount = record.hash == nil ? 0 : byteCount
        }
        identity.update(record.payload)
        last = record
        return record
    }

    /// The parts of a chunk's used ranges that are read.
    private func readable(_ used: [Range<Int>], in chunk: ByteRange) -> [Range<Int>] {
        guard let unreadable, case let holes = unreadable.ranges(in: chunk), !holes.isEmpty else { return used }
        let inside = AllocationMap(
            byteCount: chunk.byteCount,
            unsorted: holes.map { $0.lowerBound - chunk.lowerBound..<$0.upperBound - chunk.lowerBound }
        ).complement
        return used.flatMap { range in
            inside.ranges(in: UInt64(range.lowerBound)..<UInt64(range.upperBound)).map {
                Int($0.lowerBound)..<Int($0.upperBound)
            }
        }
    }

    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let last, last.storedByteCount == buffer.count else { return }
        buffer.copyBytes(from: content[..<buffer.count])
    }

    /// None: the content of a chunk is kept only until the next record.
    package func storedFetch() -> StoredFetch? { nil }

    private func imageError(_ error: BlockIOError) -> ImageError {
        if let failure = failure() { return failure }
        guard error.errorNumber == 0 else {
            return .system(
                SystemCallError("read", "\(error.name) at byte \(error.offset)", Errno(rawValue: error.errorNumber)))
        }
        return .damaged(name: error.name, what: error.reason, fileOffset: error.offset, disk: nil, partition: nil)
    }
}

extension CapturePlanner {
    /// The facts of a recording that are not on its disk.
    package struct RecordingFacts {
        /// The identity: equal for an unchanged file, so that an interrupted restore recognizes it.
        package var uuid: GUID
        /// The time of the last write to the disk, in seconds since 1970.
        package var changed: Int64
        package var warnings: [String]

        package init(uuid: GUID, changed: Int64, warnings: [String] = []) {
            self.uuid = uuid
            self.changed = changed
            self.warnings = warnings
        }
    }

    /// A plan for a disk that is read as a capture. Deterministic for an unchanged disk.
    ///
    /// A file may be the only copy: by default nothing is left out but free space inside filesystems, and gaps that are
    /// known to contain only zeros.
    package static func recording(
        of survey: DiskSurvey, tableBytes: CapturedTable, swapHeaders: [UInt64: [UInt8]] = [:],
        leftOut: CaptureOptions.LeftOut = .zeros([]), _ facts: RecordingFacts
    ) -> CapturePlan {
        var options = CaptureOptions(level: 0, chunkByteCount: DiskRecording.chunkByteCount)
        options.leftOut = leftOut
        var plan = plan(
            survey, tableBytes: tableBytes, options: options,
            machine: MachineFacts(architecture: "unknown", firmware: "unknown"), mounted: [], toolVersion: "",
            started: SystemFacts.utcText(facts.changed), localOffsetSeconds: 0, swapHeaders: swapHeaders)
        plan.header.manifest.imageUUID = facts.uuid
        plan.header.manifest.captureSet = .init(uuid: facts.uuid)
        plan.header.manifest.codec = "stored"
        plan.header.manifest.warnings += facts.warnings
        return plan
    }

    /// A plan that keeps every byte of a disk at its offset, including the partition table.
    /// - Parameter table: the partition table on the disk.
    package static func verbatimRecording(
        of identity: DiskIdentity, _ geometry: DiskGeometry, table: PartitionTable, _ facts: RecordingFacts
    ) -> CapturePlan {
        let all = 0..<geometry.byteCount
        let kindName =
            switch table.kind {
            case .gpt: "GPT"
            case .mbr: "MBR"
            case .unknown, .none: table.unknownKindName
            }
        let survey = DiskSurvey(
            identity: identity, geometry: geometry,
            table: PartitionTable(
                kind: table.kind == .none ? .none : .unknown, unknownKindName: kindName, usable: all),
            volumes: [
                VolumeSurvey(
                    range: all, partition: nil,
                    filesystem: FilesystemInfo(
                        kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: "it is kept as it is"),
                    allocation: .whole(byteCount: geometry.byteCount))
            ])
        var plan = recording(
            of: survey,
            tableBytes: CapturedTable(
                head: [], tail: [], byteCount: geometry.byteCount,
                sectorSize: geometry.logicalSectorSize), facts)
        plan.header.manifest.allSectors = true
        return plan
    }
}
