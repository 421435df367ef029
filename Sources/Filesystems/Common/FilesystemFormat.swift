// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// What one reader found on a volume.
typealias VolumeContents = (filesystem: FilesystemInfo, allocation: AllocationMap)

/// One on-disk format, as a row of `VolumeIdentifier.formats`.
struct FilesystemFormat: Sendable {
    /// libblkid's names (TYPE) of everything that this reader speaks for: where libblkid reports one of them and this
    /// reader sees nothing, they disagree.
    let kindNames: Set<String>
    /// The volume's contents; `nil` where it holds something else. Damage is no error: such a volume is taken whole.
    let survey: @Sendable (any BlockReader) throws(BlockIOError) -> VolumeContents?
    /// Looks for what contradicts a map that was made from the volume's own allocation structures, which are a claim of the
    /// disk and no fact: a block that has an owner and counts as free. A sentence part that names the first one found, as
    /// "inode 12 uses block 5678, which the block bitmap calls free"; `nil` where nothing contradicts the map.
    var prove: @Sendable (any BlockReader, VolumeContents) throws(BlockIOError) -> String? = {
        (_, _) throws(BlockIOError) in nil
    }
}

extension FilesystemInfo {
    /// The serial number of a FAT or exFAT as blkid shows it: `6A1B-0C2D`.
    static func serialText(_ serial: UInt32) -> String {
        let digits = String(serial, radix: 16, uppercase: true)
        let padded = String(repeating: "0", count: 8 - digits.count) + digits
        return "\(padded.prefix(4))-\(padded.suffix(4))"
    }

    /// The names of the feature flags that are set in a word: those that have none by the word's name and their number.
    static func featureNames(_ names: [(bit: UInt32, name: String)], _ bits: UInt32, _ word: String) -> [String] {
        (0..<32 as Range<UInt32>).filter { bits & 1 << $0 != 0 }.map { bit in
            names.first { $0.bit == bit }?.name ?? "\(word) bit \(bit)"
        }
    }

    /// The same volume with everything taken as used, and why. The first reason stays: it lies deeper.
    func takenWhole(because reason: String) -> FilesystemInfo {
        var info = self
        info.mapSource = .whole
        info.wholeReason = wholeReason ?? reason
        return info
    }
}
