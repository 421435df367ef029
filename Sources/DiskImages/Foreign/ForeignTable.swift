// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A partition table as another tool has written it down. Places and lengths in sectors.
struct ForeignTable: Equatable, Sendable {
    enum Kind: Sendable {
        case gpt, mbr
    }

    struct Entry: Equatable, Sendable {
        var number: Int
        /// The name of the partition, without /dev/: `sda3`, `cciss/c0d0p1`.
        var device: String
        var start: UInt64
        var count: UInt64
        /// GPT: the type.
        var type: GUID = .zero
        /// MBR: the type byte.
        var typeByte: UInt8 = 0
        /// GPT: its own GUID; `nil` if it is not written down.
        var guid: GUID?
        var name = ""
        var attributes: UInt64 = 0
        var isBootable = false

        /// Whether it only contains others: an extended partition of an MBR.
        var isExtended: Bool { [0x05, 0x0F, 0x85].contains(typeByte) }
        /// The sector behind it. Its sum was checked when it was read.
        var end: UInt64 { start + count }
    }

    var kind: Kind
    /// In bytes; `nil` in dumps of old programs, which have 512 in mind, or the disk's.
    var sectorSize: Int?
    /// GPT.
    var diskGUID: GUID?
    /// MBR.
    var signature: UInt32?
    var firstUsable: UInt64?
    var lastUsable: UInt64?
    /// How many entries a GPT has room for.
    var entryCount: Int?
    /// By number.
    var entries: [Entry]

    /// The largest number of partitions: the kernel's limit.
    static let entryLimit = 256
}

extension ForeignTable {
    /// Reads `sfdisk -d`, of any version (util-linux, `libfdisk/src/script.c`).
    init(sfdisk text: String) throws(ParsingError) {
        self.init(kind: .mbr, entries: [])
        var label: String?
        var identifier: String?
        var entries: [Entry] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let line = Self.trimmed(line)
            guard !line.isEmpty, !line.hasPrefix("#"), let colon = Self.separator(line) else { continue }
            let key = Self.trimmed(line[..<colon])
            let value = Self.trimmed(line[line.index(after: colon)...])
            switch key {
            case "label": label = String(value)
            case "label-id": identifier = String(value)
            case "sector-size":
                guard let size = Int(value), [512, 1024, 2048, 4096].contains(size) else {
                    throw .invalid(what: "the sector size \(value)")
                }
                sectorSize = size
            case "first-lba": firstUsable = try Self.number(value)
            case "last-lba": lastUsable = try Self.number(value)
            case "table-length": entryCount = Int(exactly: try Self.number(value))
            case "unit":
                guard value == "sectors" else { throw .invalid(what: "the unit \(value)") }
            case "device", "grain": continue
            default:
                guard key.hasPrefix("/dev/") else { continue }
                entries.append(try Self.entry(key.dropFirst(5), value))
                guard entries.count <= Self.entryLimit else { throw .invalid(what: "the number of partitions") }
            }
        }
        switch label ?? "dos" {
        case "dos":
            if let identifier {
                guard identifier.hasPrefix("0x"), let number = UInt32(identifier.dropFirst(2), radix: 16) else {
                    throw .invalid(what: "the label-id \(identifier)")
                }
                signature = number
            }
        case "gpt":
            kind = .gpt
            guard let guid = identifier.flatMap({ GUID($0) }) else { throw .invalid(what: "the label-id of the GPT") }
            diskGUID = guid
        default: throw .invalid(what: "the partition table of the kind \(label ?? "")")
        }
        try add(entries)
    }

    /// Takes the entries that are in use, each with the type of this kind of table.
    private mutating func add(_ found: [Entry]) throws(ParsingError) {
        for entry in found where entry.count > 0 {
            if kind == .mbr {
                guard entry.typeByte != 0 else { throw .invalid(what: "the type of \(entry.device)") }
            } else {
                guard entry.type != .zero else { throw .invalid(what: "the type of \(entry.device)") }
            }
            _ = try entry.start.adding(entry.count, "the end of \(entry.device)")
            guard entry.start > 0, !entries.contains(where: { $0.number == entry.number }) else {
                throw .invalid(what: "the entry of \(entry.device)")
            }
            entries.append(entry)
        }
        entries.sort { $0.number < $1.number }
    }

    /// The colon between a key and its value: that of a device is behind a blank, for its name may have one.
    private static func separator(_ line: Substring) -> Substring.Index? {
        guard line.hasPrefix("/dev/") else { return line.firstIndex(of: ":") }
        return line.indices.first { line[$0] == ":" && (line[..<$0].last?.isWhitespace ?? false) }
    }

    private static func entry(_ device: Substring, _ fields: Substring) throws(ParsingError) -> Entry {
        let digits = String(device.reversed().prefix { $0.isASCII && $0.isNumber }.reversed())
        guard let number = Int(digits), (1...Self.entryLimit).contains(number) else {
            throw .invalid(what: "the partition number of \(device)")
        }
        var entry = Entry(number: number, device: String(device), start: 0, count: 0)
        for (key, value) in try Self.fields(fields) {
            switch key {
            case "start": entry.start = try Self.number(value)
            case "size": entry.count = try Self.number(value)
            case "type", "id":
                if let guid = GUID(value) {
                    entry.type = guid
                } else if let byte = UInt8(value, radix: 16) {
                    entry.typeByte = byte
                } else {
                    throw .invalid(what: "the type of \(device)")
                }
            case "uuid":
                guard let guid = GUID(value) else { throw .invalid(what: "the uuid of \(device)") }
                entry.guid = guid
            case "name": entry.name = value
            case "attrs": entry.attributes = try attributes(value)
            case "bootable": entry.isBootable = true
            default: continue
            }
        }
        return entry
    }

    /// `start= 2048, size= 100, name="a, \x22b\x22", bootable`: keys in lower case, quotes removed.
    private static func fields(_ text: Substring) throws(ParsingError) -> [(key: String, value: String)] {
        var fields: [(String, String)] = []
        var rest = text
        while true {
            rest = rest.drop { $0.isWhitespace || $0 == "," }
            guard !rest.isEmpty else { return fields }
            let key = trimmed(rest.prefix { $0 != "=" && $0 != "," })
            rest = rest.drop { $0 != "=" && $0 != "," }
            guard rest.first == "=" else {
                fields.append((key.lowercased(), ""))
                continue
            }
            rest = rest.dropFirst().drop(while: \.isWhitespace)
            if rest.first == "\"" {
                guard let end = rest.dropFirst().firstIndex(of: "\"") else { throw .invalid(what: "a quoted text") }
                fields.append((key.lowercased(), unescaped(rest[rest.index(after: rest.startIndex)..<end])))
                rest = rest[rest.index(after: end)...]
            } else {
                fields.append((key.lowercased(), String(trimmed(rest.prefix { $0 != "," }))))
                rest = rest.drop { $0 != "," }
            }
        }
    }

    /// Bytes written as `\x22` (util-linux, `fputs_quoted`).
    static func unescaped(_ text: Substring) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count, bytes[index + 1] == UInt8(ascii: "x"),
                let byte = UInt8(String(decoding: bytes[index + 2...index + 3], as: UTF8.self), radix: 16)
            {
                result.append(byte)
                index += 4
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// `RequiredPartition LegacyBIOSBootable GUID:60,63` (util-linux, `libfdisk/src/gpt.c`; an old version of it has
    /// the first word without its last i).
    private static func attributes(_ text: String) throws(ParsingError) -> UInt64 {
        var bits: UInt64 = 0
        for word in text.split(whereSeparator: { $0.isWhitespace }) {
            switch word {
            case "RequiredPartition", "RequiredPartiton": bits |= 1
            case "NoBlockIOProtocol": bits |= 2
            case "LegacyBIOSBootable": bits |= 4
            default:
                for number in word.trimmingPrefix("GUID:").split(separator: ",") {
                    guard let bit = UInt64(number), bit < 64 else { throw .invalid(what: "the attribute \(word)") }
                    bits |= 1 << bit
                }
            }
        }
        return bits
    }

    private static func number(_ text: some StringProtocol) throws(ParsingError) -> UInt64 {
        // The kernel counts in bytes of 63 bits.
        guard let number = UInt64(text), number < 1 << 54 else { throw .invalid(what: "the number \(text)") }
        return number
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let start = text.drop(while: \.isWhitespace)
        guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return start.prefix(0) }
        return start[...last]
    }
}
