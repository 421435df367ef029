// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Partclone images to begin with.
enum PartcloneSeeds {
    static func all() -> [[UInt8]] {
        var samples: [PartcloneSample] = []
        for (checksum, bitmap) in [(0x20, 1), (0, 1), (0x30, 8), (0x31, 1), (0xFF, 0)] as [(UInt16, UInt8)] {
            var sample = PartcloneSample.random
            sample.used = Array(sample.used.prefix(37))
            (sample.checksum, sample.bitmap) = (checksum, bitmap)
            samples.append(sample)
        }
        return samples.map(\.image) + [samples[0].firstVersion()]
    }

    /// The input with a right checksum of its header: otherwise nothing behind it would be reached.
    static func checked(_ input: [UInt8]) -> [UInt8] {
        guard input.count >= 110, input[30..<34].elementsEqual(Array("0002".utf8)) else { return input }
        var image = input
        image.setLittleEndian(CRC32.iso.update(.max, Array(image[..<106])), at: 106)
        return image
    }
}
