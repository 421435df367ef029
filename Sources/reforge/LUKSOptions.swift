// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Operations

struct LUKSOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A file with the key of a LUKS volume, as `cryptsetup open --key-file` takes it (a newline at its end counts). May be repeated.",
            valueName: "file"))
    var luksKeyFile: [String] = []

    var keys: LUKSKeys { LUKSKeys(luksKeyFile) }
}
