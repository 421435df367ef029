// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The number of cases and the seed: `REFORGE_FULL=1` runs all cases with a new seed each time,
/// `REFORGE_SEED=n` repeats what printed the seed n. A plain run has the same cases every time: rare failures are found by the
/// full run, and do not interrupt other work.
package enum Sample {
    package static let isFull = SystemFacts.environment("REFORGE_FULL") == "1"
    package static let seed = asked ?? (isFull ? UInt64(SystemFacts.unixSeconds()) : 4)
    private static let asked = SystemFacts.environment("REFORGE_SEED").flatMap { UInt64($0) }

    /// Random numbers for one purpose of a test.
    package static func generator(_ purpose: Int) -> SeededGenerator {
        SeededGenerator(seed: seed &+ UInt64(purpose) &* 0x1_0000_0001)
    }

    /// The seed of one test: of its name, so that tests do not all have the same cases; the one that was asked for, if
    /// any, as tests print what they got here.
    package static func seed(of name: String = #function) -> UInt64 {
        if let asked { return asked }
        var random = SeededGenerator(seed: seed)
        return name.utf8.reduce(random.next()) { hash, byte in
            random = SeededGenerator(seed: hash ^ UInt64(byte))
            return random.next()
        }
    }
}
