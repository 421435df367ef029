// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The partition that a device element of a boot configuration store names.
package enum BCDPartition: Codable, Equatable, Hashable, Sendable, CustomStringConvertible {
    /// Of a GPT: the partition's and the disk's GUID.
    case gpt(partition: GUID, disk: GUID)
    /// Of an MBR: the start of the partition, in bytes, and the disk's signature.
    case mbr(start: UInt64, signature: UInt32)

    /// A disk, by the identifier of its table.
    package enum Disk: Hashable, Sendable {
        case gpt(GUID)
        case mbr(signature: UInt32)
    }

    /// The disk that the partition is on.
    package var disk: Disk {
        switch self {
        case .gpt(_, let disk): .gpt(disk)
        case .mbr(_, let signature): .mbr(signature: signature)
        }
    }

    package var description: String {
        switch self {
        case .gpt(let partition, let disk): "partition \(partition) of disk \(disk)"
        case .mbr(let start, let signature):
            "the partition at byte \(start) of the disk with signature 0x\(String(signature, radix: 16))"
        }
    }
}

/// A device element's data. The layout is that of stores written by Windows: options object (16 bytes), kind, flags,
/// length, then for a partition its identifier, its scheme and its disk's identifier; all little-endian.
package enum BCDDevice: Equatable, Sendable {
    /// The partition that the firmware started from.
    case boot
    case partition(BCDPartition)
    /// Another kind: a file, a RAM disk, a search. It is left alone.
    case other(kind: UInt32)

    /// The length of an element that names a partition, in bytes.
    package static let partitionByteCount = 88
    /// The length behind the options object: the field at 24 holds it.
    private static let descriptorByteCount: UInt32 = 72

    /// - Throws: `ParsingError` if a partition's element has not exactly the known layout.
    package init(_ data: [UInt8]) throws(ParsingError) {
        let kind = try data.littleEndian(UInt32.self, at: 16)
        switch kind {
        case 5: self = .boot
        case 6:
            func isZero(_ range: Range<Int>) -> Bool { data[range].allSatisfy { $0 == 0 } }
            guard data.count == Self.partitionByteCount,
                try data.littleEndian(UInt32.self, at: 24) == Self.descriptorByteCount, isZero(20..<24),
                isZero(28..<32),
                isZero(48..<52), isZero(72..<88)
            else { throw .invalid(what: "a device element that names a partition") }
            switch try data.littleEndian(UInt32.self, at: 52) {
            case 0:
                self = .partition(
                    .gpt(
                        partition: try GUID(mixedEndianBytes: Array(data[32..<48])),
                        disk: try GUID(mixedEndianBytes: Array(data[56..<72]))))
            case 1:
                guard isZero(40..<48), isZero(60..<72) else { throw .invalid(what: "a device element of an MBR disk") }
                self = .partition(
                    .mbr(
                        start: try data.littleEndian(at: 32), signature: try data.littleEndian(at: 56)))
            default: throw .invalid(what: "the partition scheme of a device element")
            }
        default: self = .other(kind: kind)
        }
    }

    /// The data of an element with another partition: same length, same options.
    /// - Parameter data: the element's present data, which names a partition.
    package static func replacing(_ partition: BCDPartition, in data: [UInt8]) throws(ParsingError) -> [UInt8] {
        guard case .partition = try BCDDevice(data) else {
            throw .invalid(what: "a device element without a partition")
        }
        var identifier = [UInt8](repeating: 0, count: 16)
        var disk = identifier
        let scheme: UInt32
        switch partition {
        case .gpt(let guid, let diskGUID):
            scheme = 0
            identifier = guid.mixedEndianBytes
            disk = diskGUID.mixedEndianBytes
        case .mbr(let start, let signature):
            scheme = 1
            identifier.setLittleEndian(start, at: 0)
            disk.setLittleEndian(signature, at: 0)
        }
        var new = data
        new.replaceSubrange(32..<48, with: identifier)
        new.setLittleEndian(scheme, at: 52)
        new.replaceSubrange(56..<72, with: disk)
        return new
    }
}
