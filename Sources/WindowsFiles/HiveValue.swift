// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A value of a key ("Key value" of the specification).
package struct HiveValue: Sendable {
    /// The relevant types.
    package enum Kind: UInt32, Sendable {
        case text = 1
        case expandableText = 2
        case binary = 3
        case word = 4
    }

    /// Empty for the default value.
    package let name: String
    package let type: UInt32
    /// The places of its data in the file, in order, in bytes.
    package let ranges: [Range<Int>]
}

/// A number of 32 bits (REG_DWORD) and its place in the hive's file: what is changed in place.
package struct HiveWord: Equatable, Sendable {
    package let value: UInt32
    /// The offset of its four bytes (little-endian) in the file.
    package let offset: Int
}

extension RegistryHive {
    /// The length of a data segment of a big data record, in bytes.
    private static let segmentByteCount = 16344

    /// The values of a key.
    package func values(of key: HiveKey) throws(WindowsFileError) -> [HiveValue] {
        guard key.valueCount > 0 else { return [] }
        let list = try cell(at: key.valueList)
        guard Int(key.valueCount) <= list.count / 4 else { throw .damaged("the number of values of a key") }
        var values: [HiveValue] = []
        for index in 0..<Int(key.valueCount) { values.append(try value(at: try field(list, 4 * index))) }
        return values
    }

    /// The value of that name, ignoring case; `nil` if there is none.
    package func value(of key: HiveKey, named name: String) throws(WindowsFileError) -> HiveValue? {
        guard key.valueCount <= Self.largestLookup else { throw .damaged("a key has too many values") }
        let wanted = name.lowercased()
        let found = try values(of: key).filter { $0.name.lowercased() == wanted }
        guard found.count <= 1 else { throw .damaged("two values \(name) in one key") }
        return found.first
    }

    /// The data of a value.
    package func data(of value: HiveValue) -> [UInt8] { value.ranges.flatMap { bytes[$0] } }

    /// A value as a number; `nil` if it is no REG_DWORD.
    package func word(_ value: HiveValue) -> HiveWord? {
        guard value.type == HiveValue.Kind.word.rawValue, value.ranges.count == 1, let range = value.ranges.first,
            range.count == 4, let number = try? bytes.littleEndian(UInt32.self, at: range.lowerBound)
        else { return nil }
        return HiveWord(value: number, offset: range.lowerBound)
    }

    /// A value as text, up to its first NUL; `nil` if it is neither REG_SZ nor REG_EXPAND_SZ.
    package func text(_ value: HiveValue) -> String? {
        guard value.type == HiveValue.Kind.text.rawValue || value.type == HiveValue.Kind.expandableText.rawValue else {
            return nil
        }
        return String(Self.text(data(of: value)).prefix { $0 != "\0" })
    }

    private func value(at offset: UInt32) throws(WindowsFileError) -> HiveValue {
        let cell = try cell(at: offset)
        guard has(cell, "vk") else { throw .damaged("a reference to a value leads to another record") }
        let size = try field(cell, 4, UInt32.self)
        let flags = try field(cell, 16, UInt16.self)
        return HiveValue(
            name: try name(
                cell, at: 20, byteCount: Int(try field(cell, 2, UInt16.self)), isCompressed: flags & 1 != 0),
            type: try field(cell, 12), ranges: try ranges(cell, size))
    }

    private func ranges(_ cell: Range<Int>, _ size: UInt32) throws(WindowsFileError) -> [Range<Int>] {
        let count = Int(size & 0x7FFF_FFFF)
        if size >> 31 == 1 {
            // In the field that otherwise locates it.
            guard count <= 4 else { throw .damaged("the length of a value in its record") }
            return [cell.lowerBound + 8..<cell.lowerBound + 8 + count]
        }
        guard count > 0 else { return [] }
        guard count <= bytes.count else { throw .damaged("a value is longer than the hive") }
        let data = try self.cell(at: try field(cell, 8))
        guard minorVersion >= 4, count > Self.segmentByteCount, has(data, "db") else {
            guard count <= data.count else { throw .damaged("a value is longer than its cell") }
            return [data.lowerBound..<data.lowerBound + count]
        }
        let segments = Int(try field(data, 2, UInt16.self))
        let list = try self.cell(at: try field(data, 4))
        guard segments == (count + Self.segmentByteCount - 1) / Self.segmentByteCount else {
            throw .damaged("the number of segments of a value")
        }
        var ranges: [Range<Int>] = []
        var left = count
        for index in 0..<segments {
            let segment = try self.cell(at: try field(list, 4 * index))
            let length = min(left, Self.segmentByteCount)
            guard length <= segment.count else { throw .damaged("a segment of a value is shorter than it should be") }
            ranges.append(segment.lowerBound..<segment.lowerBound + length)
            left -= length
        }
        return ranges
    }
}
