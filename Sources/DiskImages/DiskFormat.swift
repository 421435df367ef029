// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A file format that holds a disk: a row of `DiskFormat.table`.
package struct DiskFormat: Sendable {
    /// The name in messages.
    package let name: String
    /// Whether the bytes of the file are the bytes of the disk, so that the file can be used like a device.
    package let isPlain: Bool
    /// Whether it is the format of a virtual machine's disk, which no other tool takes for a disk.
    package let isVirtual: Bool
    package let recognize: @Sendable (FileHead) throws(ImageError) -> Recognition
    package let open: @Sendable (DiskRequest) throws(ImageError) -> any DiskFile

    package init(
        name: String, isPlain: Bool = false, isVirtual: Bool = false,
        recognize: @escaping @Sendable (FileHead) throws(ImageError) -> Recognition,
        open: @escaping @Sendable (DiskRequest) throws(ImageError) -> any DiskFile
    ) {
        self.name = name
        self.isPlain = isPlain
        self.isVirtual = isVirtual
        self.recognize = recognize
        // A block map beside the file describes the disk, however that is compressed. Virtual disks have maps of their own.
        guard !isVirtual else {
            self.open = open
            return
        }
        self.open = { request throws(ImageError) in try BMapDisk.around(try open(request), request) }
    }

    /// All formats, in the order of detection.
    package static let table = Registry<DiskFormat>([xz, zstd, compressed] + virtual + [raw])
}

/// The parameters of `DiskFormat.open`.
package struct DiskRequest {
    package var path: FilePath
    /// A folder for the decompressed disk; `nil` to decompress while reading.
    package var scratch: FilePath?
    /// Whether the disk image of a virtual machine may name files outside its folder.
    package var allowsBacking = false
    /// The memory that stays free of a scratch in memory, in bytes.
    package var memoryReserve: UInt64 = 0
    package var cancellation: Cancellation
    /// Receives a line before each long step.
    package var log: (String) -> Void
    /// Receives the number of bytes of the file read so far.
    package var progress: (UInt64) -> Void

    package init(
        _ path: FilePath, scratch: FilePath? = nil, cancellation: Cancellation = Cancellation(),
        log: @escaping (String) -> Void = { _ in },
        progress: @escaping (UInt64) -> Void = { _ in }
    ) {
        self.path = path
        self.scratch = scratch
        self.cancellation = cancellation
        self.log = log
        self.progress = progress
    }
}

extension DiskFormat {
    /// By the magic number: section 2.1.1.1 of the .xz file format.
    static let xz = DiskFormat(
        name: "raw image in an .xz file",
        recognize: { head throws(ImageError) in
            head.bytes.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) ? .byContent : .no
        },
        open: { request throws(ImageError) in try CompressedDisk.open(request) })

    /// By the magic number: RFC 8878 §3.1.1.
    static let zstd = DiskFormat(
        name: "raw image in a .zst file",
        recognize: { head throws(ImageError) in head.magic == 0xFD2F_B528 ? .byContent : .no },
        open: { request throws(ImageError) in try CompressedDisk.open(request) })

    /// By the magic numbers of gzip, bzip2, lz4, lzop and lzip. (The one of .lzma proves too little for a disk.)
    static let compressed = DiskFormat(
        name: "raw image in a compressed file",
        recognize: { head throws(ImageError) in
            ["gzip", "bzip2", "lz4", "lzo", "lzip"].contains(Compression.detect(head.bytes).name) ? .byContent : .no
        },
        open: { request throws(ImageError) in try CompressedDisk.open(request) })

    /// The suffixes of raw images: any bytes can be a disk, so the name decides.
    private static let rawSuffixes = ["img", "raw", "iso", "dd"]

    /// Disk images of virtual machines. A raw image whose contents look like one is none: the writer of the disk would
    /// decide which files are read.
    private static let virtual = [VirtualHeader.Format.qcow2, .vmdk, .vhdx, .vdi, .vhd].map { format in
        DiskFormat(
            name: String(format.title.drop { $0 != " " }.dropFirst()), isVirtual: true,
            recognize: { head throws(ImageError) in
                guard let file = head.file, !rawSuffixes.contains(head.suffixes.last ?? "") else { return .no }
                if let found = VirtualHeader.format(of: head.bytes) { return found == format ? .byContent : .no }
                let end = UInt64(VHDFooter.byteCount)
                if format == .vhd, file.byteCount >= 2 * end,
                    VHDFooter.isFooter(try file.bytes(at: file.byteCount - end, count: VHDFooter.byteCount))
                {
                    return .byContent
                }
                return isNamed(head, format)
                    ? .contradiction("its name is that of \(format.title), and its contents are not: it is damaged")
                    : .no
            },
            open: { request throws(ImageError) in try VirtualDisk(request) })
    }

    /// Whether the name of a file is that of a format. The bytes of a disk beside its VMDK have its suffix, too.
    private static func isNamed(_ head: FileHead, _ format: VirtualHeader.Format) -> Bool {
        guard let suffix = head.suffixes.last, head.suffixes.count > 1 else { return false }
        return switch format {
        case .qcow2: ["qcow2", "qcow"].contains(suffix)
        case .vmdk: suffix == "vmdk" && !head.suffixes[head.suffixes.count - 2].hasSuffix("-flat")
        case .vhdx: ["vhdx", "avhdx"].contains(suffix)
        case .vdi: suffix == "vdi"
        case .vhd: ["vhd", "vpc", "avhd"].contains(suffix)
        case .raw: false
        }
    }

    /// Why a file is no disk image of a virtual machine although its name is that of one; `nil` for other files. Its
    /// bytes are not those of a disk.
    package static func virtualContradiction(_ path: FilePath) throws(ImageError) -> String? {
        let head = try FileHead(path)
        for row in virtual {
            if case .contradiction(let why) = try row.recognize(head) { return why }
        }
        return nil
    }

    static let raw = DiskFormat(
        name: "raw image", isPlain: true, recognize: { head throws(ImageError) in try recognizeRaw(head) },
        open: { request throws(ImageError) in try RawDisk(request.path) })

    /// Contradictions: a suffix of another format, the footer of a
    /// Reforge image at the end, or a length that is not a multiple of the sector size.
    private static func recognizeRaw(_ head: FileHead) throws(ImageError) -> Recognition {
        guard let file = head.file else { return .no }
        guard !head.suffixes.contains(where: { ["enc", "zst", "xz", "reforge"].contains($0) }) else {
            return .contradiction("its start does not match the format in its name: it is damaged, or not an image")
        }
        guard let suffix = head.suffixes.last, head.suffixes.count > 1, rawSuffixes.contains(suffix) else {
            return .no
        }
        if try endsAsImage(file) { return .contradiction("its start is damaged: its end is that of a Reforge image") }
        guard file.byteCount > 0, file.byteCount % 512 == 0 else {
            return .contradiction("a raw image is whole sectors of 512 bytes, and it has \(file.byteCount) bytes")
        }
        return .byName
    }

    /// Whether a file ends with the footer of a Reforge image.
    private static func endsAsImage(_ file: FileBytes) throws(ImageError) -> Bool {
        let byteCount = ImageFormat.footerByteCount
        guard file.byteCount >= UInt64(byteCount) else { return false }
        let end = try file.bytes(at: file.byteCount - UInt64(byteCount), count: byteCount)
        return end.starts(with: ImageFormat.footerTag)
    }
}
