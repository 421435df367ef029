// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// The name of a proof: its snapshot, its time, and a random number. Sorted, the proofs of a snapshot are in the order
/// in which they were stored.
struct ProofName: Comparable, CustomStringConvertible {
    let snapshot: ContentHash
    /// The time, and a random number.
    let tail: StoreName
    /// The time in seconds since 1970, or later: behind the proof before it.
    var seconds: UInt64 { tail.high }

    init(snapshot: ContentHash, seconds: UInt64) {
        self.snapshot = snapshot
        tail = StoreName(high: seconds, low: StoreName.random().low)
    }

    /// From the name of an object; `nil` for anything else.
    init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let snapshot = ContentHash(hexadecimal: String(parts[0])),
            let tail = StoreName(String(parts[1])), snapshot.description == parts[0]
        else { return nil }
        self.snapshot = snapshot
        self.tail = tail
    }

    var description: String { "\(snapshot).\(tail)" }
    /// As the name of a file in the context of its protected parts.
    var bytes: [UInt8] { snapshot.bytes + tail.bytes }

    static func < (a: ProofName, b: ProofName) -> Bool {
        a.snapshot == b.snapshot
            ? a.tail < b.tail : a.snapshot.bytes.lexicographicallyPrecedes(b.snapshot.bytes)
    }
}
