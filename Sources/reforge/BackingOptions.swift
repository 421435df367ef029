// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser

struct BackingOptions: ParsableArguments {
    @Flag(
        help: """
            Read backing files and parts of a virtual machine's disk image that lie outside of its folder: only for an \
            image that you trust to name the right ones.
            """)
    var allowBacking = false
}
