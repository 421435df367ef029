// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

@Suite struct ScratchFolderTests {
    /// Plaintext of an encrypted image is written to a disk only on request.
    @Test func whatWasEncryptedStaysInMemory() throws {
        let folder = try ScratchFolder()
        let image = folder.path.appending("disk.img.enc")
        #expect(try RestoreScratch.folder(nil, image: image, isEncrypted: true, memory: "/dev/shm") == "/dev/shm")
        #expect(try RestoreScratch.folder(nil, image: nil, isEncrypted: true, memory: "/dev/shm") == "/dev/shm")
        for image in [image, nil] {
            #expect(throws: ImagingError.self) {
                try RestoreScratch.folder(nil, image: image, isEncrypted: true, memory: nil)
            }
        }
        #expect(try RestoreScratch.folder("/mnt/room", image: image, isEncrypted: true, memory: nil) == "/mnt/room")
        if let memory = Files.memoryFolder { #expect(Files.isInMemory(memory)) }
    }

    @Test func whatWasNotLiesBesideTheImage() throws {
        let folder = try ScratchFolder()
        let image = folder.path.appending("disk.img.zst")
        #expect(try RestoreScratch.folder(nil, image: image, isEncrypted: false, memory: nil) == folder.path)
        #expect(try RestoreScratch.folder(nil, image: "disk.img.zst", isEncrypted: false, memory: nil) == ".")
        #expect(
            try RestoreScratch.folder(nil, image: nil, isEncrypted: false, memory: nil) == Files.temporaryFolder)
    }
}
