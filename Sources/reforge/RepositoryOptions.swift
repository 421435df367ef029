// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import LinuxSystem
import Operations

/// What every command has that looks into a repository and reports on it.
struct RepositoryOptions: ParsableArguments {
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    /// The command's passwords, whose questions a cancellation ends.
    func keys(_ cancellation: Cancellation) -> KeyRing { KeyRing(keyOptions, Console.events, cancellation) }
}
