// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A damaged capture, read to its end: lost records read as zeros, and `salvage` records their ranges.
///
/// Chunks with intact records are returned unchanged. The caller handles damaged ones.
package final class SalvageReader: ImageReader {
    /// The recorded losses.
    package var salvage: Salvage? { taken }
    private let taken: Salvage
    private let base: any ImageReader
    /// The end of the returned records on the disk.
    private var diskPosition: UInt64 = 0
    private var region = 0
    /// The record after a gap.
    private var held: ChunkRecord?
    /// The error that caused a gap.
    private var damage: ImageError?
    private var isAtEnd = false

    /// Reads `base` from its first record on.
    package init(_ base: any ImageReader, _ salvage: Salvage) {
        self.base = base
        taken = salvage
    }

    package var name: String { base.name }
    package var header: ImageHeader { base.header }
    package var coding: ChunkCoding { base.coding }
    /// The end of the capture; `nil` also if its end is lost.
    package var ending: ImageEnding? { base.ending }
    package var position: UInt64 { base.position }
    package var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError { base.damageReporter }

    /// The next record, or a run of zeros in place of lost records; `nil` at the end of the disk.
    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        if held == nil, !isAtEnd { held = try nextWhole() }
        guard region < header.manifest.regions.count else { return nil }
        let end = header.manifest.regions[region].range.upperBound
        let record: ChunkRecord
        guard held?.range.lowerBound ?? end >= diskPosition else {
            throw damageReporter("records that go back", position, held?.range)
        }
        if let held, held.range.lowerBound == diskPosition {
            record = held
            self.held = nil
        } else {
            record = try lost(diskPosition..<min(end, held?.range.lowerBound ?? end))
        }
        diskPosition = record.range.upperBound
        if diskPosition == end { region += 1 }
        return record
    }

    /// The next readable record; `nil` if there is none.
    private func nextWhole() throws(ImageError) -> ChunkRecord? {
        while true {
            do throws(ImageError) {
                let next = try base.nextRecord()
                isAtEnd = next == nil
                return next
            } catch {
                guard Salvage.isDamage(error) else { throw error }
                taken.note(error)
                damage = error
                guard base.passDamage() else {
                    isAtEnd = true
                    return nil
                }
            }
        }
    }

    /// A run in place of lost records of one region.
    private func lost(_ range: ByteRange) throws(ImageError) -> ChunkRecord {
        let start = header.manifest.regions[region].range.lowerBound
        let isUsed = !header.maps[region].ranges(in: range.lowerBound - start..<range.upperBound - start).isEmpty
        if isUsed {
            try taken.lose(range, hash: nil, because: damage ?? .truncated(name: name, at: position))
        }
        return ChunkRecord(
            kind: isUsed ? .zero : .unused, region: region, range: range, storedByteCount: 0, hash: nil)
    }

    /// Reads the stored bytes of the last record; if they are cut off, zeros, which decode to no chunk.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        do throws(ImageError) { unsafe try base.readStored(into: buffer) } catch {
            guard Salvage.isDamage(error) else { throw error }
            taken.note(error)
            unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    package func storedFetch() -> StoredFetch? { unsafe base.storedFetch() }
    package func otherCopies() -> OtherCopies? { unsafe base.otherCopies() }
}
