// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A run of sectors outside of filesystems, in units of 512 bytes whatever the disk's sectors are.
package struct SectorRun: Codable, Equatable, Sendable {
    /// Where its bytes come from.
    package enum Source: Codable, Equatable, Sendable {
        /// They lie there, in so many sectors: the first one is written again, with the patches.
        case present(sectorCount: UInt64)
        /// A file of the installed system.
        case systemFile(String)
        /// A file of the running machine.
        case ownFile(String)
        /// A file that a program of the running machine makes.
        case built(BuiltFile)

        /// Whether files of the installed system are read for it.
        var isInSystem: Bool {
            switch self {
            case .systemFile: true
            case .built(let file): if case .system = file.inputs { true } else { false }
            case .present, .ownFile: false
            }
        }
    }

    /// What a file must be to be written.
    package struct Requirement: Codable, Equatable, Sendable {
        /// Its length in bytes.
        package var byteCounts: ClosedRange<Int>
        /// Texts that its first bytes hold.
        package var texts: [String]
        /// How many bytes those are.
        package var textsWithin: Int

        package init(byteCounts: ClosedRange<Int>, texts: [String], within textsWithin: Int) {
            self.byteCounts = byteCounts
            self.texts = texts
            self.textsWithin = textsWithin
        }

        func isMet(by bytes: [UInt8]) -> Bool {
            byteCounts.contains(bytes.count)
                && texts.allSatisfy { bytes.prefix(textsWithin).contains(Array($0.utf8)) }
        }
    }

    /// Bytes of the first sector that are set.
    package struct Patch: Codable, Equatable, Sendable {
        package enum Value: Codable, Equatable, Sendable {
            case bytes([UInt8])
            /// The number of sectors behind the first one, little-endian in 16 bits.
            case followingSectorCount
        }

        package var offset: Int
        package var value: Value

        package init(at offset: Int, _ value: Value) {
            self.offset = offset
            self.value = value
        }
    }

    /// Why nothing is written, as a sentence.
    struct Misfit: Error, Equatable { let sentence: String }

    package var sector: UInt64
    /// The first sector behind the room for it.
    package var endSector: UInt64
    package var source: Source
    /// What a file must be; `nil` where the bytes come from the disk.
    package var requirement: Requirement?
    /// Bytes of the first sector that stay as they are on the disk.
    package var kept: [Range<Int>]
    package var patches: [Patch]
    /// Said of a file that does not meet the requirement.
    package var unsuitable: String
    /// Said where the room is too small.
    package var tooLong: String

    package init(
        sector: UInt64, endSector: UInt64, source: Source, requirement: Requirement? = nil, kept: [Range<Int>] = [],
        patches: [Patch], unsuitable: String, tooLong: String
    ) {
        self.sector = sector
        self.endSector = endSector
        self.source = source
        self.requirement = requirement
        self.kept = kept
        self.patches = patches
        self.unsuitable = unsuitable
        self.tooLong = tooLong
    }

    /// Whether the first sector on the disk is needed for what is written.
    var readsDisk: Bool {
        if case .present = source { return true }
        return !kept.isEmpty
    }

    /// The bytes to write, in whole sectors.
    /// - Parameters:
    ///   - content: the file's bytes; `nil` where they come from the disk.
    ///   - present: the first sector as it lies on the disk; empty unless `readsDisk`.
    func composed(of content: [UInt8]?, over present: [UInt8]) throws(Misfit) -> [UInt8] {
        var bytes: [UInt8]
        let sectorCount: UInt64
        if case .present(let count) = source {
            bytes = present
            sectorCount = count
        } else {
            guard let content, !content.isEmpty, requirement?.isMet(by: content) != false else {
                throw Misfit(sentence: unsuitable)
            }
            let padding = (512 - content.count % 512) % 512
            bytes = content + [UInt8](repeating: 0, count: padding)
            sectorCount = UInt64(bytes.count / 512)
        }
        guard sectorCount > 0, sector <= endSector, sectorCount <= endSector - sector else {
            throw Misfit(sentence: tooLong)
        }
        for range in kept {
            guard range.upperBound <= min(bytes.count, present.count) else { throw Misfit(sentence: unsuitable) }
            bytes.replaceSubrange(range, with: present[range])
        }
        for patch in patches {
            var value: [UInt8] = []
            switch patch.value {
            case .bytes(let given): value = given
            case .followingSectorCount:
                guard let following = UInt16(exactly: sectorCount - 1) else { throw Misfit(sentence: tooLong) }
                value.appendLittleEndian(following)
            }
            guard patch.offset >= 0, patch.offset + value.count <= min(bytes.count, 512) else {
                throw Misfit(sentence: unsuitable)
            }
            bytes.replaceSubrange(patch.offset..<patch.offset + value.count, with: value)
        }
        return bytes
    }
}
