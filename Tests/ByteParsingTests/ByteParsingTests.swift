// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import ByteParsing

@Suite struct ByteParsingTests {
    @Test func fieldsOutsideTheBytesAreErrors() throws {
        let bytes: [UInt8] = [1, 2, 3, 4, 5]
        #expect(try bytes.littleEndian(UInt32.self, at: 1) == 0x0504_0302)
        #expect(try bytes.bigEndian(UInt16.self, at: 3) == 0x0405)
        #expect(throws: ParsingError.outOfBounds(offset: 2, byteCount: 4, available: 5)) {
            try bytes.littleEndian(UInt32.self, at: 2)
        }
        #expect(throws: ParsingError.self) { try bytes.littleEndian(UInt8.self, at: -1) }
        #expect(throws: ParsingError.self) { try bytes.littleEndian(UInt8.self, at: .max) }
        #expect(throws: ParsingError.self) { _ = try bytes.bytes(at: 4, count: 2) }
    }

    @Test func checksumsMatchTheirPublishedCheckValues() {
        // The "check" values of both CRCs: the checksum of the ASCII digits 1 to 9.
        #expect(CRC32.iso.checksum("123456789".utf8) == 0xCBF4_3926)
        #expect(CRC32.castagnoli.checksum("123456789".utf8) == 0xE306_9283)
    }

    @Test func guidRoundTrips() throws {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        let guid = try #require(GUID(text))
        #expect(guid.description == text)
        #expect(guid.mixedEndianBytes.prefix(4) == [0x28, 0x73, 0x2A, 0xC1])
        #expect(try GUID(mixedEndianBytes: guid.mixedEndianBytes) == guid)
        #expect(GUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93") == nil)
        #expect(GUID("g12a7328-f81f-11d2-ba4b-00a0c93ec93b") == nil)
    }

    @Test func arithmeticReportsOverflow() throws {
        #expect(throws: ParsingError.overflow(what: "end")) { try UInt64.max.adding(1, "end") }
        #expect(throws: ParsingError.self) { try UInt64(1).subtracting(2, "gap") }
        #expect(throws: ParsingError.self) { try UInt64(1).dividedRoundingUp(by: 0, "count") }
        #expect(UInt64(5).roundedUp(toMultipleOf: 4) == 8)
        #expect(UInt64.max.roundedUp(toMultipleOf: 4) == nil)
    }

    @Test func littleEndianWriting() throws {
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(UInt32(0x0102_0304))
        #expect(bytes == [4, 3, 2, 1])
        bytes.setLittleEndian(UInt16(0xAABB), at: 2)
        #expect(bytes == [4, 3, 0xBB, 0xAA])
    }
}
