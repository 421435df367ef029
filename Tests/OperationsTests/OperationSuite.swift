// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import JobModel
import LinuxSystem
import Operations
import SystemPackage
import TestSupport
import Testing

/// A suite of tests that run operations in a folder of their own.
protocol OperationSuite {
    var scratch: ScratchFolder { get }
    var events: KeptEvents { get }
}

extension OperationSuite {
    func path(_ name: String) -> String { scratch.path.appending(name).string }

    func keys(_ password: String? = nil) -> KeyRing {
        KeyRing(FixedPassword(bytes: password.map { Array($0.utf8) }), events, Cancellation())
    }

    func makeRepository(_ name: String = "repo") throws {
        let job = InitRepositoryJob(repository: path(name))
        _ = try InitRepositoryOperation(job, keys: keys(), likeKeys: keys(), events: events).run()
    }

    /// Captures a small disk into an image, encrypted under a password, or into a repository.
    /// - Returns: the id of the image or snapshot.
    func capture(_ image: String, _ password: String? = nil, seed: UInt8 = 0) throws -> ContentHash {
        try Files.write((0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 / 7) ^ seed }, to: FilePath(path("disk")))
        var job = CaptureJob(disk: path("disk"), image: path(image))
        let isSnapshot = image.hasSuffix("@")
        (job.encrypts, job.host) = (password != nil && !isSnapshot, isSnapshot ? "host" : nil)
        let report = try CaptureOperation(job, keys: keys(password), events: events, toolVersion: "test").run()
        return try #require(ContentHash(hexadecimal: report.imageID))
    }
}
