// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// What the header of a virtual machine's disk image says: everything that decides which bytes of which files are the
/// disk. It is read here, and not left to QEMU, because it may name other files, and a file may come from a stranger.
struct VirtualHeader: Equatable, Sendable {
    /// The formats, by the names of QEMU's drivers.
    enum Format: String, Equatable, Sendable {
        case qcow2, vmdk, vhdx, vdi
        case vhd = "vpc"
        case raw

        /// With its article, for messages.
        var title: String {
            switch self {
            case .qcow2: "a qcow2 image"
            case .vmdk: "a VMDK image"
            case .vhdx: "a VHDX image"
            case .vdi: "a VDI image"
            case .vhd: "a VHD image"
            case .raw: "a raw image"
            }
        }
    }

    /// Another file that the header names.
    struct Reference: Equatable, Sendable {
        /// As it stands in the header.
        var name: String
        /// Its format, where the header states it.
        var format: String?
    }

    var format: Format
    /// The length of the disk in bytes.
    var byteCount: UInt64
    /// The logical sector size in bytes, where the format records it.
    var sectorSize: Int?
    /// The file that is read where this one holds nothing.
    var backing: Reference?
    /// The file with the data of a qcow2 image whose metadata alone is here.
    var dataFile: Reference?
    /// Where the clusters of a qcow2 image are.
    var qcowTables: QcowTables?
    /// The parts of a VMDK that is only a description.
    var extents: [VMDKExtent]?
    /// A VMDK's content id and that of its parent.
    var contentIDs: VMDKDescriptor.ContentIDs?
    /// Whether a log must be replayed before the disk is whole.
    var hasLog = false
    /// The part of the file that is the disk, for a format that is nothing but a frame around it.
    var plainByteCount: UInt64?

    /// The largest plausible length of a disk, in bytes.
    static let largest: UInt64 = 1 << 60

    /// Recognizes the format by its first bytes; `nil` for other files. A fixed VHD has its mark only at its end.
    static func format(of head: [UInt8]) -> Format? {
        func holds(_ bytes: [UInt8], at offset: Int = 0) -> Bool { head.dropFirst(offset).starts(with: bytes) }
        if holds(Array("QFI".utf8) + [0xFB]) { return .qcow2 }
        if holds(Array("KDMV".utf8)) || holds(Array(VMDKDescriptor.firstLine.utf8)) { return .vmdk }
        if holds(Array("vhdxfile".utf8)) { return .vhdx }
        if holds([0x7F, 0x10, 0xDA, 0xBE], at: 64) { return .vdi }
        if holds(Array(VHDFooter.cookie.utf8)) { return .vhd }
        return nil
    }

    /// Recognizes and reads the header of a file.
    /// - Returns: a raw image for a file without a known header.
    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        let head = try file.part(at: 0, count: Int(min(file.byteCount, 512)))
        let header: VirtualHeader
        switch format(of: head) {
        case .qcow2: header = try QcowHeader.read(file)
        case .vmdk: header = try VMDKHeader.read(file)
        case .vhdx: header = try VHDXHeader.read(file)
        case .vdi: header = try VDIHeader.read(file)
        case .vhd: header = try VHDFooter.read(file)
        case .raw, nil:
            if try VHDFooter.isAtEnd(of: file) { return try VHDFooter.read(file) }
            return VirtualHeader(format: .raw, byteCount: file.byteCount)
        }
        guard header.byteCount > 0, header.byteCount <= largest else {
            throw file.damaged("the length of its disk, \(header.byteCount) bytes", at: 0)
        }
        return header
    }
}

extension BlockReader {
    /// Bytes of a header, as an error of the image where they are past its end.
    func part(at offset: UInt64, count: Int) throws(ImageError) -> [UInt8] {
        guard count >= 0, UInt64(count) <= byteCount, offset <= byteCount - UInt64(count) else {
            throw .truncated(name: name, at: byteCount)
        }
        do { return try readBytes(at: offset, count: count) } catch {
            throw .system(SystemCallError("read", name, Errno(rawValue: error.errorNumber)))
        }
    }

    func damaged(_ what: String, at offset: UInt64) -> ImageError {
        .damaged(name: name, what: what, fileOffset: offset, disk: nil, partition: nil)
    }

    /// Runs `body`, with a field out of range as damage of the header.
    func parsing<Value>(
        at offset: UInt64, _ body: () throws(ParsingError) -> Value
    ) throws(ImageError) -> Value {
        do { return try body() } catch { throw damaged("its header (\(error))", at: offset) }
    }

    /// A feature that is refused, with the next step.
    func refused(_ what: String, instead: String) -> ImageError {
        .refused("\(name) cannot be read: \(what). \(instead)")
    }
}
