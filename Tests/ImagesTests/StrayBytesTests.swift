// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

/// Images with appended bytes: the message names the cause and the fix.
@Suite struct StrayBytesTests {
    private static let strays: [[UInt8]] = [
        [1, 2, 3, 4], [0], [UInt8](repeating: 0, count: 1 << 20), Array("\r\n".utf8) + [0x50, 0x2A, 0x4D, 0x18],
    ]

    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "no error"
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: [false, true], strays.indices) func theEndOfAnImageIsFound(isSealed: Bool, stray: Int) throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let seal = isSealed ? try EncryptedImageTests.seal() : nil
        let bytes = try EncryptedImageTests.write(seal).bytes
        let unlock: EncryptedImage.Unlock = { name, keys throws(ImageError) in
            try EncryptedImage.unlock(name, keys, password: EncryptedImageTests.password)
        }
        try Files.write(bytes, to: path)
        _ = try ImageFile(path, unlock: unlock)
        let count = Self.strays[stray].count
        try Files.write(bytes + Self.strays[stray], to: path)
        let text = message { _ = try ImageFile(path, unlock: unlock) }
        #expect(
            text.contains("at byte \(bytes.count): the image ends there, and \(ByteText.exact(UInt64(count)))")
                && text.contains("truncate -s \(bytes.count)"), "\(text)")
        // Cut off as advised, the image is intact; cut further, it ends too early.
        try Files.write(Array(bytes.dropLast(5)), to: path)
        #expect(message { _ = try ImageFile(path, unlock: unlock) }.contains("ends too early"))
        try Files.write(Array(bytes.dropLast(5)) + Self.strays[stray], to: path)
        #expect(message { _ = try ImageFile(path, unlock: unlock) }.contains("ends too early"))
    }

    @Test(arguments: ["", ".reforge"]) func theEndOfAnArchiveIsFound(suffix: String) throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        _ = try XZImageTests.write(try SampleDisk(), to: path)
        let file = FilePath(path.string + suffix)
        let bytes = try Files.read(file)
        try Files.write(bytes + [9, 9, 9, 9], to: file)
        let text = message { _ = try XZImageReader(path) }
        #expect(text.contains(file.string) && text.contains("truncate -s \(bytes.count)"), "\(text)")
        try Files.write(Array(bytes.dropLast(4)), to: file)
        #expect(message { _ = try XZImageReader(path) }.contains("ends too early"))
    }
}
