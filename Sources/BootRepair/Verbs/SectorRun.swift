// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A run of sectors outside of filesystems, in units of 512 bytes, independent of the disk's sector size.
package struct SectorRun: Codable, Equatable, Sendable {
    /// The source of its bytes.
    package enum Source: Codable, Equatable, Sendable {
        /// They are already on the disk, in this many sectors: only the first one is rewritten, with the patches.
        case present(sectorCount: UInt64)
        /// A file of the installed system.
        case systemFile(String)
        /// A file of the running machine.
        case ownFile(String)
        /// A file made by a program of the running machine.
        case built(BuiltFile)

        /// Whether it reads files of the installed system.
        var isInSystem: Bool {
            switch self {
            case .systemFile: true
            case .built(let file): if case .system = file.inputs { true } else { false }
            case .present, .ownFile: false
            }
        }
    }

    /// The requirements of a file.
    package struct Requirement: Codable, Equatable, Sendable {
        /// Its length in bytes.
        package var byteCounts: ClosedRange<Int>
        /// Texts required in its first bytes.
        package var texts: [String]
        /// The number of these bytes.
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

    /// Bytes to set in the first sector.
    package struct Patch: Codable, Equatable, Sendable {
        package enum Value: Codable, Equatable, Sendable {
            case bytes([UInt8])
            /// The number of sectors after the first one, little-endian in 16 bits.
            case followingSectorCount
        }

        package var offset: Int
        package var value: Value

        package init(at offset: Int, _ value: Value) {
            self.offset = offset
            self.value = value
        }
    }

    /// The reason nothing is written, as a sentence.
    struct Misfit: Error, Equatable { let sentence: String }

    package var sector: UInt64
    /// The first sector after the space for it.
    package var endSector: UInt64
    package var source: Source
    /// The requirements of the file; `nil` if the bytes come from the disk.
    package var requirement: Requirement?
    /// Bytes of the first sector kept from the disk.
    package var kept: [Range<Int>]
    package var patches: [Patch]
    /// The sentence for a file that does not meet the requirement.
    package var unsuitable: String
    /// The sentence for insufficient space.
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

    /// Whether the first sector on the disk must be read.
    var readsDisk: Bool {
        if case .present = source { return true }
        return !kept.isEmpty
    }

    /// The bytes to write, in whole sectors.
    /// - Parameters:
    ///   - content: the file's bytes; `nil` if they come from the disk.
    ///   - present: the first sector on the disk; empty unless `readsDisk`.
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
