// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import ImageModel

/// A SIZE: a number with K, M, G or T (binary), or none (bytes).
struct ByteSize: ExpressibleByArgument, Equatable {
    var byteCount: UInt64

    init(byteCount: UInt64) { self.byteCount = byteCount }

    init?(argument: String) {
        guard let byteCount = SizeText.parse(argument) else { return nil }
        self.byteCount = byteCount
    }

    var defaultValueDescription: String { "\(byteCount >> 20)M" }

    /// The length of a chunk from `--chunk-size`.
    func chunkByteCount() throws -> Int {
        guard let count = Int(exactly: byteCount), Manifest.isValidChunkByteCount(count) else {
            throw ValidationError("--chunk-size takes a power of two from 64K to 64M")
        }
        return count
    }
}

enum SectorSize: Int, ExpressibleByArgument, CaseIterable {
    case bytes512 = 512
    case bytes4096 = 4096
}
