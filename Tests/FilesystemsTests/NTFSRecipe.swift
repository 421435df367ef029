// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

/// Random arguments of one `mkntfs`.
struct NTFSRecipe: CustomStringConvertible {
    var byteCount: UInt64
    var clusterSize: Int
    var sectorSize = 512
    var label = "VOL"
    var others: [String] = []

    var arguments: [String] {
        ["mkntfs", "-F", "-f", "-Q", "-q", "-c", "\(clusterSize)", "-s", "\(sectorSize)", "-L", label] + others
    }
    var description: String { arguments.dropFirst(5).joined(separator: " ") + ", \(byteCount) bytes" }

    /// Case `index`: clusters of every size, up to 2 MiB; ends inside a cluster.
    static func random(_ index: Int, using random: inout SeededGenerator) -> NTFSRecipe {
        let clusterSize = [4096, 512, 1024, 65536, 2048, 262_144, 8192, 16384, 2 << 20, 32768][index % 10]
        let sectorSize = [512, 512, 1024, 4096, 2048][Int.random(in: 0..<5, using: &random)]
        let atLeast = max(8 << 20, 200 * clusterSize)
        let byteCount = Int.random(in: atLeast...(atLeast + (60 << 20)), using: &random) / 4096 * 4096
        var recipe = NTFSRecipe(
            byteCount: UInt64(byteCount), clusterSize: clusterSize, sectorSize: min(sectorSize, clusterSize))
        recipe.label = ["VOL \(index)", "Großes Volumen", "日本"][index % 3]
        if Bool.random(using: &random) { recipe.others.append("-I") }
        return recipe
    }

    /// Makes the filesystem in a file of the bench.
    func make(_ bench: Workbench, _ name: String = "image") throws -> FilePath {
        let image = try bench.sparseFile(name, byteCount: byteCount)
        try Tool.run(arguments + [image.string])
        return image
    }
}

/// The independent view that maps are compared with: $Bitmap as ntfs-3g's tools read it.
struct ExtractedBitmap {
    let used: AllocationMap

    init(_ image: FilePath, _ boot: NTFSBootSector, volumeByteCount: UInt64) throws {
        let output = try ChildProcess.run(["ntfscat", "-f", "-i", "6", image.string], timeoutSeconds: 60)
        guard output.succeeded else { throw ToolFailure(description: "ntfscat: \(output.lastWords)") }
        var used = AllocationMap(byteCount: volumeByteCount)
        let bytes = output.standardOutput
        for cluster in 0..<Int(boot.clusterCount) where bytes[cluster / 8] >> UInt8(cluster % 8) & 1 == 1 {
            let start = UInt64(cluster) * boot.clusterSize
            used.insert(start..<start + boot.clusterSize)
        }
        self.used = used
    }
}

/// An NTFS on a loop device for ntfs-3g: its unmount then waits until everything is written.
final class LoopedNTFS {
    let loop: String
    private let place: FilePath

    init(_ bench: Workbench, _ image: FilePath) throws {
        place = bench.path("mounted")
        try Files.makeFolders(place)
        loop = try Tool.run(["losetup", "--find", "--show", image.string]).split(separator: "\n").joined()
    }

    deinit { _ = try? Tool.run(["losetup", "-d", loop]) }

    /// Mounts it for a shell script, which starts in its root folder and may fail (a full disk), and
    /// returns the script's output.
    @discardableResult func mounted(_ options: String = "rw", _ script: String) throws -> String {
        let output = try Tool.text(
            of: try MountedScript.run(
                mount: "ntfs-3g \"$node\" \"$place\" -o \"$1\"", loop, on: place, script, arguments: [options],
                mayFail: true), script)
        try Tool.run(["blockdev", "--flushbufs", loop])
        return output
    }

    /// Prints the contents of all files and their named streams.
    static let listing = """
        find . -type f -print0 | sort -z | xargs -0 -r sha256sum
        getfattr -R -P -d -m '^user' -e hex . 2>&1 | grep -v '^$' | LC_ALL=C sort
        """
}
