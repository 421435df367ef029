// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// Names of network cards in the configuration of an installed system: MAC addresses, and names of interfaces. They are
/// listed, never edited: which card takes which place is the user's choice.
enum CardNames {
    private static let places: [(folder: String, endings: [String])] = [
        ("/etc/netplan", [".yaml"]), ("/etc/NetworkManager/system-connections", [""]),
        ("/etc/sysconfig/network-scripts", [""]), ("/etc/systemd/network", [".link", ".network", ".netdev"]),
        ("/etc/network", ["interfaces"]), ("/etc/network/interfaces.d", [""]), ("/etc/sysconfig/network", [""]),
    ]
    /// Keys whose value is an interface's name. MAC addresses are recognized by their form.
    private static let keys = ["interface-name", "device", "originalname", "name", "iface"]
    private static let most = 64

    static func found(in anchor: borrowing AnchoredFolder) -> [IdentitySurvey.CardName] {
        var names: [IdentitySurvey.CardName] = []
        for (folder, endings) in places {
            for name in anchor.names(in: folder, atMost: 128) where endings.contains(where: { name.hasSuffix($0) }) {
                let path = "\(folder)/\(name)"
                guard anchor.kind(of: path) == .file, let bytes = try? anchor.readWhole(path, limit: 1 << 18) else {
                    continue
                }
                for value in values(in: String(decoding: bytes, as: UTF8.self)) {
                    let card = IdentitySurvey.CardName(path: path, name: value)
                    if !names.contains(card) { names.append(card) }
                    if names.count >= most { return names }
                }
            }
        }
        return names
    }

    /// The values of the keys, and MAC addresses anywhere.
    static func values(in text: String) -> [String] {
        var values: [String] = []
        for line in text.split(whereSeparator: \.isNewline).prefix(4096) {
            let trimmed = line.drop { $0 == " " || $0 == "\t" || $0 == "-" }
            guard !trimmed.hasPrefix("#"), !trimmed.hasPrefix(";") else { continue }
            let words = trimmed.split { " \t=\"',[]".contains($0) }.map(String.init)
            for word in words where isAddress(word) { values.append(word.lowercased()) }
            guard let key = words.first?.lowercased(), words.count > 1, !isAddress(words[1]) else { continue }
            let plain = key.hasSuffix(":") ? String(key.dropLast()) : key
            guard keys.contains(plain), words[1] != "lo", isInterface(words[1]) else { continue }
            values.append(words[1])
        }
        return values
    }

    static func isAddress(_ word: String) -> Bool {
        let parts = word.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 6 && parts.allSatisfy { $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) }
    }

    /// IFNAMSIZ is 16, with the NUL.
    private static func isInterface(_ word: String) -> Bool {
        (1...15).contains(word.utf8.count)
            && word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) }
    }
}
