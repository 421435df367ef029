// SPDX-License-Identifier: GPL-3.0-or-later

/// Options whose value may be left out: `--read-data` and `--read-data=10`.
///
/// ArgumentParser 1.8.2 drops a value after `=` of an option with `defaultAsFlag`, and takes a positional argument that
/// follows for its value. So they are plain options, and a missing value is added before they are parsed.
enum OptionalValues {
    private static let standard = ["--read-data": "100", "--new-identity": "standard"]

    /// The arguments, without the program's name, with these values added.
    static func added(to arguments: [String]) -> [String] {
        var isOption = true
        return arguments.map { argument in
            if argument == "--" { isOption = false }
            guard isOption, let value = standard[argument] else { return argument }
            return "\(argument)=\(value)"
        }
    }
}
