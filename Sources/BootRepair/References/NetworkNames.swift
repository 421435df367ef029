// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// A network card that a system's configuration names.
package struct NetworkName: Codable, Equatable, Sendable {
    /// The file of the system.
    package var file: String
    /// The interface's name; `nil` where only the address is given.
    package var name: String?
    /// The hardware address, in lower case.
    package var address: String?
}

/// Reads the cards' names and addresses in a system's network configuration: interfaces(5), netplan, NetworkManager,
/// systemd.network(5), systemd.link(5), ifcfg, persistent rules of udev.
enum NetworkNames {
    private static let mostFiles = 64
    private static let largestFile = 1 << 18

    static func all(in anchor: borrowing AnchoredFolder) -> [NetworkName] {
        var found: [NetworkName] = []
        func read(_ folder: String, _ matches: (String) -> Bool, _ parse: (String) -> [(String?, String?)]) {
            for name in anchor.names(in: folder).filter(matches).prefix(mostFiles) {
                let path = "\(folder)/\(name)"
                guard let bytes = try? anchor.read(path, limit: largestFile) else { continue }
                for (name, address) in parse(String(decoding: bytes, as: UTF8.self)) {
                    let entry = NetworkName(file: path, name: name, address: address?.lowercased())
                    if !found.contains(entry) { found.append(entry) }
                }
            }
        }
        read("/etc/network", { $0 == "interfaces" }, interfaces)
        read("/etc/network/interfaces.d", { !$0.hasPrefix(".") }, interfaces)
        for folder in ["/etc/netplan", "/lib/netplan"] { read(folder, { $0.hasSuffix(".yaml") }, netplan) }
        read("/etc/NetworkManager/system-connections", { _ in true }) { text in
            keys(text, names: ["interface-name"], addresses: ["mac-address"])
        }
        read("/etc/systemd/network", { $0.hasSuffix(".network") || $0.hasSuffix(".link") }, systemdNetwork)
        for folder in ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"] {
            read(folder, { $0.hasPrefix("ifcfg-") && $0 != "ifcfg-lo" }) { text in
                keys(text, names: ["DEVICE"], addresses: ["HWADDR", "LLADDR"])
            }
        }
        read("/etc/udev/rules.d", { $0.hasSuffix("persistent-net.rules") }, rules)
        return found
    }

    /// Interfaces without hardware, by the names that systems give them.
    static func isVirtual(_ name: String) -> Bool {
        [
            "lo", "br", "bond", "team", "veth", "vnet", "virbr", "docker", "tun", "tap", "wg", "vlan", "dummy", "ppp",
            "lxc", "vmbr",
        ]
        .contains { name.hasPrefix($0) && name.dropFirst($0.count).allSatisfy { $0.isNumber || "-_".contains($0) } }
            || name.contains(".") || name.contains(":")
    }

    /// `auto`, `allow-hotplug` and `iface` lines; one with `/` is a pattern.
    static func interfaces(_ text: String) -> [(String?, String?)] {
        var names: [String] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: WordChange.isBlank).map(String.init)
            guard let first = words.first, words.count > 1 else { continue }
            if first == "auto" || first == "allow-hotplug" || first == "allow-auto" { names += words.dropFirst() }
            if first == "iface" { names.append(words[1]) }
        }
        let real = names.filter { !isVirtual($0) && !$0.contains("/") && !$0.contains("*") }
        return GrubConfiguration.unique(real).map { ($0, nil) }
    }

    /// The keys below `ethernets:` and `wifis:`, by their indentation. One with `match:` is only a label.
    static func netplan(_ text: String) -> [(String?, String?)] {
        var found: [(String?, String?)] = []
        var section: Int?
        var level: Int?
        var name: String?
        var address: String?
        var isLabel = false
        func finish() {
            guard let known = name else { return }
            if !isLabel { found.append((known, nil)) }
            if let address { found.append((nil, address)) }
        }
        for line in text.split(whereSeparator: \.isNewline) {
            let indent = line.prefix { $0 == " " }.count
            let content = line.dropFirst(indent)
            guard !content.isEmpty, !content.hasPrefix("#") else { continue }
            if let start = section, indent <= start {
                finish()
                (section, level, name, address, isLabel) = (nil, nil, nil, nil, false)
            }
            guard section != nil else {
                if content.hasPrefix("ethernets:") || content.hasPrefix("wifis:") { section = indent }
                continue
            }
            level = level ?? indent
            if indent == level {
                finish()
                name = String(content.prefix { $0 != ":" }.filter { $0 != "\"" && $0 != "'" })
                (address, isLabel) = (nil, false)
            } else if content.hasPrefix("match:") {
                isLabel = true
            } else if content.hasPrefix("macaddress:") {
                address = String(content.dropFirst(11).filter { $0 != " " && $0 != "\"" && $0 != "'" })
            }
        }
        finish()
        return found.filter { pair in pair.0.map { !isVirtual($0) && !$0.contains("*") } ?? true }
    }

    /// `[Match]` of systemd's files: names may be patterns, which are not judged.
    static func systemdNetwork(_ text: String) -> [(String?, String?)] {
        var isMatch = false
        var found: [(String?, String?)] = []
        for line in text.split(whereSeparator: \.isNewline) {
            if line.hasPrefix("[") { isMatch = line.hasPrefix("[Match]") }
            let parts = line.split(separator: "=", maxSplits: 1).map { String($0).trimmed }
            guard isMatch, parts.count == 2 else { continue }
            for value in parts[1].split(separator: " ").map(String.init) {
                if parts[0] == "Name" || parts[0] == "OriginalName", !value.contains(where: { "*?[!".contains($0) }),
                    !isVirtual(value)
                {
                    found.append((value, nil))
                }
                if parts[0] == "MACAddress" || parts[0] == "PermanentMACAddress" { found.append((nil, value)) }
            }
        }
        return found
    }

    private static func keys(_ text: String, names: [String], addresses: [String]) -> [(String?, String?)] {
        var found: [(String?, String?)] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: "=", maxSplits: 1).map { String($0).trimmed }
            guard parts.count == 2 else { continue }
            let value = parts[1].filter { $0 != "\"" && $0 != "'" }
            if names.contains(parts[0]), !isVirtual(value), !value.isEmpty { found.append((value, nil)) }
            if addresses.contains(parts[0]), !value.isEmpty { found.append((nil, value)) }
        }
        return found
    }

    /// `ATTR{address}=="…", NAME="eth0"`.
    static func rules(_ text: String) -> [(String?, String?)] {
        text.split(whereSeparator: \.isNewline).compactMap { line in
            guard !line.hasPrefix("#") else { return nil }
            func value(_ key: String) -> String? {
                for part in line.split(separator: ",").map({ String($0).trimmed }) where part.hasPrefix(key) {
                    return part.dropFirst(key.count).filter { $0 != "\"" }
                }
                return nil
            }
            guard let name = value("NAME="), let address = value("ATTR{address}==") else { return nil }
            return (name, address)
        }
    }
}
