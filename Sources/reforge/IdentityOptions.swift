// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel

/// What is changed in a restored system.
struct IdentityOptions: ParsableArguments {
    @Option(
        name: .customLong("new-identity"), defaultAsFlag: Parts(text: ""),
        help: ArgumentHelp(
            "Give the system a new identity: hostname:NAME, machine-id, ssh-keys, random-seed, network, uuids, lvm, separated by commas; or standard (without a list): machine-id, ssh-keys, random-seed and network.",
            valueName: "parts"))
    var newIdentity: Parts?
    @Option(
        help: ArgumentHelp(
            "A program that runs in the system at the end, confined, with the report as JSON on its standard input. May be repeated.",
            valueName: "file"))
    var hook: [String] = []

    /// A checked list of parts.
    struct Parts: ExpressibleByArgument {
        var text: String
        init(text: String) { self.text = text }
        init?(argument: String) { text = argument }
    }

    func validate() throws {
        guard let text = newIdentity?.text else { return }
        do { _ = try IdentityRequest(parsing: text) } catch { throw ValidationError("--new-identity: \(error)") }
    }
}
