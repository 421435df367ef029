// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Proofs of snapshots: stored with them, protected, and removed with them.
@Suite struct ProofTests {
    private func proof(
        _ id: ContentHash, _ sign: String = "login prompt on the serial port", made: String = "2026-02-03T04:05:06Z",
        verdict: RestoreProof.Verdict = .proven, screenshot: [UInt8]? = [0x89, 0x50, 0x4E, 0x47],
        log: [UInt8]? = Array("Debian GNU/Linux\nhost login: ".utf8)
    ) -> RestoreProof {
        RestoreProof(
            .init(
                imageID: id, verdict: verdict, sign: sign, made: made, toolVersion: "1.0", firmware: "uefi",
                qemuVersion: "10.0.2", seconds: 42), screenshot: screenshot, serialLog: log)
    }

    private func proofFiles(_ fixture: PruneFixture) -> [FilePath] {
        let folder = fixture.path.appending("proofs")
        return Files.names(in: folder).sorted().map { folder.appending($0) }
    }

    @Test(arguments: [false, true]) func aProofComesBack(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let id = try fixture.capture(try fixture.disk())
        let other = try fixture.capture(try fixture.disk())
        #expect(try fixture.repository.lastProof(of: id) == nil && fixture.repository.proofFacts().whole.isEmpty)
        // By a machine whose clock is ahead, or has lost its battery: the order of storing counts.
        let older = proof(id, "guest agent", made: "2031-02-04T00:00:00Z")
        let newer = proof(id, "timeout", verdict: .notProven, screenshot: nil, log: nil)
        let newest = proof(id, "guest agent", made: "1970-01-01T00:00:09Z")
        for each in [older, newer, newest] {
            try fixture.repository.store(each)
            #expect(try fixture.repository.lastProof(of: id) == each)
        }
        #expect(try fixture.repository.lastProof(of: other) == nil)
        let listed = fixture.repository.proofFacts()
        #expect(listed.damaged.isEmpty && listed.whole == [id: [older.facts, newer.facts, newest.facts]])
        let reopened = try Repository.open(LocalStore(fixture.path), keys: fixture.keys)
        #expect(try reopened.lastProof(of: id) == newest)
        for file in proofFiles(fixture) {
            let text = String(decoding: try Files.read(file), as: UTF8.self)
            #expect(text.contains("qemuVersion") != encrypted)
        }
        try fixture.check()
    }

    @Test func longAttachmentsAreBounded() throws {
        let fixture = try PruneFixture()
        let id = try fixture.capture(try fixture.disk())
        let log = (0..<RestoreProof.largestLog + 5).map { UInt8(truncatingIfNeeded: $0) }
        let bounded = proof(
            id, String(repeating: "x", count: 100_000),
            screenshot: [UInt8](repeating: 1, count: RestoreProof.largestScreenshot + 1), log: log)
        #expect(bounded.screenshot == nil && bounded.facts.sign.utf8.count == 4096)
        #expect(bounded.serialLog?.elementsEqual(log.suffix(RestoreProof.largestLog)) == true)
        try fixture.repository.store(bounded)
        #expect(try fixture.repository.lastProof(of: id) == bounded)
        let largest = proof(id, screenshot: [UInt8](repeating: 7, count: RestoreProof.largestScreenshot))
        try fixture.repository.store(largest)
        #expect(try fixture.repository.lastProof(of: id) == largest)
    }

    /// Each changed byte, each shorter length.
    @Test(arguments: [false, true]) func aTamperedProofIsDetected(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let id = try fixture.capture(try fixture.disk())
        let stored = proof(id)
        try fixture.repository.store(stored)
        let file = try #require(proofFiles(fixture).first)
        let bytes = try Files.read(file)
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1 << UInt8.random(in: 0..<8, using: &fixture.random)
            try overwrite(file, changed)
            #expect(throws: ImageError.self, "byte \(index)") { try fixture.repository.lastProof(of: id) }
        }
        for count in [0, 1, ProofFile.headByteCount, bytes.count / 2, bytes.count - 1] {
            try overwrite(file, Array(bytes[..<count]))
            #expect(throws: ImageError.self, "\(count) bytes") { try fixture.repository.lastProof(of: id) }
        }
        try overwrite(file, Array(bytes[..<(ProofFile.headByteCount + 20)]))
        #expect(fixture.repository.proofFacts().damaged.count == 1)
        // A damaged proof is not hidden by an older one, and not in the way of a newer one.
        let newer = proof(id, "timeout", verdict: .notProven)
        try fixture.repository.store(newer)
        #expect(try fixture.repository.lastProof(of: id) == newer)
        try overwrite(file, bytes)
        #expect(fixture.repository.proofFacts().whole == [id: [stored.facts, newer.facts]])
        let last = try #require(proofFiles(fixture).last)
        try overwrite(last, Array(bytes[..<(ProofFile.headByteCount + 20)]))
        #expect(throws: ImageError.self) { try fixture.repository.lastProof(of: id) }
        let listed = fixture.repository.proofFacts()
        #expect(listed.whole.isEmpty && listed.damaged.count == 1)
    }

    /// A proof of another snapshot, or one that was signed without the key, does not count under this one's name.
    @Test(arguments: [false, true]) func aProofOfAnotherSnapshotIsRefused(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let id = try fixture.capture(try fixture.disk())
        let other = try fixture.capture(try fixture.disk())
        try fixture.repository.store(proof(other))
        let file = try #require(proofFiles(fixture).first)
        let name = try #require(file.lastComponent?.string)
        let renamed = file.removingLastComponent().appending(id.description + name.dropFirst(64))
        try overwrite(renamed, try Files.read(file))
        #expect(throws: ImageError.self) { try fixture.repository.lastProof(of: id) }
        #expect(fixture.repository.proofFacts().damaged.count == 1)
        // Well formed, and of the wrong snapshot inside.
        let forged = ProofName(snapshot: id, seconds: 5)
        let bytes = try ProofFile.bytes(proof(other), forged, fixture.repository.secrets)
        try overwrite(file.removingLastComponent().appending("\(forged)"), bytes)
        try Files.remove(renamed)
        #expect(throws: ImageError.self) { try fixture.repository.lastProof(of: id) }
        // A signature by another key.
        let signed = try proof(id).signed(.keyed(.random()))
        #expect(throws: ImageError.self) {
            try RestoreProof.check(signed, of: id, fixture.repository.identity, name: "it")
        }
        let unknown = ContentHash(of: [1, 2, 3])
        #expect(throws: ImageError.self) { try fixture.repository.store(proof(unknown)) }
    }

    @Test func namesAreParsedWithCare() {
        let id = ContentHash(of: [7])
        let name = ProofName(snapshot: id, seconds: 1_000)
        #expect(ProofName("\(name)") == name && name.seconds == 1_000)
        for text in [
            "", "\(id)", "\(id).", ".\(name.tail)", "\(id).\(name.tail).json",
            "\(id.description.uppercased()).\(name.tail)",
            "x\(name)", "\(name)0",
        ] {
            #expect(ProofName(text) == nil, "\(text)")
        }
    }

    // MARK: removal

    @Test func aPruneRemovesProofsWithTheirSnapshots() throws {
        let fixture = try PruneFixture()
        let (kept, gone) = (try fixture.capture(try fixture.disk()), try fixture.capture(try fixture.disk()))
        try fixture.repository.store(proof(kept))
        try fixture.repository.store(proof(gone))
        _ = try fixture.repository.prune()
        #expect(proofFiles(fixture).count == 2)
        try fixture.forget(gone)
        _ = try fixture.repository.prune(dryRun: true)
        #expect(proofFiles(fixture).count == 2)
        _ = try fixture.repository.prune()
        #expect(proofFiles(fixture).count == 1)
        #expect(fixture.repository.proofFacts().whole.keys.elementsEqual([kept]))
        try fixture.check()
    }

    /// The snapshot may be missing for a moment only: a mount, a copy.
    @Test func theProofOfAMissingSnapshotStays() throws {
        let fixture = try PruneFixture()
        let (_, id) = (try fixture.capture(try fixture.disk()), try fixture.capture(try fixture.disk()))
        try fixture.repository.store(proof(id))
        let file = fixture.repository.layout.snapshot(id)
        let bytes = try Files.read(file)
        _ = try fixture.repository.prune()
        try Files.remove(file)
        #expect(throws: ImageError.self) { try fixture.repository.prune() }
        #expect(proofFiles(fixture).count == 1)
        try Files.write(bytes, to: file)
        _ = try fixture.repository.prune()
        #expect(try fixture.repository.lastProof(of: id) != nil)
        try Files.remove(file)
        fixture.expected[id] = nil
        _ = try fixture.repository.prune(confirmedMissing: 1)
        #expect(proofFiles(fixture).isEmpty)
    }

    @Test func onlyTheNewestAreKept() throws {
        let fixture = try PruneFixture()
        let id = try fixture.capture(try fixture.disk())
        for number in 0..<Repository.keptProofCount + 4 {
            try fixture.repository.store(proof(id, "\(number)", made: SystemFacts.utcText(1_000_000 + Int64(number))))
        }
        let signs = (4..<Repository.keptProofCount + 4).map(String.init)
        #expect(fixture.repository.proofFacts().whole[id]?.map(\.sign) == signs)
        _ = try fixture.repository.prune()
        #expect(proofFiles(fixture).count == Repository.keptProofCount)
        #expect(fixture.repository.proofFacts().whole[id]?.map(\.sign) == signs)
    }

    // MARK: other versions

    /// A repository from before proofs has no folder for them; foreign files in it are ignored.
    @Test func aRepositoryFromBeforeProofsIsUnaffected() throws {
        let fixture = try PruneFixture()
        let id = try fixture.capture(try fixture.disk())
        try Files.removeFolder(fixture.path.appending("proofs"))
        #expect(try fixture.repository.lastProof(of: id) == nil && fixture.repository.proofFacts().damaged.isEmpty)
        _ = try fixture.repository.prune()
        try fixture.check()
        try fixture.repository.store(proof(id))
        #expect(try fixture.repository.lastProof(of: id) != nil)
        try overwrite(fixture.path.appending("proofs").appending("README"), [1])
        #expect(try fixture.repository.lastProof(of: id) != nil && fixture.repository.proofFacts().damaged.isEmpty)
        _ = try fixture.repository.prune()
        try fixture.check()
    }

    @Test func aProofOfALaterFormatIsNamed() throws {
        let id = ContentHash(of: [7])
        var signed = try proof(id).signed(.plain)
        signed.proof.format = "reforge proof 2"
        let error = #expect(throws: ImageError.self) {
            try RestoreProof.check(signed, of: id, .plain, name: "it")
        }
        #expect(error?.description.contains("newer Reforge") == true)
    }
}
