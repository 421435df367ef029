// SPDX-License-Identifier: GPL-3.0-or-later

extension RandomAccessCollection<UInt8> where Index == Int {
    /// Whether `pattern` occurs.
    func contains(_ pattern: [UInt8]) -> Bool { firstIndex(of: pattern) != nil }

    /// Where `pattern` first occurs at or after `start`.
    func firstIndex(of pattern: [UInt8], from start: Int? = nil) -> Int? {
        guard let first = pattern.first, count >= pattern.count else { return nil }
        var position = start ?? startIndex
        let last = endIndex - pattern.count
        while position <= last {
            if self[position] == first, self[position..<position + pattern.count].elementsEqual(pattern) {
                return position
            }
            position += 1
        }
        return nil
    }
}
