// SPDX-License-Identifier: GPL-3.0-or-later

/// What an initramfs says about the disks of the machine that it was made on.
package struct InitramfsReference: Codable, Hashable, Sendable {
    package enum Target: Codable, Hashable, Sendable {
        /// A filesystem or device in the form of fstab(5) or `root=`: `UUID=…`, `/dev/sda3`.
        case device(String)
        /// A LUKS volume by its UUID.
        case luks(String)
        /// A logical volume, `group/name`.
        case logicalVolume(String)
        /// An array of md by its UUID: 32 hexadecimal digits in lower case.
        case array(String)
    }

    /// The effect of a reference to something that no longer exists.
    package enum Purpose: String, Codable, Sendable {
        /// The root, or what it lies on: the start stops or waits.
        case root
        /// Hibernation: the start waits for it.
        case resume
    }

    /// The file inside the initramfs.
    package var file: String
    package var target: Target
    package var purpose: Purpose

    package init(file: String, target: Target, purpose: Purpose = .root) {
        self.file = file
        self.target = target
        self.purpose = purpose
    }

    /// The target as the file writes it.
    package var text: String {
        switch target {
        case .device(let text), .luks(let text), .logicalVolume(let text), .array(let text): text
        }
    }
}

extension InitramfsReference {
    /// Whether the start depends on it wherever the same generator makes the file again: dracut copies crypttab only
    /// into an initramfs for one machine.
    package var isForTheStart: Bool {
        purpose == .root
            && (file == "cryptroot/crypttab" || file.hasPrefix("etc/mdadm") || file.hasPrefix("etc/cmdline"))
    }

    /// Those whose targets others do not name.
    package static func lost(
        _ references: [InitramfsReference], from others: [InitramfsReference]
    ) -> [InitramfsReference] {
        references.filter { reference in !others.contains { $0.target == reference.target } }
    }
}

extension Initramfs {
    private static let mostReferences = 256

    /// The references of crypttab(5), dracut.cmdline(7), mdadm.conf(5) and initramfs-tools(7) in it.
    package var references: [InitramfsReference] {
        var found: [InitramfsReference] = []
        for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
            let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
                .map { $0.split { $0 == " " || $0 == "\t" } }
                .filter { $0.first?.hasPrefix("#") == false }
            let targets: [(InitramfsReference.Target, InitramfsReference.Purpose)]
            switch name {
            case "cryptroot/crypttab", "etc/crypttab":
                targets = lines.compactMap { $0.count > 1 ? Self.encrypted($0[1]) : nil }.map { ($0, .root) }
            case "etc/mdadm/mdadm.conf", "etc/mdadm.conf":
                targets = lines.filter { $0.first == "ARRAY" }.flatMap { words in
                    words.filter { $0.lowercased().hasPrefix("uuid=") }.compactMap { Self.array($0.dropFirst(5)) }
                }.map { ($0, .root) }
            case _ where name.hasPrefix("conf/conf.d/"):
                let value = Self.variable("RESUME", in: bytes) ?? "none"
                let device = String(value.prefix { $0 != " " && $0 != "\t" })
                targets = ["", "none", "auto"].contains(device) ? [] : [(.device(device), .resume)]
            case _ where name.hasPrefix("etc/cmdline"):
                targets = lines.flatMap { $0 }.compactMap(Self.argument)
            default: targets = []
            }
            for (target, purpose) in targets {
                let reference = InitramfsReference(file: name, target: target, purpose: purpose)
                if found.count < Self.mostReferences, !found.contains(reference) { found.append(reference) }
            }
        }
        return found
    }

    /// The words of the kernel command line that dracut put into it, in order.
    package var commandLine: [String] {
        files.sorted { $0.key < $1.key }.filter { $0.key.hasPrefix("etc/cmdline.d/") }
            .flatMap { String(decoding: $0.value, as: UTF8.self).split(whereSeparator: \.isWhitespace) }
            .prefix(Self.mostReferences).map(String.init)
    }

    /// What a word of a kernel command line refers to; `nil` if it refers to no disk.
    package static func target(ofArgument word: String) -> InitramfsReference.Target? { argument(word[...])?.0 }

    /// The second field of a line of crypttab(5).
    private static func encrypted(_ field: Substring) -> InitramfsReference.Target? {
        for prefix in ["UUID=", "/dev/disk/by-uuid/"] where field.hasPrefix(prefix) {
            return .luks(field.dropFirst(prefix.count).lowercased())
        }
        return field == "none" || field.isEmpty ? nil : .device(String(field))
    }

    private static func array(_ value: Substring) -> InitramfsReference.Target? {
        let digits = value.lowercased().filter(\.isHexDigit)
        return digits.count == 32 ? .array(digits) : nil
    }

    /// A word of a kernel command line (dracut.cmdline(7)).
    private static func argument(_ word: Substring) -> (InitramfsReference.Target, InitramfsReference.Purpose)? {
        let parts = word.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        let value = parts[1].filter { $0 != "\"" }
        switch parts[0] {
        case "root": return (.device(value.hasPrefix("block:") ? String(value.dropFirst(6)) : value), .root)
        case "resume": return (.device(value), .resume)
        case "rd.luks.uuid", "rd_LUKS_UUID":
            let uuid = value.lowercased()
            return (.luks(uuid.hasPrefix("luks-") ? String(uuid.dropFirst(5)) : uuid), .root)
        case "rd.lvm.lv", "rd_LVM_LV": return (.logicalVolume(value), .root)
        case "rd.md.uuid", "rd_MD_UUID": return array(value[...]).map { ($0, .root) }
        default: return nil
        }
    }
}
