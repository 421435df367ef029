// SPDX-License-Identifier: GPL-3.0-or-later

/// The PARTUUID of a partition of an MBR: the disk's signature and the partition's number, both hexadecimal
/// (`5eed0001-03`; Linux, block/partitions/msdos.c).
struct MBRPartitionName: Equatable {
    /// In lower case.
    let signature: String
    let number: Int

    /// `nil` for the GUID of a partition of a GPT, and all else.
    init?(partUUID text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.count == 8, (2...4).contains(parts[1].utf8.count),
            parts.allSatisfy({ $0.allSatisfy { $0.isASCII && $0.isHexDigit } }), let number = Int(parts[1], radix: 16),
            number > 0
        else { return nil }
        signature = parts[0].lowercased()
        self.number = number
    }
}
