// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The result of a reader for a volume.
typealias VolumeContents = (filesystem: FilesystemInfo, allocation: AllocationMap)

/// One on-disk format, as a row of `VolumeIdentifier.formats`.
struct FilesystemFormat: Sendable {
    /// The libblkid names (TYPE) covered by this reader: where libblkid reports one of them and this reader
    /// finds nothing, they disagree.
    let kindNames: Set<String>
    /// The volume's contents; `nil` if it has other contents. Damage is no error: such a volume is taken whole.
    let survey: @Sendable (any BlockReader) throws(BlockIOError) -> VolumeContents?
    /// Searches for contradictions to a map made from the volume's own allocation structures, which are unverified: a
    /// block that has an owner and is marked free. A sentence part that names the first one, such as "inode 12 uses
    /// block 5678, which the block bitmap calls free"; `nil` without any.
    var prove: @Sendable (any BlockReader, VolumeContents) throws(BlockIOError) -> String? = {
        (_, _) throws(BlockIOError) in nil
    }
}

extension FilesystemInfo {
    /// The serial number of a FAT or exFAT in blkid's form: `6A1B-0C2D`.
    static func serialText(_ serial: UInt32) -> String {
        let digits = String(serial, radix: 16, uppercase: true)
        let padded = String(repeating: "0", count: 8 - digits.count) + digits
        return "\(padded.prefix(4))-\(padded.suffix(4))"
    }

    /// The names of the feature flags that are set in a word; flags without a name by the word's name and their number.
    static func featureNames(_ names: [(bit: UInt32, name: String)], _ bits: UInt32, _ word: String) -> [String] {
        (0..<32 as Range<UInt32>).filter { bits & 1 << $0 != 0 }.map { bit in
            names.first { $0.bit == bit }?.name ?? "\(word) bit \(bit)"
        }
    }

    /// The volume with everything taken as used, and the reason. The first reason stays: it is more specific.
    func takenWhole(because reason: String) -> FilesystemInfo {
        var info = self
        info.mapSource = .whole
        info.wholeReason = wholeReason ?? reason
        return info
    }
}
