// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageModel

/// A folder as another tool writes it, of a disk whose partition table sfdisk made.
struct ForeignFolderFixture {
    let scratch: ScratchFolder
    let folder: FilePath
    /// The captured disk: its table, and zeros.
    let source: FilePath
    let byteCount: UInt64

    /// - Parameter script: what sfdisk reads.
    init(_ script: String, byteCount: UInt64) throws {
        scratch = try ScratchFolder()
        folder = scratch.path.appending("saved")
        source = scratch.path.appending("source.raw")
        self.byteCount = byteCount
        try Files.makeFolders(folder)
        try Self.makeSparse(source, byteCount)
        let output = try ChildProcess.run(
            ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", source.string], input: Array(script.utf8))
        try #require(output.succeeded, "sfdisk: \(output.lastWords)")
    }

    static func makeSparse(_ path: FilePath, _ byteCount: UInt64) throws {
        let file = try FileDescriptor.open(
            path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
        try file.closeAfter { try Files.resize(file, path.string, to: byteCount) }
    }

    func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

    /// Without waiting for the disk: some tests write hundreds of files.
    func write(_ name: String, _ bytes: [UInt8]) throws {
        let file = try FileDescriptor.open(
            folder.appending(name), .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        try file.closeAfter { _ = try file.writeAll(bytes) }
    }

    func remove(_ name: String) throws { try ToolFile.run(["rm", folder.appending(name).string]) }

    /// `sfdisk -d` of a file, as if it were a device.
    static func dump(_ path: FilePath, as device: String = "/dev/sda") throws -> String {
        try ToolFile.run(["sfdisk", "-d", path.string]).text.replacing(path.string, with: device)
    }

    /// Bytes of the captured disk.
    func bytes(_ offset: UInt64, _ count: Int) throws -> [UInt8] { try Self.bytes(source, offset, count) }

    static func bytes(_ path: FilePath, _ offset: UInt64, _ count: Int) throws -> [UInt8] {
        try FileBytes(path).bytes(at: offset, count: count)
    }

    /// Puts bytes onto the captured disk.
    func patch(_ offset: UInt64, _ bytes: [UInt8]) throws {
        let file = try FileDescriptor.open(source, .readWrite)
        try file.closeAfter { _ = try file.writeAll(toAbsoluteOffset: Int64(offset), bytes) }
    }

    /// Writes what Clonezilla writes about a disk.
    func saveAsClonezilla(_ name: String = "sda", parts: String = "sda1", listsDisk: Bool = true) throws {
        if listsDisk { try write("disk", "\(name)\n") }
        try write("parts", "\(parts)\n")
        try write("clonezilla-img", "This image was saved by Clonezilla\n")
        let dump = try Self.dump(source, as: "/dev/\(name)")
        try write("\(name)-pt.sf", dump)
        let kind = dump.contains("label: gpt") ? "gpt" : "msdos"
        try write(
            "\(name)-pt.parted",
            """
            Model: ATA QEMU HARDDISK (scsi)
            Disk /dev/\(name): \(byteCount / 512)s
            Sector size (logical/physical): 512B/4096B
            Partition Table: \(kind)
            Disk Flags:

            Number  Start  End  Size  File system  Name  Flags

            """)
        try write("\(name)-mbr", try bytes(0, 512))
        if kind == "gpt" {
            try write("\(name)-gpt-1st", try bytes(0, 34 * 512))
            try write("\(name)-gpt-2nd", try bytes(byteCount - 32 * 512, 32 * 512))
        }
    }

    func clonezilla(_ name: String = "sda") throws -> ForeignDisk {
        #expect(try FolderFormat.clonezilla.recognize(folder))
        return try FolderFormat.clonezilla.open(folder, name)
    }

    /// A file with the fixed bytes of a disk, and zeros.
    func made(_ disk: ForeignDisk) throws -> FilePath {
        let path = scratch.path.appending("made.raw")
        try Self.makeSparse(path, disk.geometry.byteCount)
        let file = try FileDescriptor.open(path, .readWrite)
        try file.closeAfter {
            for piece in disk.fixed { _ = try file.writeAll(toAbsoluteOffset: Int64(piece.offset), piece.bytes) }
        }
        return path
    }
}

extension ForeignDisk {
    /// One line a part: its label, place in sectors, and content.
    var text: [String] {
        parts.map { part in
            let places = part.segments.map { "\($0.lowerBound / 512)+\($0.byteCount / 512)" }.joined(separator: " ")
            let content =
                switch part.content {
                case .stream(let stream, let payload):
                    "\(payload) \(stream.pieces.map { $0.lastComponent?.string ?? "" }.joined(separator: " "))"
                case .zeros: "zeros"
                case .swap(let uuid, let label): "swap \(uuid?.description ?? "-") \(label)"
                case .missing: "missing"
                }
            return "\(part.label) \(places) \(content)"
        }
    }
}
