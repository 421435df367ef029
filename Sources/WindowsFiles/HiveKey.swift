// SPDX-License-Identifier: GPL-3.0-or-later

/// A key of a hive ("Key node" of the specification).
package struct HiveKey: Sendable {
    package let name: String
    let subkeyCount: UInt32
    let subkeyList: UInt32
    let valueCount: UInt32
    let valueList: UInt32
}

extension RegistryHive {
    /// The least length of a key's cell: 4 bytes of size, 76 of fields.
    private static let leastKeyByteCount = 80

    /// "Registry element size limits": 255 characters, of two bytes at most.
    private static let longestKeyName = 510
    /// More than the service of a driver, or an entry of a store, has: bounds lists that many keys share.
    static let largestLookup: UInt32 = 1024

    func key(at offset: UInt32) throws(WindowsFileError) -> HiveKey {
        let cell = try cell(at: offset)
        guard has(cell, "nk") else { throw .damaged("a reference to a key leads to another record") }
        let flags = try field(cell, 2, UInt16.self)
        let nameByteCount = Int(try field(cell, 72, UInt16.self))
        guard nameByteCount <= Self.longestKeyName else { throw .damaged("the name of a key is too long") }
        return HiveKey(
            name: try name(cell, at: 76, byteCount: nameByteCount, isCompressed: flags & 0x20 != 0),
            subkeyCount: try field(cell, 20), subkeyList: try field(cell, 28), valueCount: try field(cell, 36),
            valueList: try field(cell, 40))
    }

    /// The subkeys, in the order of the hive.
    package func subkeys(of key: HiveKey) throws(WindowsFileError) -> [HiveKey] {
        var keys: [HiveKey] = []
        for offset in try subkeyOffsets(of: key) { keys.append(try self.key(at: offset)) }
        return keys
    }

    /// The subkey of that name, ignoring case; `nil` if there is none.
    package func subkey(of key: HiveKey, named name: String) throws(WindowsFileError) -> HiveKey? {
        let wanted = name.lowercased()
        return try subkeys(of: key, named: [wanted])[wanted]
    }

    /// The subkeys of these names in lower case, by them, in one pass: a SYSTEM hive has hundreds of services.
    func subkeys(of key: HiveKey, named names: Set<String>) throws(WindowsFileError) -> [String: HiveKey] {
        var found: [String: HiveKey] = [:]
        for offset in try subkeyOffsets(of: key) {
            let candidate = try self.key(at: offset)
            let name = candidate.name.lowercased()
            guard names.contains(name) else { continue }
            guard found.updateValue(candidate, forKey: name) == nil else {
                throw .damaged("two keys \(name) in one place")
            }
        }
        return found
    }

    /// The key at a path below the root; `nil` if there is none.
    package func key(_ path: String...) throws(WindowsFileError) -> HiveKey? {
        var key = try root
        for name in path {
            guard let next = try subkey(of: key, named: name) else { return nil }
            key = next
        }
        return key
    }

    /// The offsets of the subkeys: their number must agree with the key, and fit into the hive.
    private func subkeyOffsets(of key: HiveKey) throws(WindowsFileError) -> [UInt32] {
        guard key.subkeyCount > 0 else { return [] }
        guard Int(key.subkeyCount) <= bytes.count / Self.leastKeyByteCount else {
            throw .damaged("a key has more subkeys than the hive can hold")
        }
        let cell = try cell(at: key.subkeyList)
        var offsets: [UInt32] = []
        if has(cell, "ri") {  // index root: a list of lists
            for index in 0..<Int(try field(cell, 2, UInt16.self)) {
                try append(to: &offsets, try self.cell(at: try field(cell, 4 + 4 * index)), limit: key.subkeyCount)
            }
        } else {
            try append(to: &offsets, cell, limit: key.subkeyCount)
        }
        guard offsets.count == Int(key.subkeyCount) else { throw .damaged("the number of subkeys of a key") }
        return offsets
    }

    /// Appends the entries of an index leaf (`li`), a fast leaf (`lf`) or a hash leaf (`lh`).
    private func append(
        to offsets: inout [UInt32], _ cell: Range<Int>, limit: UInt32
    ) throws(WindowsFileError) {
        let width = has(cell, "li") ? 4 : 8
        guard width == 4 || has(cell, "lf") || has(cell, "lh") else { throw .damaged("the kind of a list of subkeys") }
        let count = Int(try field(cell, 2, UInt16.self))
        guard count <= Int(limit) - offsets.count else { throw .damaged("the number of subkeys of a key") }
        for index in 0..<count { offsets.append(try field(cell, 4 + width * index)) }
    }
}
