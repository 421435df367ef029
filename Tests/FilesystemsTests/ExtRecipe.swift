// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport

/// Random arguments of one `mke2fs`.
struct ExtRecipe: CustomStringConvertible {
    var kind: FilesystemInfo.Kind
    var blockSize: Int
    var byteCount: UInt64
    var features: [String] = []
    var others: [String] = []

    var arguments: [String] {
        ["mke2fs", "-q", "-F", "-t", kind.rawValue, "-b", "\(blockSize)"]
            + (features.isEmpty ? [] : ["-O", features.joined(separator: ",")]) + others
    }
    var description: String { arguments.dropFirst(3).joined(separator: " ") + " \(ByteText.exact(byteCount))" }

    init(kind: FilesystemInfo.Kind, blockSize: Int, byteCount: UInt64) {
        self.kind = kind
        self.blockSize = blockSize
        self.byteCount = byteCount
    }

    /// Case `index`: the first ones cover each feature that changes the layout, the rest are random.
    static func random(_ index: Int, using random: inout SeededGenerator) -> ExtRecipe {
        func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
        let blockSize = [1024, 2048, 4096][index % 3]
        let kind: FilesystemInfo.Kind =
            switch index {
            case 9: .ext2
            case 10: .ext3
            default: index < 9 || chance(80) ? .ext4 : chance(50) ? .ext2 : .ext3
            }
        let groupBlocks = chance(50) ? blockSize * 8 : [1024, 2048, 4096, 8192].randomElement(using: &random) ?? 8192
        let groups = Int.random(in: 1...20, using: &random)
        // Some end in a group of a few blocks, or inside a block.
        let bytes = UInt64(groupBlocks * blockSize * groups) + UInt64(Int.random(in: 0...2_000_000, using: &random))
        var recipe = ExtRecipe(kind: kind, blockSize: blockSize, byteCount: max(8 << 20, min(bytes, 1 << 29)))
        recipe.others = ["-g", "\(min(groupBlocks, blockSize * 8))", "-L", "label \(index)"]
        guard kind == .ext4 else {
            if chance(30) { recipe.features.append("^sparse_super,^resize_inode") }
            if chance(30) { recipe.features.append("^resize_inode,meta_bg") }
            return recipe
        }
        let isBigalloc = index == 3 || index == 5 || chance(20)
        let isMeta = !isBigalloc && (index == 1 || index == 6 || chance(20))
        let isSparse2 = index == 4 || chance(15)
        recipe.features.append(chance(70) ? "64bit" : "^64bit")
        recipe.features.append(chance(70) ? "flex_bg" : "^flex_bg")
        if isMeta { recipe.features.append("meta_bg") }
        if isSparse2 { recipe.features.append("sparse_super2") }
        if isMeta || isSparse2 || chance(20) { recipe.features.append("^resize_inode") }
        switch index % 3 {
        case _ where index == 2 || chance(35): recipe.features += ["uninit_bg", "^metadata_csum"]
        case _ where chance(15): recipe.features += ["^uninit_bg", "^metadata_csum"]
        default: recipe.features.append("metadata_csum")
        }
        var extras = [
            "^has_journal", "inline_data", "ea_inode", "project", "quota", "large_dir", "encrypt", "casefold", "mmp",
        ]
        extras += ["verity", "stable_inodes", "^extent,^64bit,^huge_file", "^dir_index"]
        // The flags of a journal require one.
        for feature in extras where chance(12) {
            if feature.hasPrefix("^extent"), isBigalloc || recipe.features.contains("64bit") { continue }
            recipe.features.append(feature)
        }
        if !recipe.features.contains("^has_journal") {
            for feature in ["fast_commit", "orphan_file"] where chance(15) { recipe.features.append(feature) }
        }
        if recipe.features.contains("metadata_csum"), chance(25) { recipe.features.append("metadata_csum_seed") }
        if isBigalloc { recipe.features.append("bigalloc") }
        if isBigalloc {
            // -g counts clusters then.
            recipe.others = [
                "-C", "\(blockSize * (chance(50) ? 4 : 16))", "-L", "label \(index)",
            ]
        }
        if chance(30) { recipe.others += ["-E", "lazy_itable_init=1"] }
        return recipe
    }
}
