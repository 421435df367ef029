// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

/// New identities and hooks of unattended restores.
struct IdentitySettingsTests {
    private func restore(_ json: String) throws -> RecoverySettings.Restore {
        guard case .restore(let restore)? = try RecoverySettings.parse(json: Array(json.utf8)).job else {
            throw JobFailure(.usage, "no restore")
        }
        return restore
    }
    private let rest = #""restore": "LABEL=REFORGE:/x.img.zst", "target": "only""#

    @Test func parses() throws {
        #expect(try restore("{\(rest)}").newIdentity == nil, "never by itself")
        #expect(try restore("{\(rest), \"new-identity\": true}").newIdentity == IdentityRequest())
        let parts = try restore("{\(rest), \"new-identity\": \"standard,hostname:lab-7\"}").newIdentity
        #expect(parts == IdentityRequest(hostname: "lab-7"))
        let line = "reforge.restore=LABEL=A:/x reforge.target=only reforge.new-identity"
        guard case .restore(let bare)? = try RecoverySettings.parse(commandLine: line)?.job else {
            Issue.record("no restore")
            return
        }
        #expect(bare.newIdentity == IdentityRequest())
    }

    @Test(arguments: ["uuid", "hostname", "hostname:a b", "false,x"])
    func refuses(_ text: String) {
        #expect(throws: JobFailure.self) { try restore("{\(rest), \"new-identity\": \"\(text)\"}") }
    }

    @Test func needsBootRepairForIdentifiers() {
        #expect(throws: JobFailure.self) {
            try restore("{\(rest), \"new-identity\": \"uuids\", \"boot-repair\": false}")
        }
        #expect(throws: JobFailure.self) {
            try RecoverySettings.parse(
                json: Array(#"{"capture": "only", "to": "LABEL=A:/x", "new-identity": true}"#.utf8))
        }
    }

    @Test func reachTheJob() throws {
        var settings = RecoverySettings.Restore(
            image: .http("http://h/x"), target: .only, newIdentity: IdentityRequest([.sshKeys], hostname: "a"))
        settings.hooks = ["/run/reforge/hooks/1"]
        let disk = DiskCandidate(identity: DiskIdentity(path: "/dev/sda", kernelName: "sda"), byteCount: 1)
        let job = try JobTests.restore(RestoreJob.job("/i", settings, disk, confirmed: true, streamed: false))
        #expect(job.newIdentity == "hostname:a,ssh-keys")
        #expect(job.hooks == ["/run/reforge/hooks/1"])
    }

    @Test func copiesHooksInOrder() throws {
        let scratch = try ScratchFolder()
        let (volume, copies) = (scratch.path.appending("volume"), scratch.path.appending("copies"))
        try Files.makeFolders(volume)
        func copied() throws -> [String] { try MediumHooks.copied(from: try AnchoredFolder(volume), to: copies) }
        #expect(try copied().isEmpty, "there is no folder")
        try Files.makeFolders(volume.appending("hooks"))
        for name in ["20-b", "10-a", ".DS_Store"] {
            try Files.write(Array("#!/bin/sh\n\(name)".utf8), to: volume.appending("hooks/\(name)"))
        }
        #expect(try copied() == [copies.appending("10-a").string, copies.appending("20-b").string])
        #expect(try Files.read(copies.appending("10-a")) == Array("#!/bin/sh\n10-a".utf8))
        // An earlier copy does not stay.
        try Files.remove(volume.appending("hooks/10-a"))
        #expect(try copied() == [copies.appending("20-b").string])
        #expect(!Files.exists(copies.appending("10-a")))
        // A link could lead to a file of this machine.
        try Files.makeLink(volume.appending("hooks/30-c"), to: "/etc/passwd")
        #expect(throws: JobFailure.self) { try copied() }
        try Files.remove(volume.appending("hooks/30-c"))
        try Files.write([UInt8](repeating: 35, count: (1 << 20) + 1), to: volume.appending("hooks/30-c"))
        #expect(throws: JobFailure.self) { try copied() }
    }
}
