// SPDX-License-Identifier: GPL-3.0-or-later

/// The cost of a password guess: the parameters of scrypt (RFC 7914 §2).
package struct PasswordCost: Codable, Equatable, Sendable {
    /// N: a power of two.
    package var rounds: Int
    /// r: the memory needed is 128 · r · N bytes.
    package var blockSize: Int
    /// p: the number of repetitions.
    package var parallelism: Int

    /// From parts.
    package init(rounds: Int, blockSize: Int, parallelism: Int) {
        self.rounds = rounds
        self.blockSize = blockSize
        self.parallelism = parallelism
    }

    /// 128 MiB, and about a third of a second: the first choice for scrypt in OWASP's password storage advice.
    package static let standard = PasswordCost(rounds: 1 << 17, blockSize: 8, parallelism: 1)

    /// The first invalid parameter, if any. Parameters come from files: a hostile one must not use up the memory or
    /// take an hour.
    var contradiction: String? {
        guard rounds >= 2, rounds <= 1 << 23, rounds.nonzeroBitCount == 1 else { return "\(rounds) rounds" }
        // swift-crypto's memory limit does not cover its own scratch space if r exceeds 16.
        guard (1...16).contains(blockSize) else { return "a block size of \(blockSize)" }
        guard (1...16).contains(parallelism) else { return "a parallelism of \(parallelism)" }
        // No product overflows: 2^7 · 2^23 · 2^4 · 2^4.
        guard 128 * rounds * blockSize <= 1 << 30 else { return "\(128 * rounds * blockSize) bytes of memory" }
        guard 128 * rounds * blockSize * parallelism <= 1 << 32 else {
            return "\(rounds) rounds of \(parallelism) times \(blockSize) blocks"
        }
        return nil
    }
}
