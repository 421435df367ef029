// SPDX-License-Identifier: GPL-3.0-or-later

/// The parts of a cloned system's identity that are renewed.
package enum IdentityPart: String, Codable, Sendable, CaseIterable {
    /// The host name; needs a name.
    case hostname
    /// systemd's and D-Bus's machine id.
    case machineID = "machine-id"
    /// The SSH server's host keys.
    case sshKeys = "ssh-keys"
    /// The seeds of the random number generator.
    case randomSeed = "random-seed"
    /// DHCP leases, names bound to network cards, names of storage initiators.
    case network
    /// UUIDs and serial numbers of filesystems, swap and LUKS, with every reference to them.
    case uuids
    /// The ids of LVM's groups and physical volumes.
    case lvm
}

/// A request for a new identity, as in `--new-identity=hostname:web2,ssh-keys`.
package struct IdentityRequest: Equatable, Sendable, CustomStringConvertible {
    /// The parts, in a fixed order.
    package var parts: Set<IdentityPart>
    /// The new host name, if `parts` has it.
    package var hostname: String?

    /// The parts of a request that names none: everything that needs no name, and that no loader refers to.
    package static let standard: Set<IdentityPart> = [.machineID, .sshKeys, .randomSeed, .network]

    package init(_ parts: Set<IdentityPart> = standard, hostname: String? = nil) {
        self.parts = parts
        self.hostname = hostname
        if hostname != nil { self.parts.insert(.hostname) }
    }

    /// Parses a list of parts, separated by commas. An empty text means the standard parts; `standard` in a list, too.
    package init(parsing text: some StringProtocol) throws(IdentityRequestError) {
        self.init([])
        guard !text.isEmpty else {
            parts = Self.standard
            return
        }
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            if word == "standard" {
                parts.formUnion(Self.standard)
            } else if word.hasPrefix("hostname:") {
                let name = String(word.dropFirst("hostname:".count))
                guard Self.isHostname(name) else {
                    throw IdentityRequestError(
                        "\"\(name)\" is no host name: 1 to 64 letters, digits and hyphens, in parts separated by dots")
                }
                guard hostname == nil || hostname == name else {
                    throw IdentityRequestError("it has two host names, \(hostname ?? "") and \(name)")
                }
                hostname = name
                parts.insert(.hostname)
            } else if word == "hostname" {
                throw IdentityRequestError("hostname needs a name: hostname:NAME")
            } else if let part = IdentityPart(rawValue: String(word)) {
                parts.insert(part)
            } else {
                let known = IdentityPart.allCases.map { $0 == .hostname ? "hostname:NAME" : $0.rawValue }
                throw IdentityRequestError(
                    "\"\(word)\" is no part of an identity. The parts are \(known.joined(separator: ", ")), and standard"
                )
            }
        }
    }

    /// The text that parses to this.
    package var description: String {
        IdentityPart.allCases.filter(parts.contains).map { part in
            part == .hostname ? "hostname:\(hostname ?? "")" : part.rawValue
        }.joined(separator: ",")
    }

    /// Whether Linux and RFC 1123 §2.1 allow this host name: labels of at most 63 letters, digits and hyphens;
    /// HOST_NAME_MAX is 64.
    package static func isHostname(_ name: String) -> Bool {
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        return (1...64).contains(name.utf8.count) && name != "localhost"
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
            }
    }
}

/// Why a request for an identity was rejected.
package struct IdentityRequestError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A sentence for messages.
    package var description: String

    package init(_ description: String) { self.description = description }
}
