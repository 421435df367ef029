// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport

/// A temporary folder for one test, removed with the last reference.
final class Workbench: Sendable {
    let folder: FilePath

    init() throws { folder = try Files.makeTemporaryFolder("reforge-fs") }
    deinit { _ = try? ChildProcess.run(["rm", "-rf", folder.string]) }

    func path(_ name: String) -> FilePath { folder.appending(name) }

    /// A sparse file of that many bytes.
    @discardableResult func sparseFile(_ name: String, byteCount: UInt64) throws -> FilePath {
        let file = try FileDescriptor.open(
            path(name), .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        defer { try? file.close() }
        try Files.resize(file, name, to: byteCount)
        return path(name)
    }

    func write(_ bytes: [UInt8], to path: FilePath) throws {
        let file = try FileDescriptor.open(
            path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        defer { try? file.close() }
        _ = try file.writeAll(bytes)
    }

    /// The source of files' contents: made once, because debug builds are slow at it.
    private static let noise: [UInt8] = {
        var random = SeededGenerator(seed: 7)
        return (0..<65536).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
    }()

    /// Creates files and folders of random shape below `root`; returns each file's contents by
    /// its path relative to `root`.
    @discardableResult func randomTree(
        _ root: String, files: Int, maximumByteCount: Int, using random: inout SeededGenerator
    ) throws -> [String: [UInt8]] {
        var folders = [""]
        var contents: [String: [UInt8]] = [:]
        try Files.makeFolders(path(root))
        for index in 0..<files {
            if index % 5 == 0, folders.count < 20, let parent = folders.randomElement(using: &random) {
                let folder = parent + "folder \(index)/"
                try Files.makeFolders(path(root).appending(folder))
                folders.append(folder)
            }
            guard let folder = folders.randomElement(using: &random) else { continue }
            let byteCount = Int.random(
                in: 0...max(1, Int.random(in: 0...maximumByteCount, using: &random)), using: &random)
            let start = Int.random(in: 0..<4096, using: &random)
            let bytes = Array(Self.noise[start..<start + min(byteCount, Self.noise.count - 4096)])
            let name = folder + "A file with a long name \(index).data"
            contents[name] = bytes
            try write(bytes, to: path(root).appending(name))
        }
        return contents
    }

    /// A survey of an image file, with libblkid's opinion on it.
    func survey(_ name: String, sectorSize: Int = 512) throws -> (FilesystemInfo, AllocationMap) {
        let disk = try BlockDevice(opening: path(name), sectorSize: sectorSize)
        return try VolumeIdentifier.survey(
            disk, secondOpinion: SecondOpinion(descriptor: disk.fileDescriptor.rawValue))
    }

    /// libblkid's opinion on an image file.
    func opinion(_ name: String) throws -> SecondOpinion.Finding {
        let disk = try BlockDevice(opening: path(name))
        return SecondOpinion(descriptor: disk.fileDescriptor.rawValue).finding(byteCount: disk.byteCount)
    }
}

/// A failed tool.
struct ToolFailure: Error, CustomStringConvertible {
    let description: String
}

/// The programs that tests compare with.
enum Tool {
    /// Whether all of these are installed: a test without them counts as skipped.
    static func have(_ names: String...) -> Bool {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        return names.allSatisfy { name in folders.contains { access("\($0)/\(name)", X_OK) == 0 } }
    }

    @discardableResult static func run(_ arguments: [String], input: String = "") throws -> String {
        // A tool that exits before it has read its input must fail its own test, not the whole run.
        Signal.ignoreBrokenPipes()
        let output = try ChildProcess.run(
            arguments, input: Array(input.utf8), environment: ChildProcess.plainEnvironment + ["MTOOLS_SKIP_CHECK=1"],
            timeoutSeconds: 120)
        return try text(of: output, "\(arguments.joined(separator: " "))")
    }

    /// The output of a program; an error where it failed.
    static func text(of output: ChildProcess.Output, _ what: String) throws -> String {
        guard output.succeeded else {
            throw ToolFailure(description: "\(what): \(output.ending): \(output.lastWords)")
        }
        return output.text
    }
}

/// "0.0132 %".
func percent(_ part: UInt64, of whole: UInt64) -> String {
    let parts = Int((Double(part) / Double(max(whole, 1)) * 1e6).rounded())
    let fraction = String(parts % 10_000)
    return "\(parts / 10_000).\(String(repeating: "0", count: 4 - fraction.count))\(fraction) %"
}

/// Overwrites the unused space of a map: the ends and the middle of each gap, so that wrongly
/// dropped bytes become visible.
func spoilUnused(_ path: FilePath, _ map: AllocationMap) throws {
    let file = try FileDescriptor.open(path, .readWrite)
    defer { try? file.close() }
    let noise = [UInt8](repeating: 0xDB, count: 65536)
    for gap in map.complement.ranges {
        let count = Int(min(UInt64(noise.count), gap.byteCount))
        let starts = [
            gap.lowerBound, gap.lowerBound + (gap.byteCount - UInt64(count)) / 2, gap.upperBound - UInt64(count),
        ]
        for start in starts { _ = try file.writeAll(toAbsoluteOffset: Int64(start), noise.prefix(count)) }
    }
}
