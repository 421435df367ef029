// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// The note that a restore with a job id leaves on its disk, which prevents a repetition of the job.
@Suite struct RestoreNoteTests {
    private let target = DiskIdentity(path: "target")

    /// The bytes of a disk restored with a job id, and the expected ones without.
    private func restored(_ made: MadeUpDisk, jobID: String?) throws -> (MemoryDisk, [String]) {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        _ = try made.capture(to: image)
        let disk = MemoryDisk([UInt8](repeating: 0xA5, count: MadeUpDisk.byteCount))
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let (_, outcome) = try restore(image, onto: disk, plan: plan, options: .init(verify: true, jobID: jobID))
        return (disk, outcome.warnings)
    }

    @Test(arguments: [MadeUpDisk.gpt, MadeUpDisk.mbr]) func aJobIsNotedBesideEverythingElse(table: String) throws {
        let made = try MadeUpDisk(seed: 5, table: table)
        let (plain, _) = try restored(made, jobID: nil)
        #expect(try RestoreNote.find(on: plain) == nil)
        let (disk, warnings) = try restored(made, jobID: "lab-1")
        #expect(!warnings.contains { $0.contains("lab-1") })
        let note = try #require(try RestoreNote.find(on: disk))
        #expect(note.jobID == "lab-1" && note.imageUUID == made.header.manifest.imageUUID.description)
        #expect(note.isOf(target, byteCount: disk.byteCount))
        #expect(!note.isOf(target, byteCount: disk.byteCount + 512))
        #expect(!note.isOf(DiskIdentity(path: "target", serial: "X"), byteCount: disk.byteCount))
        let place = (1 << 20) - RestoreNote.byteCount
        var without = disk.bytes
        #expect(Array(without[place..<1 << 20]) == note.bytes)
        without.replaceSubrange(place..<1 << 20, with: repeatElement(0, count: RestoreNote.byteCount))
        let isTheRest = without == plain.bytes
        #expect(isTheRest)
    }

    /// A blank sector 0 means an interrupted restore: the note does not count.
    @Test func whatIsInterruptedHasNoNote() throws {
        let (disk, _) = try restored(try MadeUpDisk(seed: 6), jobID: "lab-1")
        try disk.writeZeros(0..<512)
        #expect(try RestoreNote.find(on: disk) == nil)
    }

    /// Before a partition at sector 63 there is no room for the note, which causes a warning.
    @Test func whereSomethingElseIsThereIsNoNote() throws {
        let old = try MadeUpDisk(seed: 7, table: "label: dos\nstart=63, size=12000, type=83\n")
        let (disk, warnings) = try restored(old, jobID: "lab-1")
        #expect(try RestoreNote.find(on: disk) == nil)
        #expect(warnings.contains { $0.contains("lab-1") && $0.contains("no space") })
    }

    @Test func placesAreBehindTheTableAndInFrontOfTheFirstPartition() {
        let head = [UInt8](repeating: 0, count: 1 << 20)
        var full = head
        full[1_044_480] = 1
        #expect(RestoreNote.place(in: full, tableEnd: 17408, firstPartition: 1 << 20) == nil)
        #expect(RestoreNote.place(in: head, tableEnd: 17408, firstPartition: 1 << 20) == 1_044_480)
        #expect(RestoreNote.place(in: head, tableEnd: 17408, firstPartition: 1 << 40) == 1_044_480)
        #expect(RestoreNote.place(in: head, tableEnd: 512, firstPartition: 63 * 512) == nil)
        #expect(RestoreNote.place(in: head, tableEnd: 1 << 20, firstPartition: 1 << 20) == nil)
        #expect(RestoreNote.place(in: head, tableEnd: 512, firstPartition: 40960) == 36864)
        #expect(RestoreNote.place(in: Array(head[..<4096]), tableEnd: 512, firstPartition: 1 << 20) == nil)
    }

    @Test func bytesThatAreNoNoteAreNone() {
        let note = RestoreNote(
            jobID: "a", imageUUID: "b", disk: DiskIdentity(path: "p", serial: "Ü", wwn: "w"), diskByteCount: 1,
            unixSeconds: -1)
        #expect(RestoreNote(bytes: note.bytes) == note)
        for place in [0, 8, 12, 28, 30, 200, 4095] {
            var bytes = note.bytes
            bytes[place] ^= 1
            #expect(RestoreNote(bytes: bytes) == nil)
        }
        #expect(RestoreNote(bytes: Array(note.bytes.dropLast())) == nil)
    }

    @Test func jobIDsAreShortAndPlain() {
        #expect(RestoreNote.isJobID("lab-2026.11_a"))
        for text in ["", "a b", "ä", "a\n", String(repeating: "a", count: 65), "../x"] {
            #expect(!RestoreNote.isJobID(text))
        }
    }
}
