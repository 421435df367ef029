// SPDX-License-Identifier: GPL-3.0-or-later

/// What a guess at a password costs: the parameters of scrypt (RFC 7914 §2).
package struct PasswordCost: Codable, Equatable, Sendable {
    /// N: a power of two.
    package var rounds: Int
    /// r: the memory needed is 128 · r · N bytes.
    package var blockSize: Int
    /// p: how often all of that is done.
    package var parallelism: Int

    /// From parts.
    package init(rounds: Int, blockSize: Int, parallelism: Int) {
        self.rounds = rounds
        self.blockSize = blockSize
        self.parallelism = parallelism
    }

    /// 128 MiB, and about a third of a second: what OWASP's password storage advice names first for scrypt.
    package static let standard = PasswordCost(rounds: 1 << 17, blockSize: 8, parallelism: 1)

    /// What is wrong with the parameters, if anything. They come from files: a hostile one must cost neither all memory
    /// nor an hour.
    var contradiction: String? {
        guard rounds >= 2, rounds <= 1 << 23, rounds.nonzeroBitCount == 1 else { return "\(rounds) rounds" }
        // swift-crypto's limit of memory is too small for its own scratch where r is above 16.
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
