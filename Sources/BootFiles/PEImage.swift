// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The sections of an EFI program (Microsoft "PE Format"), and those of a unified kernel image in it
/// (uapi-group.org/specifications, "Unified Kernel Image").
package struct PEImage: Equatable, Sendable {
    /// A part of the file.
    package struct Section: Equatable, Sendable {
        /// Its name, at most 8 bytes: `.cmdline`.
        package var name: String
        /// Its place in the file, in bytes. Without the padding that only fills the file's alignment.
        package var range: Range<Int>

        package init(name: String, range: Range<Int>) {
            self.name = name
            self.range = range
        }
    }

    /// What a program is made for (PE Format, "Machine Types").
    package enum Machine: Equatable, Sendable {
        case x86, x86_64, arm64, other(UInt16)
    }

    package var machine: Machine
    /// In the order of the file.
    package var sections: [Section]
    /// The place of the certificate table in the file, in bytes: the program is signed. By whom is not checked.
    package var certificates: Range<Int>?
    /// The length of the file in bytes.
    package var byteCount: Int

    /// The longest part of a file that `init` reads, in bytes.
    package static let headByteCount = 1 << 16
    private static let mostSections = 96

    /// Reads a file's head.
    /// - Parameters:
    ///   - head: the first bytes of the file: all, or `headByteCount`.
    ///   - byteCount: the length of the file in bytes.
    /// - Throws: `BootFileError` if it is no EFI program, or damaged.
    package init(head: [UInt8], byteCount: Int) throws(BootFileError) {
        do throws(ParsingError) {
            guard head.starts(with: [0x4D, 0x5A]) else { throw .invalid(what: "the first two bytes") }
            // "MS-DOS Stub": the offset of the signature.
            let start = Int(try head.littleEndian(UInt32.self, at: 0x3C))
            guard try head.bytes(at: start, count: 4) == [0x50, 0x45, 0, 0] else {
                throw .invalid(what: "the PE signature")
            }
            // "COFF File Header".
            let machine = try head.littleEndian(UInt16.self, at: start + 4)
            let sectionCount = Int(try head.littleEndian(UInt16.self, at: start + 6))
            let optionalByteCount = Int(try head.littleEndian(UInt16.self, at: start + 20))
            guard sectionCount <= Self.mostSections else { throw .invalid(what: "the count of sections") }
            self.machine =
                switch machine {
                case 0x14C: .x86
                case 0x8664: .x86_64
                case 0xAA64: .arm64
                default: .other(machine)
                }
            self.byteCount = byteCount
            certificates = try Self.certificates(head, start + 24, optionalByteCount, fileByteCount: byteCount)
            sections = []
            for index in 0..<sectionCount {
                sections.append(
                    try Self.section(head, start + 24 + optionalByteCount + index * 40, fileByteCount: byteCount))
            }
        } catch { throw .damaged(what: "as an EFI program: \(error)") }
    }

    /// - Parameter bytes: the whole file.
    package init(_ bytes: [UInt8]) throws(BootFileError) {
        try self.init(head: Array(bytes.prefix(Self.headByteCount)), byteCount: bytes.count)
    }

    /// "Section Table (Section Headers)": 40 bytes each.
    private static func section(
        _ head: [UInt8], _ offset: Int, fileByteCount: Int
    ) throws(ParsingError) -> Section {
        let name = try head.text(at: offset, count: 8)
        let virtualByteCount = try head.littleEndian(UInt32.self, at: offset + 8)
        let rawByteCount = try head.littleEndian(UInt32.self, at: offset + 16)
        // VirtualSize is the real length; SizeOfRawData is rounded up to the file's alignment.
        let byteCount = Int(virtualByteCount == 0 ? rawByteCount : min(virtualByteCount, rawByteCount))
        let start = byteCount == 0 ? 0 : Int(try head.littleEndian(UInt32.self, at: offset + 20))
        guard start <= fileByteCount, byteCount <= fileByteCount - start else {
            throw .outOfBounds(offset: start, byteCount: byteCount, available: fileByteCount)
        }
        return Section(name: name, range: start..<start + byteCount)
    }

    /// "Optional Header Data Directories": the fifth one, whose address is an offset in the file.
    private static func certificates(
        _ head: [UInt8], _ offset: Int, _ optionalByteCount: Int, fileByteCount: Int
    ) throws(ParsingError) -> Range<Int>? {
        guard optionalByteCount >= 2 else { return nil }
        let magic = try head.littleEndian(UInt16.self, at: offset)
        let directories = magic == 0x20B ? 112 : 96
        guard optionalByteCount >= directories + 5 * 8,
            try head.littleEndian(UInt32.self, at: offset + directories - 4) >= 5
        else { return nil }
        let start = Int(try head.littleEndian(UInt32.self, at: offset + directories + 4 * 8))
        let byteCount = Int(try head.littleEndian(UInt32.self, at: offset + directories + 4 * 8 + 4))
        guard start > 0, byteCount >= 8 else { return nil }
        guard start <= fileByteCount, byteCount <= fileByteCount - start else {
            throw .outOfBounds(offset: start, byteCount: byteCount, available: fileByteCount)
        }
        return start..<start + byteCount
    }

    /// The first section of that name.
    package func section(_ name: String) -> Section? { sections.first { $0.name == name } }

    /// Whether it has a signature, which Secure Boot may or may not accept.
    package var isSigned: Bool { certificates != nil }

    /// Whether it is a unified kernel image: it holds a kernel.
    package var isUnifiedKernel: Bool { section(".linux") != nil }

    /// The text of a section, up to its first NUL and without surrounding white space; `nil` if there is none, or it is
    /// longer than 64 KiB.
    /// - Parameter read: the bytes of the file in a range, in bytes.
    package func text(
        of name: String, _ read: (Range<Int>) throws(BootFileError) -> [UInt8]
    ) throws(BootFileError) -> String? {
        guard let section = section(name), section.range.count <= 1 << 16 else { return nil }
        var text = Substring(String(decoding: try read(section.range).prefix { $0 != 0 }, as: UTF8.self))
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    /// The generation of each component in .sbat (shim's SBAT.md: component, generation, …), in its order.
    package static func sbat(_ text: String) -> [(component: String, generation: UInt32)] {
        text.split(whereSeparator: \.isNewline).prefix(256).compactMap { line in
            let fields = line.split(separator: ",", omittingEmptySubsequences: false)
            guard fields.count >= 2, let generation = UInt32(fields[1]) else { return nil }
            return (String(fields[0]), generation)
        }
    }
}
