// SPDX-License-Identifier: GPL-3.0-or-later

/// Reads the text of a screen in a text mode, or of a console on a framebuffer, by comparing its cells with the glyphs
/// of the usual fonts.
package enum ScreenReader {
    /// What stands for a cell that holds no known character.
    package static let unknown: Character = "\u{FFFD}"

    /// The rows of text, without spaces at their ends; `nil` if the screen shows a picture instead of text.
    package static func text(_ image: ScreenImage) -> [String]? {
        // VGA text modes of 80 columns are drawn with a ninth, empty column of pixels.
        let cellWidth = image.width == 720 && image.height == 400 ? 9 : 8
        let plain = read(image, left: 0, top: 0, cellWidth: cellWidth)
        if plain.isText { return plain.rows }
        // GRUB's graphical terminal has a border; all others start at the corner.
        let framed = grubOrigins(image).map { read(image, left: $0.left, top: $0.top, cellWidth: cellWidth) }
        return framed.filter(\.isText).max { $0.known < $1.known }?.rows
    }

    /// Whether the rows are what QEMU shows in place of a screen that nothing has used yet (ui/console.c).
    static func isUntouched(_ rows: [String]?) -> Bool {
        rows?.contains { $0.contains("has not initialized the display") } ?? false
    }

    private struct Reading {
        var rows: [String] = []
        /// The cells with a known character, and with something else.
        var known = 0
        var other = 0

        /// Cells of a picture have more than two colours.
        var isText: Bool { known >= 3 && known >= other }
    }

    /// Where the grid of GRUB's graphical terminal may begin: below its first row with ink, at any offset of a cell.
    private static func grubOrigins(_ image: ScreenImage) -> [(left: Int, top: Int)] {
        guard image.width >= 320, image.height >= 200, image.width != 720 else { return [] }
        return (0..<8).flatMap { left in (0..<16).map { (left: left, top: $0) } }.dropFirst()
            .filter { hasText(image, left: $0.left, top: $0.top) }
    }

    /// Whether a grid yields characters in a sample of its cells.
    private static func hasText(_ image: ScreenImage, left: Int, top: Int) -> Bool {
        var known = 0
        var other = 0
        for row in stride(from: top, to: image.height - 15, by: 16) {
            for column in stride(from: left, to: min(left + 160, image.width - 7), by: 8) {
                switch glyph(image, x: column, y: row) {
                case .some(let glyph) where glyph.isBlank: continue
                case .some(let glyph): if ScreenFont.table[glyph] != nil { known += 1 } else { other += 1 }
                case nil: other += 1
                }
            }
        }
        return known >= 8 && known >= other
    }

    private static func read(_ image: ScreenImage, left: Int, top: Int, cellWidth: Int) -> Reading {
        var reading = Reading()
        for y in stride(from: top, to: image.height - ScreenFont.glyphHeight + 1, by: ScreenFont.glyphHeight) {
            var row = ""
            for x in stride(from: left, to: image.width - cellWidth + 1, by: cellWidth) {
                guard let glyph = glyph(image, x: x, y: y) else {
                    row.append(unknown)
                    reading.other += 1
                    continue
                }
                if glyph.isBlank {
                    row.append(" ")
                } else if let character = ScreenFont.table[glyph] {
                    row.append(character)
                    reading.known += 1
                } else {
                    // Lines of boxes, and letters beyond ASCII.
                    row.append(unknown)
                    if !isDrawing(glyph) { reading.other += 1 }
                }
            }
            while row.last == " " { row.removeLast() }
            reading.rows.append(row)
        }
        return reading
    }

    /// Whether a glyph has rows that are all alike or all full: a cursor, a block, or a piece of a box.
    private static func isDrawing(_ glyph: ScreenFont.Glyph) -> Bool {
        var rows: Set<UInt64> = []
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            rows.insert(glyph.top >> shift & 0xFF)
            rows.insert(glyph.bottom >> shift & 0xFF)
        }
        return rows.count <= 3
    }

    /// The pixels of a cell in the colour that is not its background's; `nil` for a cell of more than two colours.
    private static func glyph(_ image: ScreenImage, x: Int, y: Int) -> ScreenFont.Glyph? {
        let first = image.pixels[y * image.width + x]
        var second: UInt32?
        var glyph = ScreenFont.Glyph()
        var count = 0
        for row in 0..<ScreenFont.glyphHeight {
            let start = (y + row) * image.width + x
            for column in 0..<8 {
                let pixel = image.pixels[start + column]
                if pixel == first { continue }
                if let second, pixel != second { return nil }
                second = pixel
                glyph.set(row: row, column: column)
                count += 1
            }
        }
        guard count > 64 else { return glyph }
        // The corner belongs to the character, and most of the cell is background.
        return ScreenFont.Glyph(top: ~glyph.top, bottom: ~glyph.bottom)
    }
}
