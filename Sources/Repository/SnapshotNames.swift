// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

/// The names of captured machines and their disks in a repository. Equal names denote the same disk: `latest` chooses
/// among its snapshots, and `forget` keeps the newest of them.
package enum SnapshotNames {
    /// The longest name, in bytes.
    static let largest = 255

    /// Whether a name is valid for a machine or disk: printable characters of any script, with single spaces between
    /// them, and no slash, which separates names in a selector.
    package static func isValid(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= largest, !name.hasPrefix(" "), !name.hasSuffix(" "),
            !name.contains("  ")
        else { return false }
        return name.unicodeScalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
            case .spaceSeparator: scalar == " "
            default: scalar != "/" && scalar != "\u{FFFD}"
            }
        }
    }

    /// The rule for names, for messages.
    package static let rule = "printable characters, no slash, and at most \(largest) bytes"

    /// Text of firmware or a device (a product, a serial number) as a name: characters other than plain ASCII become
    /// hyphens; `nil` if nothing is left.
    package static func plain(_ text: String?) -> String? {
        guard let text else { return nil }
        let characters = text.prefix(64).map { character -> Character in
            let isPlain =
                character.isASCII && (character.isLetter || character.isNumber || "-_.:+".contains(character))
            return isPlain ? character : "-"
        }
        let name = String(characters).split(separator: "-", omittingEmptySubsequences: true).joined(separator: "-")
        return name.isEmpty ? nil : name
    }

    /// Eight hexadecimal digits that stand for a text.
    package static func shortID(_ text: String) -> String {
        String(ContentHash(of: Array(text.utf8)).description.prefix(8))
    }

    /// Whether a serial number is the default of an emulated disk (QEMU, `hw/ide/core.c`, ide_init_drive): all such
    /// machines share it.
    private static func isPlaceholder(_ serial: String) -> Bool {
        serial.count == 7 && serial.hasPrefix("QM000") && serial.dropFirst(5).allSatisfy(\.isNumber)
    }

    /// The name of a disk: its serial number (with its contents' identity on USB, where the number may be that of a
    /// dock), else its World Wide Name, else the identity of its contents: the GUID of its GPT, the signature of its
    /// MBR with the UUIDs of its filesystems, or the UUID of a filesystem without a table. A file's name is no
    /// identity: if nothing else is known, its whole path counts.
    /// - Parameter place: the absolute path of the file or node, for that case.
    package static func disk(
        _ identity: DiskIdentity, table: PartitionTable, filesystems: [FilesystemInfo], place: String
    ) -> String {
        let serial = plain(identity.serial).flatMap { isPlaceholder($0) ? nil : $0 }
        let content = contentName(table, filesystems)
        if let serial, identity.transport == "usb", let table = tableName(table) ?? content {
            return "\(serial)-\(shortID(table))"
        }
        if let name = serial ?? plain(identity.wwn) ?? content { return name }
        let file = place.split(separator: "/").last.map(String.init)
        return "\(plain(file) ?? "disk")-\(shortID(place))"
    }

    /// The name of a disk by its table alone, independent of its filesystems; `nil` if the table has no identity.
    private static func tableName(_ table: PartitionTable) -> String? {
        switch table.kind {
        case .gpt: table.diskGUID.flatMap { $0 == .zero ? nil : "gpt-\($0)" }
        case .mbr: table.diskSignature.flatMap { $0 == 0 ? nil : "mbr-\($0)" }
        default: nil
        }
    }

    /// The name of a disk by its contents; `nil` if they have no identity.
    private static func contentName(_ table: PartitionTable, _ filesystems: [FilesystemInfo]) -> String? {
        let uuids = filesystems.compactMap(\.uuid).filter { !$0.isEmpty }.sorted()
        switch table.kind {
        case .gpt:
            if let guid = table.diskGUID, guid != .zero { return "gpt-\(guid)" }
        case .mbr:
            let signature = table.diskSignature ?? 0
            let digits = String(signature, radix: 16)
            let name = "mbr-\(String(repeating: "0", count: 8 - digits.count))\(digits)"
            if !uuids.isEmpty { return "\(name)-\(shortID(uuids.joined(separator: " ")))" }
            if signature != 0 { return name }
        case .none:
            if uuids.count == 1, let uuid = plain(uuids.first) { return "fs-\(uuid)" }
        case .unknown: break
        }
        return nil
    }
}
