// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import Imaging

/// A SIZE: a number with K, M, G or T (binary), or none (bytes).
struct ByteSize: ExpressibleByArgument, Equatable {
    var byteCount: UInt64

    init(byteCount: UInt64) { self.byteCount = byteCount }

    init?(argument: String) {
        guard let byteCount = SizeText.parse(argument) else { return nil }
        self.byteCount = byteCount
    }

    var defaultValueDescription: String { "\(byteCount >> 20)M" }
}

/// A logical sector size for files.
enum SectorSize: Int, ExpressibleByArgument, CaseIterable {
    case bytes512 = 512
    case bytes4096 = 4096
}
