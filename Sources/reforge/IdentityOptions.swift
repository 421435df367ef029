// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel

/// What is changed in a restored system.
struct IdentityOptions: ParsableArguments {
    @Option(
        name: .customLong("new-identity"),
        help: ArgumentHelp(
            """
            Give the system a new identity, with =: hostname:NAME, machine-id, ssh-keys, random-seed, network, uuids, \
            lvm, separated by commas; standard, also without a value: machine-id, ssh-keys, random-seed and network.
            """, valueName: "parts"))
    var newIdentity: String?
    @Option(
        help: ArgumentHelp(
            """
            A program that runs in the system at the end, confined, with the report as JSON on its standard input. May \
            be repeated.
            """, valueName: "file"))
    var hook: [String] = []

    func validate() throws {
        guard let text = newIdentity else { return }
        do { _ = try IdentityRequest(parsing: text) } catch { throw ValidationError("--new-identity: \(error)") }
    }
}
