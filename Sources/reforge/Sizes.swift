// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import ImageStore
import Imaging

/// A SIZE: a number with K, M, G or T (binary), or none (bytes).
struct ByteSize: ExpressibleByArgument, Equatable {
    var byteCount: UInt64

    init(byteCount: UInt64) { self.byteCount = byteCount }

    init?(argument: String) {
        guard let last = argument.last else { return nil }
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = units[Character(last.uppercased())]
        guard let number = UInt64(unit == nil ? argument[...] : argument.dropLast()) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
        guard !overflow else { return nil }
        byteCount = product
    }

    var defaultValueDescription: String { "\(byteCount >> 20)M" }
}

/// A logical sector size for files.
enum SectorSize: Int, ExpressibleByArgument, CaseIterable {
    case bytes512 = 512
    case bytes4096 = 4096
}
