// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// A part of the disk of a VMDK.
struct VMDKExtent: Equatable, Sendable {
    enum Kind: String, Equatable, Sendable {
        /// Bytes of a file, as they are.
        case flat = "FLAT", vmfs = "VMFS"
        case sparse = "SPARSE", vmfsSparse = "VMFSSPARSE", seSparse = "SESPARSE"
        /// Zeros without a file.
        case zero = "ZERO"

        var isFlat: Bool { self == .flat || self == .vmfs }
    }

    var kind: Kind
    var sectorCount: UInt64
    /// `nil` for zeros.
    var name: String?
    /// The first sector of a flat extent in its file.
    var offset: UInt64 = 0
}

/// The text that describes a VMDK (VMware, *Virtual Disk Format 5.0*).
struct VMDKDescriptor: Equatable, Sendable {
    static let firstLine = "# Disk DescriptorFile"
    /// The longest plausible descriptor: that of a disk of thousands of parts, in bytes.
    static let longest = 1 << 20
    static let withoutParent: UInt32 = 0xFFFF_FFFF

    struct ContentIDs: Equatable, Sendable {
        var own: UInt32
        /// `withoutParent`, or the id that the parent had when this one was made.
        var parent: UInt32
    }

    var createType = ""
    var ids = ContentIDs(own: withoutParent, parent: withoutParent)
    var parentName: String?
    var extents: [VMDKExtent] = []

    /// - Parameter file: for messages.
    init(_ bytes: [UInt8], of file: any BlockReader) throws(ImageError) {
        let used = bytes.prefix { $0 != 0 }
        guard let text = String(validating: used, as: UTF8.self) else {
            throw file.refused(
                "its descriptor is not in UTF-8", instead: "Give its files plain names, and write them there")
        }
        guard text.hasPrefix(Self.firstLine) else { throw file.damaged("its descriptor", at: 0) }
        for line in text.split(whereSeparator: \.isNewline) {
            let line = line.drop { $0 == " " || $0 == "\t" }
            guard let first = line.first, first != "#" else { continue }
            if line.hasPrefix("encryption.") {
                throw file.refused("it is encrypted", instead: "Decrypt it with VMware, and give the result")
            }
            if let extent = try Self.extent(line, file) {
                extents.append(extent)
            } else if let sign = line.firstIndex(of: "=") {
                try take(line[..<sign], line[line.index(after: sign)...], file)
            }
        }
    }

    private mutating func take(_ key: Substring, _ value: Substring, _ file: any BlockReader) throws(ImageError) {
        let key = key.filter { !$0.isWhitespace }
        let value = value.trimmingPrefix { $0.isWhitespace }
        func number() throws(ImageError) -> UInt32 {
            let digits = value.prefix { !$0.isWhitespace }
            guard let number = UInt32(digits, radix: 16) else { throw file.damaged("its \(key)", at: 0) }
            return number
        }
        func quoted() throws(ImageError) -> String {
            guard value.first == "\"", let end = value.dropFirst().firstIndex(of: "\"") else {
                throw file.damaged("its \(key)", at: 0)
            }
            return String(value[value.index(after: value.startIndex)..<end])
        }
        switch key {
        case "CID": ids.own = try number()
        case "parentCID": ids.parent = try number()
        case "createType": createType = try quoted()
        case "parentFileNameHint": parentName = try quoted()
        default: break
        }
    }

    /// `RW 4192256 SPARSE "disk-s001.vmdk"`, or `RW 2048 FLAT "disk-flat.vmdk" 0`; `nil` for another line.
    private static func extent(_ line: Substring, _ file: any BlockReader) throws(ImageError) -> VMDKExtent? {
        let words = line.split(maxSplits: 3, whereSeparator: { $0 == " " || $0 == "\t" })
        guard let access = words.first, ["RW", "RDONLY", "NOACCESS"].contains(access) else { return nil }
        func wrong() -> ImageError { file.damaged("the extent \(line.prefix(80))", at: 0) }
        guard access != "NOACCESS" else {
            throw file.refused("a part of it has no access", instead: "Give the files of the whole disk")
        }
        guard words.count >= 3, let count = UInt64(words[1]), count > 0, count <= VirtualHeader.largest / 512 else {
            throw wrong()
        }
        guard let kind = VMDKExtent.Kind(rawValue: String(words[2])) else {
            throw file.refused(
                "a part of it is of the type \(words[2].prefix(32))",
                instead: "Clone it with VMware into a disk of files")
        }
        if kind == .zero { return VMDKExtent(kind: kind, sectorCount: count) }
        guard words.count == 4, words[3].first == "\"", let end = words[3].dropFirst().firstIndex(of: "\"") else {
            throw wrong()
        }
        let name = words[3][words[3].index(after: words[3].startIndex)..<end]
        let rest = words[3][words[3].index(after: end)...].split(whereSeparator: \.isWhitespace)
        var extent = VMDKExtent(kind: kind, sectorCount: count, name: String(name))
        if kind.isFlat {
            guard rest.count == 1 || kind == .vmfs && rest.isEmpty else { throw wrong() }
            guard let offset = rest.first.map({ UInt64($0) }) ?? 0, offset <= VirtualHeader.largest / 512 else {
                throw wrong()
            }
            extent.offset = offset
        } else if !rest.isEmpty {
            throw wrong()
        }
        return extent
    }
}
