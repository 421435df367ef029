// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import LinuxSystem
import Operations

/// The options of every command that reports on a repository.
struct RepositoryOptions: ParsableArguments {
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    func keys(_ cancellation: Cancellation) -> KeyRing { KeyRing(keyOptions, Console.events, cancellation) }
}
