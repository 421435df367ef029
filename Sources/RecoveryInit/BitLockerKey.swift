// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

/// A BitLocker recovery key: eight groups of six digits. Each group is a 16-bit number times 11, so that a typing error
/// is found in its group (libbde, "BitLocker Drive Encryption (BDE) format", "Recovery key").
struct BitLockerKey: Equatable {
    /// As cryptsetup takes it: groups joined by hyphens.
    let text: String

    /// From what was typed: groups may be joined by anything or nothing.
    /// - Throws: status 64, naming the wrong group.
    init(parsing typed: String) throws(JobFailure) {
        guard typed.utf8.count <= 256, !typed.contains(where: { $0.isLetter }) else {
            throw JobFailure(
                .usage, "A recovery key has digits only: 8 groups of 6. The password of the volume is another key.")
        }
        let digits = typed.filter { $0.isASCII && $0.isNumber }
        guard digits.utf8.count == 48 else {
            throw JobFailure(.usage, "A recovery key has 48 digits, and these are \(digits.utf8.count).")
        }
        var groups: [String] = []
        var rest = digits[...]
        while !rest.isEmpty {
            let group = rest.prefix(6)
            rest = rest.dropFirst(6)
            guard let number = UInt32(group), number % 11 == 0, number / 11 <= UInt32(UInt16.max) else {
                throw JobFailure(.usage, "Group \(groups.count + 1) of the recovery key has a wrong digit.")
            }
            groups.append(String(group))
        }
        text = groups.joined(separator: "-")
    }
}
