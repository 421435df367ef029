// SPDX-License-Identifier: GPL-3.0-or-later

/// A picture of a machine's screen.
package struct ScreenImage: Equatable, Sendable {
    package let width: Int
    package let height: Int
    /// One value a pixel, row by row: red, green and blue in the lower 24 bits.
    package let pixels: [UInt32]

    /// Bound on either side, in pixels.
    static let largestSide = 16_384

    /// - Returns: `nil` if the count of pixels does not match.
    package init?(width: Int, height: Int, pixels: [UInt32]) {
        guard width > 0, height > 0, width <= Self.largestSide, height <= Self.largestSide,
            pixels.count == width * height
        else { return nil }
        (self.width, self.height, self.pixels) = (width, height, pixels)
    }

    /// From a binary PPM file (netpbm, ppm(5)), the format of QEMU's `screendump`; `nil` for other bytes.
    package init?(ppm bytes: [UInt8]) {
        guard bytes.starts(with: Array("P6".utf8)) else { return nil }
        var position = 2
        var numbers: [Int] = []
        while numbers.count < 3 {
            guard position < bytes.count, Self.isSpace(bytes[position]) else { return nil }
            while position < bytes.count, Self.isSpace(bytes[position]) { position += 1 }
            var number = 0
            var digitCount = 0
            while position < bytes.count, bytes[position] >= 0x30, bytes[position] <= 0x39, digitCount < 6 {
                number = number * 10 + Int(bytes[position] - 0x30)
                (position, digitCount) = (position + 1, digitCount + 1)
            }
            guard digitCount > 0 else { return nil }
            numbers.append(number)
        }
        let (width, height) = (numbers[0], numbers[1])
        guard numbers[2] == 255, width > 0, height > 0, width <= Self.largestSide, height <= Self.largestSide,
            position < bytes.count, Self.isSpace(bytes[position]), bytes.count - position - 1 == width * height * 3
        else { return nil }
        var pixels: [UInt32] = []
        pixels.reserveCapacity(width * height)
        for place in stride(from: position + 1, to: bytes.count, by: 3) {
            pixels.append(UInt32(bytes[place]) << 16 | UInt32(bytes[place + 1]) << 8 | UInt32(bytes[place + 2]))
        }
        self.init(width: width, height: height, pixels: pixels)
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

    /// The share of pixels that differ from another picture; 1 if the sizes do.
    package func difference(from other: ScreenImage) -> Double {
        guard width == other.width, height == other.height else { return 1 }
        var count = 0
        for (one, two) in zip(pixels, other.pixels) where one != two { count += 1 }
        return Double(count) / Double(pixels.count)
    }

    /// The most frequent colour, and the share of pixels that have it.
    package var commonColour: (colour: UInt32, share: Double) {
        var counts: [UInt32: Int] = [:]
        // Every seventh pixel: an estimate is enough, and 7 divides no usual width.
        for index in stride(from: 0, to: pixels.count, by: 7) { counts[pixels[index], default: 0] += 1 }
        let most = counts.max { $0.value < $1.value } ?? (0, 0)
        return (most.key, Double(most.value) / Double((pixels.count + 6) / 7))
    }

    /// Whether it is mostly one blue, as the stop screens of Windows are (#0000AA, #1073AA, #0078D7, …).
    package var isBlue: Bool {
        let (colour, share) = commonColour
        let (red, green, blue) = (colour >> 16 & 0xFF, colour >> 8 & 0xFF, colour & 0xFF)
        return share > 0.7 && blue >= 0x70 && blue >= red + 0x60 && blue >= green + 0x20
    }

    /// Whether it shows one colour and nothing else.
    package var isBlank: Bool { pixels.allSatisfy { $0 == pixels[0] } }
}
