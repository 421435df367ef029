// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Operations
@testable import Repository

/// Proofs beside image files, in lists, and saved in folders.
@Suite struct ProofOperationTests: OperationSuite {
    let scratch: ScratchFolder
    let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func proof(_ id: ContentHash) -> RestoreProof {
        RestoreProof(
            .init(
                imageID: id, verdict: .proven, sign: "login\u{1B}[2J prompt", made: "2026-02-03T04:05:06Z",
                toolVersion: "1.0", firmware: "bios", qemuVersion: "10.0.2", seconds: 42),
            screenshot: [0x89, 0x50, 0x4E, 0x47], serialLog: Array("host login: ".utf8))
    }

    private func inspected(_ image: String, _ password: String? = nil) throws -> InspectReport {
        try inspected(at: path(image), password)
    }

    private func inspected(at place: String, _ password: String? = nil) throws -> InspectReport {
        try InspectOperation(InspectJob(disk: place), keys: keys(password), events: events).run()
    }

    @Test func aProofIsKeptBesideAnImageFile() throws {
        let id = try capture("disk.img.zst")
        #expect(try inspected("disk.img.zst").proof == nil)
        let made = proof(id)
        let place = try KeptProofs.store(made, for: path("disk.img.zst"), keys())
        #expect(place == path("disk.img.zst.proof.json"))
        #expect(try Files.read(FilePath(path("disk.img.zst.proof.png"))) == made.screenshot)
        #expect(try Files.read(FilePath(path("disk.img.zst.proof.log"))) == made.serialLog)
        // Like the image, it is no matter of other users.
        for suffix in ["json", "png", "log"] {
            let status = try Stat(FilePath(path("disk.img.zst.proof.\(suffix)")))
            #expect(status.permissions.isDisjoint(with: .otherReadWriteExecute), "\(suffix)")
        }
        let report = try inspected("disk.img.zst")
        #expect(report.proof == made.facts)
        #expect(report.text.contains("proven at 2026-02-03T04:05:06Z after 42 s: login?[2J prompt (bios, QEMU 10.0.2)"))
        // A changed file, or one of another image, does not count, and is named.
        for name in ["disk.img.zst.proof.png", "disk.img.zst.proof.log", "disk.img.zst.proof.json"] {
            let whole = try Files.read(FilePath(path(name)))
            var changed = whole
            changed[changed.count / 2] ^= 1
            try Files.write(changed, to: FilePath(path(name)))
            let tampered = try inspected("disk.img.zst")
            #expect(tampered.proof == nil && tampered.warnings.contains { $0.contains("does not count") }, "\(name)")
            try Files.write(whole, to: FilePath(path(name)))
        }
        _ = try capture("other.img.zst", seed: 9)
        for suffix in ["json", "png", "log"] {
            try Files.write(
                try Files.read(FilePath(path("disk.img.zst.proof.\(suffix)"))),
                to: FilePath(path("other.img.zst.proof.\(suffix)")))
        }
        let other = try inspected("other.img.zst")
        #expect(other.proof == nil && other.warnings.contains { $0.contains("another image") })
        #expect(throws: JobFailure.self) { try KeptProofs.store(made, for: path("other.img.zst"), keys()) }
        // A second proof without attachments leaves none of the first.
        _ = try KeptProofs.store(made.withoutAttachments, for: path("disk.img.zst"), keys())
        #expect(!Files.exists(FilePath(path("disk.img.zst.proof.png"))))
        #expect(try inspected("disk.img.zst").proof == made.withoutAttachments.facts)
    }

    @Test func besideAnEncryptedImageNothingIsShown() throws {
        let id = try capture("disk.img.enc", "secret")
        _ = try KeptProofs.store(proof(id), for: path("disk.img.enc"), keys("secret"))
        #expect(!Files.exists(FilePath(path("disk.img.enc.proof.png"))))
        #expect(!Files.exists(FilePath(path("disk.img.enc.proof.log"))))
        #expect(try inspected("disk.img.enc", "secret").proof?.verdict == .proven)
        // Signed without the image's key.
        try ProofFiles(beside: FilePath(path("disk.img.enc"))).write(proof(id).withoutAttachments, .plain)
        let spellings = [path("disk.img.enc"), "\(scratch.path)//disk.img.enc"]
        for place in spellings { #expect(try inspected(at: place, "secret").proof == nil, "\(place)") }
        // Any spelling of the path signs with the key.
        _ = try KeptProofs.store(proof(id), for: spellings[1], keys("secret"))
        for place in spellings {
            #expect(try inspected(at: place, "secret").proof?.verdict == .proven, "\(place)")
        }
    }

    @Test func snapshotsShowAndSaveProofs() throws {
        try makeRepository()
        let id = try capture("repo@")
        let address = "\(path("repo"))@\(id)"
        func list() throws -> SnapshotsOperation.Findings {
            try SnapshotsOperation(SnapshotsJob(repository: path("repo")), keys: keys(), events: events).run()
        }
        let saving = SnapshotsOperation(SnapshotsJob(repository: address), keys: keys(), events: events)
        #expect(try list().snapshots.first?.proofs == [])
        #expect(throws: JobFailure.self) { try saving.saveProof(in: path("saved")) }
        let made = proof(id)
        #expect(try KeptProofs.store(made, for: address, keys()) == path("repo"))
        #expect(try list().snapshots.first?.proofs == [made.facts] && list().outcome.status == .done)
        #expect(try inspected("repo@\(id.description.prefix(12))").proof == made.facts)
        let saved = try saving.saveProof(in: path("saved"))
        #expect(saved.proof == made.facts && saved.files.count == 3)
        #expect(try Files.read(FilePath(path("saved/screen.png"))) == made.screenshot)
        #expect(try Files.read(FilePath(path("saved/serial.log"))) == made.serialLog)
        #expect(try ProofFiles(in: FilePath(path("saved"))).read(of: id, .plain) == made)
        // Nothing is overwritten, and a whole repository has no proof.
        #expect(throws: JobFailure.self) { try saving.saveProof(in: path("saved")) }
        let whole = SnapshotsOperation(SnapshotsJob(repository: path("repo")), keys: keys(), events: events)
        #expect(throws: JobFailure.self) { try whole.saveProof(in: path("more")) }
        // A damaged proof is listed.
        let folder = FilePath(path("repo/proofs"))
        let file = folder.appending(try #require(Files.names(in: folder).first))
        var bytes = try Files.read(file)
        bytes[60] ^= 1
        try Files.write(bytes, to: file)
        let damaged = try list()
        #expect(damaged.damaged.count == 1 && damaged.outcome.status == .badImage && damaged.snapshots.count == 1)
        #expect(damaged.snapshots.first?.proofs == [])
    }
}
