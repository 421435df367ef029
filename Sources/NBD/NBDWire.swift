// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md). All integers are big-endian.
package enum NBDWire {
    /// "NBDMAGIC": the first bytes of a server.
    package static let greeting: UInt64 = 0x4E42_444D_4147_4943
    /// "IHAVEOPT": follows the greeting, and begins every option.
    package static let optionMagic: UInt64 = 0x4948_4156_454F_5054
    package static let optionReplyMagic: UInt64 = 0x0003_E889_0455_65A9
    package static let requestMagic: UInt32 = 0x2560_9513
    package static let simpleReplyMagic: UInt32 = 0x6744_6698
    package static let structuredReplyMagic: UInt32 = 0x668E_33EF

    /// The reply type of an option that was done.
    static let acknowledgement: UInt32 = 1
    static let replyServer: UInt32 = 2
    static let replyInfo: UInt32 = 3
    static let replyMetaContext: UInt32 = 4
    static let errorUnsupported: UInt32 = 0x8000_0001
    static let errorInvalid: UInt32 = 0x8000_0003

    static let infoExport: UInt16 = 0
    static let infoBlockSize: UInt16 = 3

    /// The context that tells holes and zeros from data, and the number this server gives it.
    static let allocationContext = "base:allocation"
    static let allocationContextID: UInt32 = 1
    static let (stateHole, stateZero): (UInt32, UInt32) = (1, 2)

    /// The payload of an option; the specification's longest text has 4096 bytes.
    static let longestOption = 64 << 10
    /// The longest read that every server must take.
    package static let longestRead = 32 << 20
    package static let requestByteCount = 28
    static let structuredReplyByteCount = 20
    static let simpleReplyByteCount = 16

    /// The flags of both sides in the handshake.
    struct HandshakeFlags: OptionSet {
        let rawValue: UInt32
        static let fixedNewstyle = HandshakeFlags(rawValue: 1)
        static let noZeroes = HandshakeFlags(rawValue: 2)
    }

    /// What a server can do.
    struct TransmissionFlags: OptionSet {
        let rawValue: UInt16
        static let hasFlags = TransmissionFlags(rawValue: 1)
        static let readOnly = TransmissionFlags(rawValue: 1 << 1)
        static let sendDontFragment = TransmissionFlags(rawValue: 1 << 7)
        static let canMultiConnect = TransmissionFlags(rawValue: 1 << 8)
    }

    /// The options that are used here; a server refuses all others.
    enum Option: UInt32 {
        case exportName = 1
        case abort = 2
        case list = 3
        case info = 6
        case go = 7
        case structuredReply = 8
        case listMetaContext = 9
        case setMetaContext = 10
    }

    package enum Command: UInt16, Sendable {
        case read = 0
        case write = 1
        case disconnect = 2
        case flush = 3
        case trim = 4
        case cache = 5
        case writeZeroes = 6
        case blockStatus = 7
    }

    struct CommandFlags: OptionSet {
        let rawValue: UInt16
        static let dontFragment = CommandFlags(rawValue: 1 << 2)
        static let requireOne = CommandFlags(rawValue: 1 << 3)
    }

    /// The types of the chunks of a structured reply. Bit 15 means an error, also in types that are not known.
    enum Chunk {
        static let none: UInt16 = 0
        static let offsetData: UInt16 = 1
        static let offsetHole: UInt16 = 2
        static let blockStatus: UInt16 = 5
        static let error: UInt16 = 1 << 15 | 1
        static let errorOffset: UInt16 = 1 << 15 | 2
        static let errorBit: UInt16 = 1 << 15
        /// The flag of the last chunk of a reply.
        static let done: UInt16 = 1
    }

    /// The error numbers of the protocol, which are Linux's.
    enum ErrorNumber: UInt32 {
        case notPermitted = 1
        case ioError = 5
        case invalid = 22
        case overflow = 75
        case notSupported = 95
    }
}

extension [UInt8] {
    mutating func appendBigEndian<T: FixedWidthInteger>(_ value: T) {
        for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    /// A length in 32 bits, and the text.
    mutating func appendNBDText(_ text: String) {
        appendBigEndian(UInt32(truncatingIfNeeded: text.utf8.count))
        self += text.utf8
    }
}
