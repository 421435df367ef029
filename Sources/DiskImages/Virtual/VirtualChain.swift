// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// The files of a virtual machine's disk, from the newest snapshot to the base, and the nodes of QEMU that make a disk of
/// them. Every node is stated, so that QEMU guesses no format and follows no name in a file.
struct VirtualChain {
    /// The header of the newest file.
    private(set) var header: VirtualHeader
    /// The newest file.
    let top: VirtualFile
    /// All files, the newest first.
    private(set) var files: [VirtualFile] = []
    /// JSON objects, each after those it refers to.
    private(set) var nodes: [String] = []
    /// Each image that is checked before it is read, with a JSON object that states its own files.
    private(set) var checks: [(file: VirtualFile, node: String)] = []
    /// Files in memory that nodes name.
    private var made: [MemoryFile] = []
    private var copy: ReplayedCopy?
    private let folder: FilePath?
    private let cancellation: Cancellation

    /// The limit of the number of snapshots in a chain.
    private static let deepest = 64
    /// The limit of the number of files: each is open in two processes.
    private static let mostFiles = 256

    /// A file in memory, with the lifetime of an object.
    private final class MemoryFile: Sendable {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// - Parameters:
    ///   - allowsBacking: whether files outside the folder of `path` may be read.
    ///   - cancellation: ends the check of tables.
    init(
        _ path: FilePath, allowsBacking: Bool, cancellation: Cancellation = Cancellation()
    ) throws(ImageError) {
        self.cancellation = cancellation
        top = try VirtualFile(path, below: nil, cancellation)
        header = try VirtualHeader.read(top.metadata)
        // Its bytes are never taken as those of a disk: a damaged header must not have that effect.
        guard header.format != .raw else {
            throw .foreign(name: path.string, why: "it is no disk image of a virtual machine (any more)")
        }
        folder = allowsBacking ? nil : top.path.removingLastComponent()
        try add(top, header, as: "disk", depth: 0)
    }

    /// Has QEMU read a copy of the only file.
    mutating func replaceFile(by copy: ReplayedCopy) {
        self.copy = copy
        header = copy.header
        (nodes, checks) = ([], [])
        let own = protocolNode(copy.attachment.path)
        nodes.append(Self.node(header, "disk", file: own))
    }

    /// The files that QEMU opens.
    var attachments: [StorageDaemon.File] {
        if let copy { return [copy.attachment] }
        return files.map(\.attachment)
            + made.map { StorageDaemon.File($0.descriptor.raw, name: "a description in memory") }
    }

    // MARK: - Nodes

    private mutating func add(
        _ file: VirtualFile, _ header: VirtualHeader, as name: String, depth: Int
    ) throws(ImageError) {
        guard depth < Self.deepest else {
            throw .refused(
                "\(file.path) is below more than \(Self.deepest) snapshots: merge some of them first (qemu-img rebase)")
        }
        guard !files.contains(where: { $0.identity == file.identity }) else {
            throw .refused("\(file.path) is its own backing file, through a chain of others: it cannot be read")
        }
        try keep(file)
        var place = file.attachment.path
        if let extents = header.extents { place = try describe(extents, header, file) }
        let own = protocolNode(place)
        var options = ""
        if let byteCount = header.plainByteCount { options = #","offset":0,"size":\#(byteCount)"# }
        var dataFile: VirtualFile?
        if let reference = header.dataFile {
            let data = try open(reference, of: file)
            try keep(data)
            dataFile = data
            options += #","data-file":"\#(protocolNode(data.attachment.path))""#
        }
        try header.qcowTables?.check(file.metadata, data: dataFile?.device)
        addCheck(file, header, place)
        if header.format == .qcow2 || header.format == .vmdk {
            var backing = "null"
            if let reference = header.backing {
                backing = #""disk\#(depth + 1)""#
                try addBacking(reference, of: file, header, as: "disk\(depth + 1)", depth: depth + 1)
            }
            options += #","backing":\#(backing)"#
        }
        nodes.append(Self.node(header, name, file: own, options))
    }

    /// QEMU itself refuses a truncated VHD or VHDX; a qcow2 image was checked here.
    private mutating func addCheck(_ file: VirtualFile, _ header: VirtualHeader, _ place: String) {
        guard header.format == .vmdk || header.format == .vdi else { return }
        let backing = header.format == .vdi ? "" : #","backing":null"#
        checks.append(
            (
                file,
                #"{"driver":"\#(header.format.rawValue)","read-only":true,"file":{\#(Self.opened(place))}\#(backing)}"#
            ))
    }

    private static func node(
        _ header: VirtualHeader, _ name: String, file: String, _ options: String = ""
    ) -> String {
        // A frame around the disk needs no driver of its own.
        let driver = (header.plainByteCount == nil ? header.format : .raw).rawValue
        return #"{"driver":"\#(driver)","node-name":"\#(name)","read-only":true,"file":"\#(file)"\#(options)}"#
    }

    private mutating func addBacking(
        _ reference: VirtualHeader.Reference, of file: VirtualFile, _ child: VirtualHeader, as name: String, depth: Int
    ) throws(ImageError) {
        let backing = try open(reference, of: file)
        let header = try VirtualHeader.read(backing.metadata)
        // A raw disk whose first bytes its user chose could name files of this machine, and an image whose first bytes
        // are damaged would be read as a raw disk.
        guard let stated = reference.format else {
            throw .refused(
                "\(file.path) does not say of which format its backing file \(backing.path) is, and a guess may read "
                    + "other bytes than its disk. It looks like \(header.format.title); if that is right, write it down: "
                    + "qemu-img rebase -u -f \(child.format.rawValue) -F \(header.format.rawValue) -b "
                    + "\(QemuText.json(reference.name)) \(QemuText.json(file.path.string))")
        }
        if stated != header.format.rawValue {
            throw .refused(
                "\(file.path) says that its backing file \(backing.path) is of the format \(stated), but that is "
                    + "\(header.format.title): correct the one that is wrong (qemu-img rebase -u)")
        }
        guard !header.hasLog else {
            throw .refused(
                "\(backing.path) has a log to be replayed: merge it into one disk with its own program first")
        }
        if let ids = child.contentIDs, let base = header.contentIDs, ids.parent != base.own {
            throw .refused(
                "\(backing.path) was changed after the snapshot \(file.path) was made of it: together they are no disk")
        }
        try add(backing, header, as: name, depth: depth)
    }

    private mutating func keep(_ file: VirtualFile) throws(ImageError) {
        guard files.count < Self.mostFiles else {
            throw .refused(
                "\(files[0].path) consists of more than \(Self.mostFiles) files: convert it into one (qemu-img convert)"
            )
        }
        files.append(file)
    }

    private mutating func protocolNode(_ path: String) -> String {
        let name = "file\(nodes.count)"
        nodes.append(#"{"node-name":"\#(name)",\#(Self.opened(path))}"#)
        return name
    }

    /// The options of a node that reads an open file.
    private static func opened(_ path: String) -> String {
        #""driver":"file","filename":"\#(path)","read-only":true,"auto-read-only":false"#
    }

    /// Opens a file that a header names by a plain path: QEMU would also take URLs and JSON.
    private func open(_ reference: VirtualHeader.Reference, of file: VirtualFile) throws(ImageError) -> VirtualFile {
        let name = reference.name
        let isPlain = !name.isEmpty && name.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 }
        guard isPlain, name.prefix(while: { $0 != "/" }).allSatisfy({ $0 != ":" }) else {
            throw .refused(
                "\(file.path) names \(QemuText.json(String(name.prefix(200)))) as a part of its disk, which is no path of "
                    + "a file: copy that part into a file beside it, and name that (qemu-img rebase -u)")
        }
        let path = FilePath(name)
        let place = path.isAbsolute ? path : file.path.removingLastComponent().appending(path.components)
        guard Files.realPath(place) != nil else {
            throw .missing(
                "\(file.path) needs the file \(place), which does not exist: put it there, or name the right one")
        }
        let part = try VirtualFile(place, below: folder, cancellation)
        try part.refuseMounted()
        return part
    }

    // MARK: - Descriptions

    /// A VMDK's description of our own, with the opened files in place of names. QEMU's reader of the original skips
    /// parts of zeros and read-only parts, and takes a part after an empty line twice.
    /// - Returns: the path of the description.
    private mutating func describe(
        _ extents: [VMDKExtent], _ header: VirtualHeader, _ file: VirtualFile
    ) throws(ImageError) -> String {
        var lines: [String] = []
        var opened: [String: VirtualFile] = [:]
        // One file serves all parts of zeros: a description has room for tens of thousands.
        var zeros: String?
        let longestZeros = extents.filter { $0.name == nil }.map(\.sectorCount).max() ?? 0
        for extent in extents {
            guard let name = extent.name else {
                let place = if let zeros { zeros } else { try memory(byteCount: longestZeros * 512) }
                zeros = place
                lines.append(#"RW \#(extent.sectorCount) FLAT "\#(place)" 0"#)
                continue
            }
            let part: VirtualFile
            if let known = opened[name] {
                part = known
            } else {
                part = try open(VirtualHeader.Reference(name: name), of: file)
                opened[name] = part
                try keep(part)
            }
            try check(extent, part)
            let kind = extent.kind.isFlat ? VMDKExtent.Kind.flat : extent.kind
            lines.append(
                #"RW \#(extent.sectorCount) \#(kind.rawValue) "\#(part.attachment.path)""#
                    + (extent.kind.isFlat ? " \(extent.offset)" : ""))
        }
        let ids = header.contentIDs ?? .init(own: 0, parent: VMDKDescriptor.withoutParent)
        let head = [
            VMDKDescriptor.firstLine, "version=1", "CID=\(String(ids.own, radix: 16))",
            "parentCID=\(String(ids.parent, radix: 16))", #"createType="twoGbMaxExtentSparse""#,
        ]
        let text = Array(((head + lines).joined(separator: "\n") + "\n").utf8)
        return try memory(text)
    }

    private func check(_ extent: VMDKExtent, _ part: VirtualFile) throws(ImageError) {
        if extent.kind.isFlat {
            let end = (extent.offset + extent.sectorCount) * 512
            guard part.device.byteCount >= end else {
                throw .truncated(name: part.path.string, at: part.device.byteCount)
            }
            return
        }
        let own = try VMDKHeader.sectorCount(ofExtent: part.metadata, extent.kind)
        guard own == extent.sectorCount else {
            throw part.device.damaged(
                "it holds \(own) sectors, and the description of the disk says \(extent.sectorCount)", at: 0)
        }
    }

    private mutating func memory(_ bytes: [UInt8] = [], byteCount: UInt64? = nil) throws(ImageError) -> String {
        do throws(SystemCallError) {
            let file = MemoryFile(
                try OwnedDescriptor.memory("reforge", byteCount: byteCount ?? UInt64(bytes.count)))
            do { _ = try file.descriptor.raw.writeAll(toAbsoluteOffset: 0, bytes) } catch {
                throw SystemCallError("write", "a file in memory", error as? Errno ?? .ioError)
            }
            made.append(file)
            return "/proc/self/fd/\(file.descriptor.raw.rawValue)"
        } catch { throw .system(error) }
    }
}
