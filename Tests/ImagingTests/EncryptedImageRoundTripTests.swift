// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Capture, verification and restore of encrypted images.
@Suite struct EncryptedImageRoundTripTests {
    private let seed = Sample.seed()
    private static let password = Array("correct horse".utf8)
    private static let cheap = PasswordCost(rounds: 16, blockSize: 8, parallelism: 1)

    private func capture(_ made: MadeUpDisk, to path: FilePath) throws -> CaptureExecutor.Outcome {
        let output = try ImageOutput(path, overwrite: true)
        let seal = try ImageSeal(password: Self.password, cost: Self.cheap)
        let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: made.header, seal: seal)
        let outcome = try CaptureExecutor(
            source: MemoryDisk(made.bytes), plan: CapturePlan(header: made.header, patches: [:]), progress: Progress(),
            workers: 2
        ).run(writer)
        try output.commit()
        return outcome
    }

    private func verify(_ path: FilePath) throws -> CaptureVerifier.Outcome {
        let file = try OwnedDescriptor.open(path, .readOnly)
        return try CaptureVerifier.verify(try open(file.raw, "image"), progress: Progress())
    }

    private func open(_ file: FileDescriptor, _ name: String) throws -> ImageStreamReader {
        try ImageStreamReader(file, name: name) { name, keys throws(ImageError) in
            try EncryptedImage.unlock(name, keys, password: Self.password)
        }
    }

    @Test func whatIsCapturedIsRestored() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        let outcome = try capture(made, to: path)
        #expect(outcome.summary.storedByteCount == UInt64(try Files.read(path, limit: 1 << 30).count))
        #expect(try verify(path).ending.id == outcome.summary.id)

        let length = 16 << 20
        let plan = try made.plan(targetByteCount: length)
        let expected = made.expected(plan, targetByteCount: length)
        for isPipe in [false, true] {
            let target = MemoryDisk(byteCount: length)
            let executor = RestoreExecutor(plan, target: target, targetPath: nil, progress: Progress())
            if isPipe {
                let (input, end) = try FileDescriptor.pipe(options: .closeOnExec)
                defer { try? input.close() }
                let bytes = try Files.read(path, limit: 1 << 30)
                let thread = try WorkerThread {
                    _ = try? end.writeAll(bytes)
                    try? end.close()
                }
                defer { thread.join() }
                _ = try executor.run(try open(input, "a pipe"))
            } else {
                let file = try OwnedDescriptor.open(path, .readOnly)
                _ = try executor.run(try open(file.raw, "image"))
            }
            let bytes = target.bytes
            #expect(
                expected.indices.allSatisfy { expected[$0] == nil || expected[$0] == bytes[$0] }, "seed \(seed)")
        }
    }

    @Test func everyFlippedBitIsReported() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try capture(made, to: path)
        let bytes = try Files.read(path, limit: 1 << 30)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<60 {
            let position = Int.random(in: 0..<bytes.count, using: &random)
            var damaged = bytes
            damaged[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            let copy = scratch.path.appending("damaged")
            try Files.write(damaged, to: copy)
            #expect(throws: (any Error).self, "byte \(position), seed \(seed)") { try verify(copy) }
        }
    }
}
