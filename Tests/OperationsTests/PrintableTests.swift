// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import Testing

@Suite struct PrintableTests {
    /// A disk, a folder or an image may give anything as a name.
    @Test func aTerminalGetsNothingToObey() {
        let text = "one\u{1B}[2J\ttwo\r\u{9B}31m\nthree\u{202E}\u{7F} é"
        #expect(text.printable == "one?[2J?two??31m?three?? é")
        #expect(text.printableLines == "one?[2J\ttwo??31m\nthree?? é")
        #expect("a\r\nb".printableLines == "a?\nb")
    }
}
