// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Emulator

/// Draws text with a font.
private struct Canvas {
    let width: Int
    let height: Int
    var pixels: [UInt32]

    init(width: Int, height: Int, background: UInt32 = 0) {
        (self.width, self.height) = (width, height)
        pixels = [UInt32](repeating: background, count: width * height)
    }

    mutating func draw(
        _ text: String, font: String = ScreenFont.vga, row: Int, left: Int = 0, top: Int = 0, cellWidth: Int = 8,
        ink: UInt32 = 0xAAAAAA, paper: UInt32? = nil
    ) {
        let glyphs = ScreenFont.glyphs(font)
        for (column, character) in text.enumerated() {
            let glyph = ScreenFont.characters.firstIndex(of: character).map { glyphs[$0] } ?? ScreenFont.Glyph()
            for y in 0..<16 {
                for x in 0..<8 {
                    let place = (top + row * 16 + y) * width + left + column * cellWidth + x
                    if glyph.isSet(row: y, column: x) {
                        pixels[place] = ink
                    } else if let paper {
                        pixels[place] = paper
                    }
                }
            }
        }
    }

    var image: ScreenImage? { ScreenImage(width: width, height: height, pixels: pixels) }

    var rows: [String]? { image.flatMap(ScreenReader.text) }

    var ppm: [UInt8] {
        Array("P6\n\(width) \(height)\n255\n".utf8)
            + pixels.flatMap { [UInt8($0 >> 16 & 0xFF), UInt8($0 >> 8 & 0xFF), UInt8($0 & 0xFF)] }
    }
}

@Suite struct ScreenTests {
    @Test func everyFontHasAllCharactersAndNoTwoLookAlike() {
        for font in [ScreenFont.vga, ScreenFont.fixed, ScreenFont.terminus, ScreenFont.unifont] {
            let glyphs = ScreenFont.glyphs(font)
            #expect(glyphs.count == 94 && ScreenFont.characters.count == 94)
            for (glyph, character) in zip(glyphs, ScreenFont.characters) {
                #expect(ScreenFont.table[glyph] == character)
            }
        }
        #expect(ScreenFont.glyphs(ScreenFont.variants).count == ScreenFont.variantCharacters.count)
    }

    @Test(arguments: [ScreenFont.vga, ScreenFont.fixed, ScreenFont.terminus, ScreenFont.unifont])
    func textOfEachFont(_ font: String) throws {
        var canvas = Canvas(width: 640, height: 480)
        canvas.draw("Debian GNU/Linux 12 web1 tty1", font: font, row: 1)
        canvas.draw("web1 login: {}|~@#$%^&*()", font: font, row: 3, ink: 0xFFFFFF)
        let rows = try #require(canvas.rows)
        #expect(rows[1] == "Debian GNU/Linux 12 web1 tty1" && rows[3] == "web1 login: {}|~@#$%^&*()")
        #expect(rows[0].isEmpty)
    }

    @Test func aTextModeHasWiderCells() throws {
        var canvas = Canvas(width: 720, height: 400)
        canvas.draw("No bootable device.", row: 4, cellWidth: 9)
        let rows = try #require(canvas.rows)
        #expect(rows.count == 25 && rows[4] == "No bootable device.")
    }

    @Test func inverseTextIsRead() throws {
        var canvas = Canvas(width: 640, height: 480)
        canvas.draw("Advanced options for Debian", row: 2, ink: 0, paper: 0xAAAAAA)
        #expect(canvas.rows?[2] == "Advanced options for Debian")
    }

    @Test func theFrameOfGRUBsTerminalIsFound() throws {
        var canvas = Canvas(width: 640, height: 480)
        for row in 0..<6 {
            canvas.draw("grub> ls (hd0,gpt2)/boot", font: ScreenFont.unifont, row: row, left: 3, top: 11)
        }
        let rows = try #require(canvas.rows)
        #expect(rows.contains("grub> ls (hd0,gpt2)/boot"))
    }

    @Test func aPictureIsNoText() throws {
        var canvas = Canvas(width: 640, height: 480)
        for index in canvas.pixels.indices {
            canvas.pixels[index] = UInt32(truncatingIfNeeded: index &* 2_654_435_761) & 0xFFFFFF
        }
        #expect(canvas.rows == nil)
        #expect(Canvas(width: 640, height: 480).rows == nil)
    }

    @Test func blueScreens() throws {
        for (colour, isBlue) in [
            (UInt32(0x0000AA), true), (0x0078D7, true), (0x1073AA, true), (0x000000, false), (0xAAAAAA, false),
        ] {
            var canvas = Canvas(width: 640, height: 480, background: colour)
            canvas.draw(":( Your PC ran into a problem", row: 5, ink: 0xFFFFFF)
            #expect(canvas.image?.isBlue == isBlue, "\(colour)")
        }
    }

    @Test func differences() throws {
        var canvas = Canvas(width: 640, height: 480)
        let before = try #require(canvas.image)
        #expect(before.isBlank && before.difference(from: before) == 0)
        canvas.draw("_", row: 5)
        #expect(canvas.image.map { $0.difference(from: before) < 0.001 } == true)
        #expect(Canvas(width: 320, height: 200).image?.difference(from: before) == 1)
    }

    @Test func ppmFiles() throws {
        var canvas = Canvas(width: 16, height: 16)
        canvas.draw("Ab", row: 0)
        #expect(ScreenImage(ppm: canvas.ppm) == canvas.image)
        for hostile in [
            "", "P6", "P6\n", "P6\n0 0\n255\n", "P6\n2 2\n255\n123", "P6\n999999 999999\n255\n",
            "P6\n1 1\n65535\n123456",
            "P5\n1 1\n255\n1", "P6\n1 1\n255", "P6\n-1 1\n255\n", "P6 99999999999999999999 1 255\n",
        ] { #expect(ScreenImage(ppm: Array(hostile.utf8)) == nil, "\(hostile)") }
        #expect(ScreenImage(ppm: canvas.ppm.dropLast()) == nil && ScreenImage(ppm: canvas.ppm + [0]) == nil)
    }

    @Test func serialTextWithoutControls() {
        var text = ConsoleText()
        let ended = text.take(Array("\u{1B}[2J\u{1B}[1;31mGRUB\u{1B}[0m loading\r\nab\u{08}c\r\n".utf8))
        #expect(ended == ["GRUB loading", "ac"])
        text.take(Array("\u{1B}]0;title\u{07}web1 login: ".utf8))
        #expect(text.current == "web1 login: ")
        for _ in 0..<100 { text.take([UInt8](repeating: 0x41, count: 10_000)) }
        #expect(text.lines.count <= 500 && text.current.utf8.count <= 4096)
        #expect(ConsoleText.shown("a\u{1B}[2Jb\u{202E}é") == "a\\u{1b}[2Jb\\u{202e}é")
        #expect(ConsoleText.shown("\u{2066}\u{2028}") == "\\u{2066}\\u{2028}")
    }
}
