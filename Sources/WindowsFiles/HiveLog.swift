// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The transaction logs of a hive: `NAME.LOG`, `NAME.LOG1`, `NAME.LOG2`.
package enum HiveLog {
    /// Why a log may hold changes that are not in the hive, as a sentence part; `nil` if it holds none.
    ///
    /// Windows ignores the logs of a clean hive; a newer entry beside one that looks clean means that the hive is not
    /// the one to which the log belongs, so nothing about it is certain.
    /// - Parameters:
    ///   - log: the whole file, or its beginning.
    ///   - name: of the file, for the sentence.
    package static func problem(_ log: [UInt8], named name: String, of hive: RegistryHive) -> String? {
        guard log.count >= 512, log.starts(with: Array("regf".utf8)) else { return nil }
        if log.dropFirst(512).starts(with: Array("DIRT".utf8)) {
            // The old format: its base block is the one after the write.
            guard let number = try? log.littleEndian(UInt32.self, at: 4), isNewer(number, than: hive) else {
                return nil
            }
            return "\(name) is newer than it"
        }
        var offset = 512
        // Each entry starts at a multiple of 512, right behind the one before.
        while let entry = try? log.bytes(at: offset, count: 16), entry.starts(with: Array("HvLE".utf8)),
            let size = try? entry.littleEndian(UInt32.self, at: 4), size >= 512, size % 512 == 0,
            let number = try? entry.littleEndian(UInt32.self, at: 12)
        {
            if isNewer(number, than: hive) { return "\(name) holds the newer entry \(number)" }
            guard Int(size) <= log.count - offset else { break }
            offset += Int(size)
        }
        return nil
    }

    /// Sequence numbers wrap around.
    private static func isNewer(_ number: UInt32, than hive: RegistryHive) -> Bool {
        Int32(bitPattern: number &- hive.sequenceNumber) > 0
    }
}
