// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

/// A LUKS2 volume with tokens that open it by the TPM of one machine.
package struct SealedVolume: Codable, Equatable, Sendable {
    package var partition: Int
    /// Their types: `clevis`, `systemd-tpm2`.
    package var tokens: [String]

    package init(partition: Int, tokens: [String]) {
        self.partition = partition
        self.tokens = tokens
    }

    /// Token types that are bound to a machine (systemd-cryptenroll(1), clevis-luks-bind(1)).
    private static let sealedTypes: Set<String> = ["clevis", "systemd-tpm2"]
    private static let largestMetadata = 4 << 20

    private struct Metadata: Decodable {
        struct Token: Decodable { var type: String }
        var tokens: [String: Token]?
    }

    /// The tokens of a LUKS2 header ("LUKS2 On-Disk Format Specification", §2 and §3.5); `nil` without any, or where
    /// the header cannot be read: the survey of the volumes says so.
    package init?(_ volume: BootVolume, on disk: any BlockReader) {
        guard volume.kind == .luks, volume.isPartition, let slice = BlockSlice(disk, range: volume.range),
            slice.byteCount >= 16384, let head = try? slice.readBytes(at: 0, count: 16),
            head.starts(with: [0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE, 0, 2])
        else { return nil }
        let headerByteCount = head[8..<16].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        guard headerByteCount > 4096, headerByteCount <= min(slice.byteCount, UInt64(Self.largestMetadata)),
            let bytes = try? slice.readBytes(at: 4096, count: Int(headerByteCount) - 4096),
            let metadata = try? DoctorJSON.decode(
                Metadata.self, Array(bytes.prefix { $0 != 0 }), limit: Self.largestMetadata)
        else { return nil }
        tokens = Set((metadata.tokens ?? [:]).values.map(\.type)).intersection(Self.sealedTypes).sorted()
        guard !tokens.isEmpty else { return nil }
        partition = volume.number
    }
}
