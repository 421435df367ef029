// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A damaged capture, read to its end: zeros stand where records are lost, and its `salvage` knows where that is.
///
/// Chunks whose records are there are given out as they are. Whoever reads them decides what a damaged one is worth.
package final class SalvageReader: ImageReader {
    /// Takes what is lost.
    package var salvage: Salvage? { taken }
    private let taken: Salvage
    private let base: any ImageReader
    /// Up to here on the disk everything was given out.
    private var diskPosition: UInt64 = 0
    private var region = 0
    /// The record behind a gap.
    private var held: ChunkRecord?
    /// Why there is a gap.
    private var damage: ImageError?
    private var isAtEnd = false

    /// Reads `base` from its first record on.
    package init(_ base: any ImageReader, _ salvage: Salvage) {
        self.base = base
        taken = salvage
    }

    /// The capture's.
    package var name: String { base.name }
    /// The capture's.
    package var header: ImageHeader { base.header }
    /// The capture's.
    package var coding: ChunkCoding { base.coding }
    /// How the capture ended; `nil` also where its end is lost.
    package var ending: ImageEnding? { base.ending }
    /// The capture's.
    package var position: UInt64 { base.position }
    /// The capture's.
    package var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError { base.damageReporter }

    /// The next record, or a run of zeros where records are lost; `nil` at the end of the disk.
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

    /// The next record that can be read; `nil` where none is left.
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

    /// Reads what is stored for the last record; zeros, which no chunk decodes from, where that is cut off.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        do throws(ImageError) { unsafe try base.readStored(into: buffer) } catch {
            guard Salvage.isDamage(error) else { throw error }
            taken.note(error)
            unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    /// The capture's.
    package func storedFetch() -> StoredFetch? { unsafe base.storedFetch() }
    /// The capture's.
    package func otherCopies() -> OtherCopies? { unsafe base.otherCopies() }
}
