// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import Repository

@Suite struct UnfinishedFileTests {
    private let scratch: ScratchFolder
    private var path: FilePath { scratch.path.appending("disk.img.zst") }
    init() throws { scratch = try ScratchFolder() }

    private var names: [String] { Files.names(in: scratch.path) }

    @Test(arguments: [true, false]) func hasItsNameOnlyWhenPublished(mayBeUnnamed: Bool) throws {
        do {
            let file = try UnfinishedFile(of: path, mayBeUnnamed: mayBeUnnamed)
            _ = try file.descriptor.writeAll([1, 2, 3])
            // The scratch folder's filesystem has files without names.
            #expect(mayBeUnnamed ? names.isEmpty : names.count == 1 && names[0].hasPrefix(".disk.img.zst.partial-"))
        }
        #expect(names.isEmpty)
        let file = try UnfinishedFile(of: path, mayBeUnnamed: mayBeUnnamed)
        _ = try file.descriptor.writeAll([1, 2, 3])
        try file.publish(replacing: false)
        #expect(try Files.read(path) == [1, 2, 3] && names == ["disk.img.zst"])
    }

    @Test(arguments: [true, false]) func replacesOnlyWhereAskedTo(mayBeUnnamed: Bool) throws {
        try Files.write([7], to: path)
        let file = try UnfinishedFile(of: path, mayBeUnnamed: mayBeUnnamed)
        _ = try file.descriptor.writeAll([1])
        #expect(throws: SystemCallError.self) { try file.publish(replacing: false) }
        #expect(try Files.read(path) == [7])
        try file.publish(replacing: true)
        #expect(try Files.read(path) == [1] && names == ["disk.img.zst"])
    }

    @Test func twoWritersOfOneNameAreNotInEachOthersWay() throws {
        let one = try UnfinishedFile(of: path, mayBeUnnamed: false)
        let two = try UnfinishedFile(of: path, mayBeUnnamed: false)
        #expect(names.count == 2)
        try two.publish(replacing: false)
        #expect(throws: SystemCallError.self) { try one.publish(replacing: false) }
    }

    /// By boot, process, start and time: of this boot by its process, of another one by its lock.
    @Test func leftoversOfDeadWritersGo() throws {
        let boot = WriterToken.bootToken
        let own = SystemFacts.processID
        let ticks = try #require(ProcessFacts.startTicks(of: own))
        let now = SystemFacts.unixSeconds()
        func make(_ name: String) throws { try Files.write([0], to: scratch.path.appending(name)) }
        let dead = [
            ".a.partial-1.\(boot)-999999999-5-\(now)", ".a.partial-2.\(boot)-\(own)-\(ticks + 1)-\(now)",
            ".a.partial-3.00000000-1-1-\(now)",
        ]
        let kept = [
            ".a.partial-4.\(boot)-\(own)-\(ticks)-\(now)", ".a.partial-5", "a.partial-6.00000000-1-1-1000",
            ".a.other-7.00000000-1-1-1000", ".a.partial-8.00000000-1-1-\(now)",
        ]
        for name in dead + kept { try make(name) }
        let locked = try OwnedDescriptor.open(scratch.path.appending(kept[4]), .writeOnly)
        #expect(try FileLock.take(locked.raw, forWriting: true) == .granted)
        _ = try UnfinishedFile(of: path)
        #expect(Set(names) == Set(kept))
        try locked.close()
        // A child that another test has forked holds the lock, too, until it becomes another program.
        let deadline = SystemFacts.monotonicSeconds() + 60
        repeat {
            _ = try UnfinishedFile(of: path)
        } while Set(names) != Set(kept[..<4]) && SystemFacts.monotonicSeconds() < deadline
        #expect(Set(names) == Set(kept[..<4]))
    }
}
