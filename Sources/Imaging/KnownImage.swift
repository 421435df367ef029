// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// A file or device that is not a disk: an image, an archive, or a part of a repository. It must never be overwritten
/// like a disk, and is captured as one only on request.
package struct KnownImage: Equatable, Sendable {
    /// The kinds, which `--overwrite` treats differently.
    package enum Kind: Equatable, Sendable {
        /// An image file that Reforge writes or reads: a new one may take its place.
        case image
        /// A file of a repository.
        case repositoryFile
        /// Another program's image or archive.
        case foreign
    }

    /// The kind.
    package let kind: Kind
    /// The name for messages, with its article: "a qcow2 image".
    package let name: String

    /// Identifies an image by its first and last bytes, and by the name and place of a file.
    /// - Parameters:
    ///   - isFile: whether `path` is a file: name, place and end of a device mean nothing.
    /// - Returns: `nil` for a possible disk.
    package static func identify(
        _ contents: some BlockReader, at path: FilePath, isFile: Bool
    ) throws(BlockIOError) -> KnownImage? {
        let head = try contents.readBytes(at: 0, count: Int(min(contents.byteCount, 512)))
        if isFile, let repository = repository(holding: path) {
            return KnownImage(kind: .repositoryFile, name: "a file of the repository \(repository)")
        }
        if let found = ourHead(head) { return found }
        let known = headRow(head)
        if isFile, Files.exists(XZImageFormat.metadataPath(of: path)) {
            return KnownImage(kind: .image, name: "a Reforge archive (.img.xz)")
        }
        if let known { return known }
        guard isFile else { return nil }
        let end = try contents.readBytes(
            at: contents.byteCount - min(contents.byteCount, 512), count: Int(min(contents.byteCount, 512)))
        if holds(end, ImageFormat.footerTag, at: end.count - ImageFormat.footerByteCount) {
            return KnownImage(kind: .image, name: "a Reforge image with a damaged start")
        }
        if let row = ends.first(where: { holds(end, $0.bytes, at: end.count - $0.fromEnd) }) {
            return KnownImage(kind: .foreign, name: row.name)
        }
        // By its name, as a damaged image must not be lost either.
        let suffix = path.extension?.lowercased() ?? ""
        if contents.byteCount > 0, ["zst", "xz", "enc", "reforge"].contains(suffix) {
            return KnownImage(kind: .image, name: "an image by its name (.\(suffix))")
        }
        return nil
    }

    /// Identifies an image by its first 512 bytes alone.
    package static func identify(head: [UInt8]) -> KnownImage? { ourHead(head) ?? headRow(head) }

    /// Whether it is the disk image of a virtual machine.
    package var isVirtualDisk: Bool {
        ["qcow2", "QED", "VMDK", "VHD", "VHDX", "VDI", "Parallels"].contains { name.contains(" \($0) ") }
    }

    private static func headRow(_ head: [UInt8]) -> KnownImage? {
        heads.first { holds(head, $0.bytes, at: $0.offset) }.map { KnownImage(kind: $0.kind, name: $0.name) }
    }

    /// Identifies a file.
    package static func identify(fileAt path: FilePath) throws -> KnownImage? {
        let file = try BlockDevice(opening: path)
        return try identify(file, at: path, isFile: !file.isDevice)
    }

    private static func holds(_ bytes: [UInt8], _ tag: [UInt8], at offset: Int) -> Bool {
        offset >= 0 && bytes.dropFirst(offset).starts(with: tag)
    }

    /// Reforge's images begin with their tag, or with a skippable frame that holds it.
    private static func ourHead(_ head: [UInt8]) -> KnownImage? {
        if holds(head, EncryptedImage.magic, at: 0) || holds(head, EncryptedImage.magic, at: 8) {
            return KnownImage(kind: .image, name: "an encrypted Reforge image")
        }
        if holds(head, ImageFormat.headerTag, at: 8) { return KnownImage(kind: .image, name: "a Reforge image") }
        guard let first = head.first, first & 0xF0 == 0x50, holds(head, [0x2A, 0x4D, 0x18], at: 1) else { return nil }
        return KnownImage(kind: .image, name: "a damaged Reforge image, or another zstd file")
    }

    /// The repository whose file this is.
    private static func repository(holding path: FilePath) -> FilePath? {
        guard var folder = Files.realPath(path) else { return nil }
        while let name = folder.lastComponent?.string {
            folder.removeLastComponent()
            let isPart =
                LocalLayout.folderNames.contains(name)
                || name == LocalLayout.configurationName
            if isPart, LocalStore.isRepository(folder) { return folder }
        }
        return nil
    }

    private struct Head {
        var kind = Kind.foreign
        var offset = 0
        var bytes: [UInt8]
        var name: String

        init(_ name: String, _ bytes: [UInt8], at offset: Int = 0, kind: Kind = .foreign) {
            (self.kind, self.offset, self.bytes, self.name) = (kind, offset, bytes, name)
        }
        init(_ name: String, _ text: String) { self.init(name, Array(text.utf8)) }
    }

    /// No boot code, filesystem or partition table begins with any of these.
    private static let heads = [
        Head("a zstd file", [0x28, 0xB5, 0x2F, 0xFD], kind: .image),
        Head("an xz file", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00], kind: .image),
        Head("a qcow2 image", Array("QFI".utf8) + [0xFB]),
        Head("a QED image", "QED\0"),
        Head("a VMDK image", "KDMV"),
        Head("a VMDK image", "COWD"),
        Head("a VMDK image", "# Disk DescriptorFile"),
        Head("a VHD image", "conectix"),
        Head("a VHDX image", "vhdxfile"),
        Head("a VDI image", [0x7F, 0x10, 0xDA, 0xBE], at: 64),
        Head("a Parallels image", "WithoutFreeSpace"),
        Head("a Parallels image", "WithouFreSpacExt"),
        Head("a Partclone image", "partclone-image"),
        Head("a Partimage image", "PaRtImAgE-VoLuMe"),
        Head("an FSArchiver archive", "FsArCh_"),
        Head("a Windows image (WIM)", "MSWIM\0\0\0"),
        Head("an EWF image", Array("EVF".utf8) + [0x09, 0x0D, 0x0A, 0xFF, 0x00]),
        Head("a segment of a Borg repository", "BORG_SEG"),
        Head("a gzip file", [0x1F, 0x8B, 0x08]),
        Head("a bzip2 file", [0x31, 0x41, 0x59, 0x26, 0x53, 0x59], at: 4),
        Head("an lz4 file", [0x04, 0x22, 0x4D, 0x18]),
        Head("an lzop file", [0x89, 0x4C, 0x5A, 0x4F, 0x00]),
        Head("a 7z archive", [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]),
        Head("a zip archive", [0x50, 0x4B, 0x03, 0x04]),
        Head("a RAR archive", "Rar!\u{1A}\u{07}"),
    ]

    private static let ends: [(name: String, fromEnd: Int, bytes: [UInt8])] = [
        ("a VHD image", 512, Array("conectix".utf8)),
        ("a VHD image", 511, Array("conectix".utf8)),
        ("a DMG image", 512, Array("koly".utf8)),
    ]
}
