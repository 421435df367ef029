// SPDX-License-Identifier: GPL-3.0-or-later
internal import CLZMA

/// One block of an .xz file.
enum XZBlock {
    static func compress(
        _ content: UnsafeRawBufferPointer, level: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        throw CodecError("xz is not there yet")
    }

    static func decompress(
        _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        throw CodecError("xz is not there yet")
    }
}
