// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FilesystemResize
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// The requirements of these tests. Tests without them are skipped, and report it.
enum Ability {
    static let loopDevices: Bool = SystemFacts.isRoot && Files.exists("/dev/loop-control")
    static func has(_ tools: [String]) -> Bool {
        tools.allSatisfy { tool in
            ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].contains { Files.exists(FilePath("\($0)/\(tool)")) }
        }
    }
    static func mounts(_ type: String) -> Bool {
        (Files.text("/proc/filesystems") ?? "").split(whereSeparator: \.isWhitespace).contains(Substring(type))
    }
}

/// How a test makes, fills and checks a filesystem.
struct Recipe: CustomTestStringConvertible, Sendable {
    var name: String
    var kind: FilesystemInfo.Kind
    /// The command that creates it; the device is appended.
    var make: [String]
    /// The command that checks it without writing; the device is appended.
    var check: [String]
    /// Its type for `mount`; `nil` where this kernel does not support it.
    var mountType: String?
    /// Its initial length, and those that it grows to, in MiB.
    var steps: [UInt64]
    var blockSize = 4096
    /// The most bytes that a filesystem may leave unused at the end of its place.
    var slack: UInt64 = 4096

    var testDescription: String { name }
    var info: FilesystemInfo {
        FilesystemInfo(kind: kind, kindName: kind.rawValue, blockSize: blockSize, mapSource: .allocationStructures)
    }
    var isPossible: Bool {
        let tools = [make[0], check[0]] + (kind == .ntfs ? ["ntfs-3g", "ntfsresize"] : [])
        return Ability.loopDevices && Ability.has(tools)
            && (mountType.map { Ability.mounts($0) || kind == .ntfs } ?? true)
    }

    static let ext2 = Recipe(
        name: "ext2, 1 KiB blocks", kind: .ext2, make: ["mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024"],
        check: ["e2fsck", "-f", "-n"], mountType: "ext4", steps: [40, 77, 200], blockSize: 1024)
    static let ext3 = Recipe(
        name: "ext3", kind: .ext3, make: ["mke2fs", "-q", "-F", "-t", "ext3", "-b", "4096"],
        check: ["e2fsck", "-f", "-n"], mountType: "ext4", steps: [40, 200])
    static let ext4 = Recipe(
        name: "ext4", kind: .ext4, make: ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"],
        check: ["e2fsck", "-f", "-n"], mountType: "ext4", steps: [40, 100, 200])
    static let ntfs = Recipe(
        name: "NTFS", kind: .ntfs, make: ["mkntfs", "-q", "-F", "-Q"], check: ["ntfsfix", "-n"], mountType: "ntfs-3g",
        steps: [40, 100, 200], slack: 8192)
    static let ntfsLarge = Recipe(
        name: "NTFS, 64 KiB clusters", kind: .ntfs, make: ["mkntfs", "-q", "-F", "-Q", "-c", "65536"],
        check: ["ntfsfix", "-n"], mountType: "ntfs-3g", steps: [60, 200], blockSize: 65536, slack: 2 << 16)
    static let xfs = Recipe(
        name: "XFS", kind: .xfs, make: ["mkfs.xfs", "-q", "-f"], check: ["xfs_repair", "-n"], mountType: "xfs",
        steps: [320, 500, 800])
    static let btrfs = Recipe(
        name: "Btrfs", kind: .btrfs, make: ["mkfs.btrfs", "-q", "-f"], check: ["btrfs", "check", "--readonly"],
        mountType: "btrfs", steps: [400, 600, 800])
    static let f2fs = Recipe(
        name: "F2FS", kind: .f2fs, make: ["mkfs.f2fs", "-q", "-f"], check: ["fsck.f2fs", "--dry-run"], mountType: nil,
        steps: [100, 150, 500])
    static let swap = Recipe(
        name: "swap", kind: .swap,
        make: ["mkswap", "-q", "-p", "4096", "-U", "6f2b0d1c-7a55-4b0e-9d3a-0123456789ab", "-L", "a swap"],
        check: ["blkid", "-p"], mountType: nil, steps: [40, 200])

    static let growing = [ext2, ext3, ext4, ntfs, ntfsLarge, xfs, btrfs, f2fs, swap].filter(\.isPossible)
    static let shrinking = [ext2, ext3, ext4, ntfs, ntfsLarge, btrfs, swap].filter(\.isPossible)
}

/// An image file with one filesystem at 1 MiB. Loop devices and mounts of a call are released at its end,
/// whether it failed or not.
struct ResizeBench {
    static let mebibyte: UInt64 = 1 << 20
    static let start = mebibyte
    let folder: ScratchFolder
    let recipe: Recipe
    let sectorSize: Int
    /// The bytes of a place beyond its whole MiB.
    var tail: UInt64 = 0
    var image: FilePath { folder.path.appending("disk.raw") }

    /// Creates the filesystem, `steps[0]` long, with some files where it can be mounted.
    init(_ recipe: Recipe, roomMiB: UInt64? = nil, sectorSize: Int = 512, seed: UInt64 = 1) throws {
        folder = try ScratchFolder()
        self.recipe = recipe
        self.sectorSize = sectorSize
        let room = roomMiB ?? recipe.steps.max() ?? 0
        let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(file.raw, image.string, to: (room + 2) * Self.mebibyte)
        try onLoop(recipe.steps[0]) { node in try Self.run(recipe.make + [node]) }
        guard recipe.mountType != nil else { return }
        // Files of all sizes; some are removed, so that free space is fragmented.
        let script = """
            mkdir -p a/b c; awk -v seed=\(seed) 'BEGIN {
                srand(seed); for (i = 0; i < 120; i++) print int(exp(rand() * 12)), (i % 3 ? "a/b" : "c") "/file " i }' |
            while read -r size name; do head -c "$size" /dev/urandom >"$name"; done
            find . -name 'file *[37]' -delete; ln -s "a/b/file 1" link; sync
            """
        try mounted(recipe.steps[0], script)
    }

    /// The bytes of the image that a filesystem of that many MiB fills.
    func range(_ mebibytes: UInt64) -> ByteRange { Self.start..<Self.start + mebibytes * Self.mebibyte + tail }
    func place(_ mebibytes: UInt64) -> ResizePlace {
        .part(of: image, range: range(mebibytes), sectorSize: sectorSize)
    }

    /// Hashes of all files, with their names.
    func contents(_ mebibytes: UInt64) throws -> String {
        guard recipe.mountType != nil else { return "" }
        return try mounted(
            mebibytes, "find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2; readlink link")
    }

    /// The format's own check of that many MiB, without writing.
    func check(_ mebibytes: UInt64) throws {
        try onLoop(mebibytes, readOnly: recipe.kind != .ntfs) { node in try Self.run(recipe.check + [node]) }
    }

    /// Drops everything behind `byteCount` of the place: reads there return zeros.
    func drop(from byteCount: UInt64, to mebibytes: UInt64) throws {
        let file = try FileDescriptor.open(image, .readWrite)
        defer { try? file.close() }
        try Files.resize(file, image.string, to: Self.start + byteCount)
        try Files.resize(file, image.string, to: range(mebibytes).upperBound)
    }

    func onLoop(_ mebibytes: UInt64, readOnly: Bool = false, _ body: (String) throws -> Void) throws {
        let loop = try LoopDevice(over: image, range: range(mebibytes), readOnly: readOnly, sectorSize: sectorSize)
        let result = Result { try body(loop.path.string) }
        _ = consume loop
        try result.get()
    }

    /// Runs a script in the mounted filesystem.
    @discardableResult func mounted(_ mebibytes: UInt64, _ script: String) throws -> String {
        let mountPoint = folder.path.appending("mounted")
        var text = ""
        try onLoop(mebibytes) { node in
            let options = recipe.kind == .xfs ? "nouuid" : "defaults"
            text = try Self.text(
                of: try MountedScript.run(
                    mount: "mount -t \"$1\" -o \(options) \"$node\" \"$place\"", node, on: mountPoint, script,
                    arguments: [recipe.mountType ?? ""]), script)
            if recipe.kind == .btrfs { try Self.run(["btrfs", "device", "scan", "--forget", node]) }
        }
        return text
    }

    @discardableResult static func run(_ arguments: [String]) throws -> String {
        let output = try ChildProcess.run(arguments, timeoutSeconds: 120)
        return try text(of: output, "\(arguments.joined(separator: " "))")
    }

    private static func text(of output: ChildProcess.Output, _ what: String) throws -> String {
        guard output.succeeded else {
            throw ToolFailure(description: "\(what): \(output.ending): \(output.lastWords)")
        }
        return output.text
    }

    /// Loop devices over the image and mounts of this module that are left over; must be empty.
    func leftovers() throws -> [String] { try Self.leftovers(of: image) }

    static func leftovers(of image: FilePath) throws -> [String] {
        var found: [String] = []
        // A loop device disappears when its last user closes it, and other programs open devices too.
        for _ in 0..<50 {
            let loops = try run(["losetup", "-a"]).split(separator: "\n").filter { $0.contains(image.string) }
            let folder = image.removingLastComponent().string
            let mounts = MountEntry.current().map(\.mountPoint).filter { $0.hasPrefix(folder) }
            found = loops.map(String.init) + mounts
            if found.isEmpty { break }
            SystemFacts.sleep(seconds: 0.1)
        }
        return found
    }
}

/// A failed tool.
struct ToolFailure: Error, CustomStringConvertible {
    let description: String
}
