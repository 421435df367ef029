// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import JobModel
import LinuxSystem
import Operations
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

extension SnapshotInfo {
    /// A synthetic snapshot.
    static func made(
        _ number: Int, host: String = "alpha", disk: String = "sda", at seconds: Int64, tags: [String] = []
    ) -> SnapshotInfo {
        SnapshotInfo(
            id: ContentHash(of: Array("\(number)".utf8)), host: host, disk: disk,
            started: SystemFacts.utcText(seconds), ended: SystemFacts.utcText(seconds + 60), usedByteCount: 1,
            addedByteCount: 1, tags: tags)
    }
}

@Suite struct SelectorTests {
    static let noon: Int64 = 1_795_348_800

    private func parse(_ text: String, folders: Set<String> = ["repo"]) throws -> SnapshotQuery? {
        try Self.parse(text) { folders.contains($0) ? .repository : .nothing }
    }

    private static func parse(
        _ text: String, place: @escaping @Sendable (String) -> ImageAddress.Place
    ) throws -> SnapshotQuery? {
        let lookup = ImageAddress.Lookup(place: place, isTime: ImageAddress.Lookup.thisMachine.isTime)
        guard case .snapshot(let address) = try ImageAddress.parse(text, lookup) else { return nil }
        // An address survives a job file.
        let again = try JSONText.decode(ImageAddress.self, try JSONText.encode(ImageAddress.snapshot(address)))
        #expect(again == .snapshot(address))
        return SnapshotQuery(address)
    }

    @Test func parsesEveryForm() throws {
        #expect(try parse("repo@")?.choice == .repository)
        #expect(try parse("repo@latest")?.choice == .latest)
        #expect(try parse("repo@0aF9")?.choice == .id(prefix: "0af9"))
        let named = try #require(try parse("repo@some host/SER 1@2/latest"))
        #expect(named.host == "some host" && named.disk == "SER 1@2" && named.choice == .latest)
        #expect(named.repository == "repo")
        let timed = try #require(try parse("repo@alpha/2026-11-22T13:00+01:00"))
        #expect(timed.host == "alpha" && timed.disk == nil && timed.choice == .time(Self.noon))
        #expect(try parse("repo@2026-11-22T12:00:00Z")?.choice == .time(Self.noon))
        // A date covers the whole day, by the local clock.
        let day = try #require(CalendarTime(year: 2026, month: 11, day: 22, hour: 23, minute: 59, second: 59))
        #expect(try parse("repo@2026-11-22")?.choice == .time(day.unixSecondsInLocalTime))
        let local = try #require(CalendarTime(year: 2026, month: 11, day: 22, hour: 15))
        #expect(try parse("repo@2026-11-22T15:00")?.choice == .time(local.unixSecondsInLocalTime))
    }

    @Test func storesHaveAddresses() throws {
        let lookup = ImageAddress.Lookup(
            place: { _ in .nothing }, isTime: ImageAddress.Lookup.thisMachine.isTime,
            isStore: { $0.hasPrefix("sftp://") })
        func parse(_ text: String) throws -> SnapshotAddress? {
            if case .snapshot(let address) = try ImageAddress.parse(text, lookup) { address } else { nil }
        }
        for text in ["sftp://user@host/repo", "sftp://user@host/repo@", "sftp://user@host/repo/"] {
            let address = try parse(text)
            #expect(address?.repository == "sftp://user@host/repo" && address?.choice == .repository, "\(text)")
        }
        let named = try parse("sftp://user@host:22/some/repo@web1/SER 1@2/latest")
        #expect(named?.repository == "sftp://user@host:22/some/repo" && named?.choice == .latest)
        #expect(named?.host == "web1" && named?.disk == "SER 1@2")
        #expect(try parse("sftp://host@name")?.repository == "sftp://host@name")
        #expect(throws: JobFailure.self) { try parse("sftp://host/repo@nothing like that") }
        // What is no store is looked for on this machine.
        #expect(try parse("ftp://host/repo") == nil)
    }

    @Test func splitsBehindTheLastFolder() throws {
        #expect(try parse("a@b@latest", folders: ["a", "a@b"])?.repository == "a@b")
        #expect(try parse("a@b/latest", folders: ["a"])?.host == "b")
        // The host has an "@" too.
        let selector = try parse("a@me@there/latest", folders: ["a"])
        #expect(selector?.repository == "a" && selector?.host == "me@there")
        // An image name with an "@" denotes an image.
        #expect(try parse("me@there.img.zst", folders: []) == nil)
        #expect(try parse("plain.img.zst", folders: []) == nil)
        #expect(try parse("@latest", folders: []) == nil)
        // A missing repository causes an error later.
        #expect(try parse("gone@latest", folders: [])?.repository == "gone")
        #expect(try parse("gone@", folders: [])?.choice == .repository)
        for text in ["repo@abc", "repo@xyzw", "repo@a//latest", "repo@a/b/c/latest", "repo@/latest", "repo@a/abcd"] {
            #expect(throws: JobFailure.self, "\(text)") { try parse(text) }
        }
        #expect(throws: JobFailure.self) { try parse("repo@" + String(repeating: "a", count: 65)) }
    }

    @Test func aPathThatExistsWins() throws {
        let places: [String: ImageAddress.Place] = [
            "web": .folder, "web@home.img.zst": .file, "repo": .repository, "repo@latest": .file, "repo@": .folder,
        ]
        func parse(_ text: String) throws -> SnapshotQuery? { try Self.parse(text) { places[$0] ?? .nothing } }
        func hidden(_ text: String) -> SnapshotAddress? {
            ImageAddress.hiddenSnapshot(
                by: text, .init(place: { places[$0] ?? .nothing }, isTime: ImageAddress.Lookup.thisMachine.isTime))
        }
        #expect(try parse("web@home.img.zst") == nil && hidden("web@home.img.zst") == nil)
        // An image to be created, beside a folder that is no repository.
        #expect(try parse("web@work.img.zst") == nil)
        // Ambiguous text is reported.
        #expect(try parse("repo@latest") == nil && hidden("repo@latest")?.choice == .latest)
        #expect(try parse("repo@") == nil && hidden("repo@")?.choice == .repository)
        #expect(try parse("repo@web/latest")?.host == "web" && hidden("repo@web/latest") == nil)
        // A folder that is no repository causes an error later, if a snapshot name follows it.
        #expect(try parse("web@latest")?.repository == "web")
        #expect(throws: JobFailure.self) { try parse("repo@home.img.zst") }
    }

    private func resolve(_ text: String, _ snapshots: [SnapshotInfo]) throws -> SnapshotInfo {
        try #require(try parse(text)).resolve(in: snapshots)
    }

    @Test func resolves() throws {
        let one = SnapshotInfo.made(1, at: Self.noon - 3600)
        let two = SnapshotInfo.made(2, at: Self.noon)
        let three = SnapshotInfo.made(3, at: Self.noon + 3600)
        let alpha = [two, three, one]
        #expect(try resolve("repo@latest", alpha) == three)
        #expect(try resolve("repo@2026-11-22T12:00Z", alpha) == two)
        #expect(try resolve("repo@2026-11-22T11:59:59Z", alpha) == one)
        #expect(try resolve("repo@2026-11-22T13:59+01:00", alpha) == two)
        #expect(try resolve("repo@\(two.id.description.prefix(6))", alpha) == two)
        #expect(try resolve("repo@\(two.id.description.uppercased())", alpha) == two)
        #expect(throws: ImageError.self) { try resolve("repo@2026-11-22T10:00Z", alpha) }
        #expect(throws: ImageError.self) { try resolve("repo@latest", []) }
        #expect(throws: ImageError.self) { try resolve("repo@", alpha) }
        #expect(throws: ImageError.self) { try resolve("repo@beta/latest", alpha) }
        #expect(throws: ImageError.self) { try resolve("repo@ffff00000000", alpha) }

        let disks = alpha + [SnapshotInfo.made(4, disk: "sdb", at: Self.noon + 10)]
        #expect(try resolve("repo@alpha/sda/latest", disks) == three)
        let hosts = alpha + [SnapshotInfo.made(5, host: "beta", at: Self.noon + 10)]
        #expect(try resolve("repo@alpha/latest", hosts) == three)
        #expect(try resolve("repo@beta/2026-11-22T13:00Z", hosts).host == "beta")
        for (text, snapshots, expected) in [
            ("repo@latest", hosts, "repo@beta/sda/latest"), ("repo@2026-11-22T12:00Z", hosts, "repo@beta/sda/TIME"),
            ("repo@alpha/latest", disks, "repo@alpha/sdb/latest"),
        ] {
            do {
                _ = try resolve(text, snapshots)
                Issue.record("\(text) was taken")
            } catch let ImageError.ambiguous(sentence) {
                #expect(sentence.contains(expected), "\(sentence)")
            }
        }
    }

    @Test func refusesAnAmbiguousPrefix() throws {
        var byPrefix: [String: SnapshotInfo] = [:]
        // By the birthday paradox with 65,536 prefixes, some two of 1,000 agree (chance of none: under 1 in 1,000).
        for number in 0..<1000 {
            let snapshot = SnapshotInfo.made(number, at: Self.noon)
            let prefix = String(snapshot.id.description.prefix(4))
            guard let other = byPrefix.updateValue(snapshot, forKey: prefix) else { continue }
            #expect(throws: ImageError.self) { try resolve("repo@\(prefix)", [snapshot, other]) }
            #expect(try resolve("repo@\(prefix)", [snapshot]) == snapshot)
            return
        }
        Issue.record("no two prefixes agree")
    }
}
