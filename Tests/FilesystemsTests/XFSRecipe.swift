// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

/// The options of a test's XFS.
struct XFSRecipe: CustomStringConvertible {
    let version: Int
    let byteCount: UInt64
    let blockSize: Int
    let hasReflink: Bool
    let options: [String]

    var description: String { "\(byteCount >> 20) MiB, \(options.joined(separator: " "))" }

    /// Random options that `mkfs.xfs` accepts together, most of the time.
    static func random(version: Int, using random: inout SeededGenerator) -> XFSRecipe {
        func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
        func flag(_ name: String, _ isSet: Bool) -> String { "\(name)=\(isSet ? 1 : 0)" }
        let blockSize = [1024, 2048, 4096, 4096, version == 4 ? 512 : 4096].randomElement(using: &random) ?? 4096
        let byteCount =
            UInt64.random(in: 300...700, using: &random) << 20 + UInt64.random(in: 0..<255, using: &random) << 12
        let hasReflink = version == 5 && chance(70)
        let groupCount = Int.random(in: 2...8, using: &random)
        var options = ["-b", "size=\(blockSize)", "-d", "agcount=\(groupCount)"]
        let sectorSize = blockSize == 4096 && chance(30) ? 4096 : 512
        options += ["-s", "size=\(sectorSize)"]
        if version == 5 {
            options += [
                "-m", "\(flag("reflink", hasReflink)),\(flag("rmapbt", chance(50))),\(flag("finobt", chance(70)))",
            ]
            options += [
                "-m", "\(flag("bigtime", chance(60)))", "-i",
                "\(flag("sparse", chance(60))),\(flag("nrext64", chance(30)))",
            ]
        } else {
            options += ["-m", "crc=0", "-n", flag("ftype", chance(50)), "-i", flag("projid32bit", chance(50))]
            // Version 1 supports only sectors of 512 bytes.
            let logVersion = sectorSize == 512 && chance(40) ? 1 : 2
            options += ["-l", "version=\(logVersion),\(flag("lazy-count", chance(60)))"]
        }
        // With the options above, a version 1 log has no field for a stripe.
        if !options.contains(where: { $0.hasPrefix("version=1") }), chance(30) {
            options += ["-l", "su=\([32, 64, 256].randomElement(using: &random) ?? 32)k"]
        }
        // Inside one group; with reflinks and a stripe of 256 KiB a log has at least 6336 blocks.
        let logLimit = byteCount >> 20 > 100 * groupCount ? 64 : 25
        options += ["-l", "size=\(Int.random(in: 25...logLimit, using: &random))m"]
        if chance(30) { options += ["-d", "su=64k,sw=2"] }
        return XFSRecipe(
            version: version, byteCount: byteCount, blockSize: blockSize, hasReflink: hasReflink, options: options)
    }
}

extension Tool {
    /// Whether the kernel mounts filesystems of `mkfs.xfs`, and all tools for them are installed.
    static let canMountXFS =
        SystemFacts.isRoot && Files.exists("/dev/loop-control")
        && (Files.text("/proc/filesystems") ?? "").contains("\txfs\n")
        && have("mkfs.xfs", "xfs_db", "xfs_repair", "xfs_io", "xfs_freeze", "xfs_logprint", "mount", "losetup")
}

extension Workbench {
    /// Makes an XFS in a sparse file. Small ones are unsupported by mkfs.xfs, but suffice for a test.
    @discardableResult func makeXFS(
        _ name: String, byteCount: UInt64, _ options: [String] = []
    ) throws -> FilePath {
        let image = try sparseFile(name, byteCount: byteCount)
        try Tool.run(["mkfs.xfs", "--unsupported", "-q", "-f"] + options + [image.string])
        return image
    }

    /// A prototype file for `mkfs.xfs -p`: it adds files to a filesystem that the kernel does not mount.
    func xfsPrototype(files: Int, using random: inout SeededGenerator) throws -> FilePath {
        var lines = ["/", "0 0", "d--755 0 0"]
        for index in 0..<files {
            let byteCount = Int.random(in: 0...max(1, Int.random(in: 0...300_000, using: &random)), using: &random)
            let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: byteCount)
            try write(bytes, to: path("file\(index)"))
            if index % 7 == 0 { lines.append("folder\(index) d--755 0 0") }
            lines.append("file\(index) ---644 0 0 \(path("file\(index)").string)")
            if index % 7 == 0 { lines.append("$") }
        }
        lines.append("$")
        try write(Array((lines.joined(separator: "\n") + "\n").utf8), to: path("prototype"))
        return path("prototype")
    }

    /// Runs a script that may mount an image: `$image` and `$place` are the image and an empty folder, `$bench` the
    /// folder of both. Afterwards nothing is mounted there, even after a failure.
    ///
    /// Not in a separate mount namespace: that would keep the mounts of other tests at that moment, and their
    /// filesystems would not be closed by their unmounts. For the same reason it waits until the loop device is gone.
    @discardableResult func runShell(_ name: String, _ script: String) throws -> String {
        try Files.makeFolders(path("place"))
        let head = """
            image='\(path(name).string)'; place='\(path("place").string)'; bench='\(folder.string)'
            close() {
                umount "$place" 2> /dev/null || true
                tries=0
                while [ -n "$(losetup -j "$image")" ] && [ $tries -lt 600 ]; do sleep 0.1; tries=$((tries+1)); done
            }
            trap close EXIT

            """
        return try Tool.run(["sh", "-euc", head + script])
    }

    /// Free space according to `xfs_db`, with the blocks of the free lists, and the number of those.
    func xfsFree(_ name: String, blockSize: Int) throws -> (map: AllocationMap, freeListBlockCount: UInt64) {
        let disk = try BlockDevice(opening: path(name))
        let text = try Tool.run(["xfs_db", "-r", "-c", "freesp -d", path(name).string])
        let fields = try Tool.run(["xfs_db", "-r", "-c", "sb 0", "-c", "print agblocks agcount", path(name).string])
        let numbers = fields.split { !$0.isNumber }.compactMap { UInt64($0) }
        guard numbers.count == 2 else { throw ToolFailure(description: "xfs_db says \(fields)") }
        var ranges: [ByteRange] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            let values = words.compactMap { UInt64($0) }
            guard words.count == 3, values.count == 3 else { continue }
            let start = (values[0] * numbers[0] + values[1]) * UInt64(blockSize)
            ranges.append(start..<start + values[2] * UInt64(blockSize))
        }
        let commands = (0..<numbers[1]).flatMap { ["-c", "agf \($0)", "-c", "print flcount"] }
        let counts = try Tool.run(["xfs_db", "-r"] + commands + [path(name).string])
        let freeList = counts.split { !$0.isNumber }.compactMap { UInt64($0) }.reduce(0, +)
        return (AllocationMap(byteCount: disk.byteCount, unsorted: ranges), freeList)
    }
}
