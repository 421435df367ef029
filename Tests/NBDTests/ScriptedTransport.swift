// SPDX-License-Identifier: GPL-3.0-or-later
import NBD

/// A conversation with a script: what the other side sends, and what was sent to it.
final class ScriptedTransport: NBDTransport {
    private var input: ArraySlice<UInt8>
    private(set) var output: [UInt8] = []

    init(_ input: [UInt8]) { self.input = input[...] }

    var isUsedUp: Bool { input.isEmpty }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(NBDError) {
        guard buffer.count <= input.count else { throw .closed }
        buffer.copyBytes(from: input.prefix(buffer.count))
        input = input.dropFirst(buffer.count)
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws(NBDError) { output += bytes }
}
