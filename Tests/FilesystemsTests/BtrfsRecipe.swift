// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport

/// Arguments of one `mkfs.btrfs` and of `mount`, drawn at random.
struct BtrfsRecipe: CustomStringConvertible {
    var byteCount: UInt64
    var arguments: [String]
    var mountOptions: String

    var description: String {
        "\(arguments.joined(separator: " ")) \(ByteText.rounded(byteCount)), mounted \(mountOptions)"
    }

    /// Case `index`: the first ones cover every option that changes the layout, the rest are random.
    static func random(_ index: Int, using random: inout SeededGenerator) -> BtrfsRecipe {
        func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
        func one(_ values: [String]) -> String { values.randomElement(using: &random) ?? values[0] }
        let isMixed = index == 1 || chance(10)
        let metadata = index == 2 ? "single" : one(["single", "dup", "dup"])
        let data = isMixed ? metadata : index == 3 ? "dup" : one(["single", "single", "dup"])
        let nodeSize =
            isMixed
            ? "4096"
            : index < 8
                ? ["4096", "16384", "65536", "32768"][index % 4] : one(["4096", "8192", "16384", "32768", "65536"])
        var arguments = ["-q", "-f", "-m", metadata, "-d", data, "-n", nodeSize, "-L", "label \(index)"]
        if isMixed { arguments.append("--mixed") }
        let isSkinny = index == 4 ? false : chance(80)
        let hasHoles = index == 4 ? true : chance(30)
        arguments += [
            "-O", (isSkinny ? "skinny-metadata" : "^skinny-metadata") + (hasHoles ? ",^no-holes" : ",no-holes"),
        ]
        var runtime = [
            index == 5 ? "^free-space-tree" : one(["free-space-tree", "free-space-tree", "^free-space-tree"])
        ]
        if index == 6 || chance(20) { runtime.append("quota") }
        arguments += ["-R", runtime.joined(separator: ",")]
        arguments += ["--csum", index == 3 || index == 6 ? "xxhash" : one(["crc32c", "crc32c", "xxhash"])]
        // Room for DUP data; the length need not be a multiple of any unit.
        let byteCount = UInt64(Int.random(in: 260 << 20...420 << 20, using: &random))
        let options = [
            one(["compress=no", "compress-force=zstd", "compress=lzo", "autodefrag"]), one(["ssd", "nossd"]),
        ]
        return BtrfsRecipe(
            byteCount: byteCount, arguments: arguments, mountOptions: options.joined(separator: ","))
    }
}
