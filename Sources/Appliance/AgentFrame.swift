// SPDX-License-Identifier: GPL-3.0-or-later

/// A frame of the stream between host and agent: a header of 12 bytes and a payload.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 4 | `RFGA` |
/// | 4 | 1 | version |
/// | 5 | 1 | kind: `AgentRequest.Code` or `AgentReply.Code` |
/// | 6 | 2 | zero |
/// | 8 | 4 | length of the payload, little endian |
package struct AgentFrame: Equatable, Sendable {
    package static let version: UInt8 = 2
    package static let headerByteCount = 12
    /// More than the largest message: a piece of a file, or all attributes of one.
    package static let largestPayload = 1 << 20
    private static let magic = Array("RFGA".utf8)

    package var kind: UInt8
    package var payload: [UInt8]

    package init(kind: UInt8, payload: [UInt8]) {
        self.kind = kind
        self.payload = payload
    }

    package var bytes: [UInt8] {
        var bytes = AgentBytes()
        bytes.raw(Self.magic)
        bytes.put(Self.version)
        bytes.put(kind)
        bytes.put(UInt16(0))
        bytes.put(UInt32(clamping: payload.count))
        bytes.raw(payload)
        return bytes.bytes
    }

    /// The kind and the length of the payload that follows a header.
    package static func header(_ bytes: [UInt8]) throws(ApplianceError) -> (kind: UInt8, payloadByteCount: Int) {
        var reader = AgentBytesReader(bytes)
        guard try reader.raw(4) == magic else { throw .untrusted("a frame without its mark") }
        let version: UInt8 = try reader.number()
        guard version == Self.version else {
            throw .machine(
                "the medium speaks version \(version) of the appliance's protocol, and this program \(Self.version): build the medium again (Scripts/build-media), or name another with --media"
            )
        }
        let kind: UInt8 = try reader.number()
        let reserved: UInt16 = try reader.number()
        let count: UInt32 = try reader.number()
        guard reserved == 0, count <= largestPayload else { throw .untrusted("a frame of \(count) bytes") }
        return (kind, Int(count))
    }
}
