// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

/// Calls that do not return, and disks that disappear.
@Suite struct StallTests {
    private static func call(_ name: String, start: UInt64, _ kind: PendingCalls.Kind = .write) -> PendingCalls.Call {
        PendingCalls.Call(name: name, kind: kind, start: start)
    }

    @Test func aCallIsPendingWhileItLasts() throws {
        let pipe = try OwnedDescriptor.pipe()
        let input = pipe.readEnd.raw
        let calls = PendingCalls("a pipe", on: input)
        let before = SystemFacts.monotonicMilliseconds()
        let reader = try WorkerThread {
            var byte: UInt8 = 0
            _ = calls.during(.read) { withUnsafeMutableBytes(of: &byte) { try? input.read(into: $0) } }
        }
        while calls.now.isEmpty { SystemFacts.sleep(seconds: 0.001) }
        #expect(calls.now.map(\.kind) == [.read] && calls.now.map(\.name) == ["a pipe"])
        #expect(calls.now.allSatisfy { $0.start >= before && $0.start <= SystemFacts.monotonicMilliseconds() })
        #expect(PendingCalls.living().contains { $0 === calls })
        _ = try pipe.writeEnd.raw.writeAll([1])
        reader.join()
        #expect(calls.now.isEmpty)
        withExtendedLifetime(pipe) {}
    }

    @Test func aCallThatFailsIsOver() throws {
        let calls = PendingCalls(path: "nothing")
        #expect(throws: Errno.badFileDescriptor) {
            try calls.during(.read) { () throws(Errno) in throw Errno.badFileDescriptor }
        }
        #expect(calls.now.isEmpty)
    }

    @Test func moreCallsThanAreNotedAreMade() throws {
        let calls = PendingCalls(path: "busy")
        func nested(_ depth: Int) -> Int { calls.during(.read) { depth == 0 ? calls.now.count : nested(depth - 1) } }
        #expect(nested(2) == 3)
        #expect(nested(40) == 16)
        #expect(calls.now.isEmpty)
    }

    @Test func theOldestCallIsSaidAfter30SecondsAndThenSeldom() {
        var judge = StallWatch.Judge()
        func said(_ calls: [PendingCalls.Call], now: UInt64) -> [String] { judge.messages(calls, now: now) }
        let calls = [Self.call("/dev/sdx", start: 1_000), Self.call("/dev/sdx", start: 500, .read)]
        #expect(said(calls, now: 30_499).isEmpty)
        let first = said(calls, now: 30_500)
        #expect(first.count == 1 && first[0].hasPrefix("waiting for 30 s for /dev/sdx (read)"), "\(first)")
        #expect(said(calls, now: 31_000).isEmpty && said(calls, now: 60_000).isEmpty)
        #expect(said(calls, now: 62_000).map { $0.hasPrefix("waiting for 61 s") } == [true])
        // A call that has returned is forgotten; another call is reported.
        #expect(said([], now: 63_000).isEmpty)
        #expect(said([Self.call("/dev/sdx", start: 62_500)], now: 70_000).isEmpty)
        #expect(said([Self.call("/dev/sdx", start: 62_500)], now: 93_000).count == 1)
    }

    @Test func aProcessThatWasStoppedWaitedForNoDisk() {
        var judge = StallWatch.Judge()
        let looks = [1_000, 1_500, 3_500, 90_000, 90_500].map { judge.looks(now: $0) }
        #expect(looks == [true, true, true, false, true])
    }

    @Test func aDiskThatAnswersRequestsIsSlowAndNotStill() {
        var judge = StallWatch.Judge()
        func isAtWork(_ count: UInt64, at now: UInt64) -> Bool { judge.isAtWork(["sdx": count], now: now) }
        #expect(!isAtWork(100, at: 1_000) && !isAtWork(100, at: 1_500))
        #expect(isAtWork(101, at: 2_000) && isAtWork(101, at: 2_500) && isAtWork(101, at: 4_500))
        #expect(!isAtWork(101, at: 5_000))
        // Activity between two distant checks was not for the pending call.
        #expect(!isAtWork(900, at: 8_000) && isAtWork(901, at: 8_500))
        let nothing = judge.isAtWork([:], now: 9_000)
        #expect(!nothing)
        let calls = [Self.call("/dev/sdx", start: 0, .flush)]
        let said = judge.messages(calls, busy: ["/dev/sdx"], now: 40_000)
        #expect(said == ["waiting for 40 s for /dev/sdx (flush), whose disk is slow, but works; Ctrl-C gives up on it"])
    }

    @Test func aProgramMustEndItsWorkUnlessItsDiskDoesNotAnswer() {
        typealias Activity = RunningPrograms.Activity
        let program = RunningPrograms.Program(name: "resize2fs", processID: 77)
        var judge = StallWatch.Judge()
        func look(_ activity: Activity?, at now: UInt64) -> StallWatch.Judge.OfPrograms {
            judge.look(
                at: activity.map { [program: $0] } ?? [:], now: now, interruption: 10_000)
        }
        func waits(_ amount: UInt64, disk: UInt64 = 0) -> Activity {
            Activity(amount: amount, isWaiting: true, disks: ["sdx": disk])
        }
        // It is active: one message, and it is not given up.
        #expect(look(waits(1), at: 10_500) == .init())
        let second = look(waits(2), at: 11_000)
        #expect(second.hopeless == nil && second.messages.map { $0.contains("`resize2fs`, which must end") } == [true])
        #expect(look(waits(3), at: 11_500) == .init())
        // It waits, and its disk is active.
        for step in UInt64(0)..<20 {
            let found = look(waits(3, disk: step), at: 12_000 + step * 500)
            #expect(found == .init())
        }
        // Its disk does not answer.
        let still = stride(from: UInt64(22_000), through: 24_500, by: 500).map {
            look(waits(3, disk: 19), at: $0).hopeless
        }
        #expect(still.dropLast().allSatisfy { $0 == nil } && still.last == program)
        // A program that only sleeps (for another process, for a lock) is not given up.
        let asleep = [25_000, 40_000, 60_000].map { look(Activity(amount: 3), at: $0).hopeless }
        #expect(asleep == [nil, nil, nil])
        // Nor is one without an open disk, or one that would end half-way with this process.
        let confined = RunningPrograms.Program(name: "grub-install", processID: 78, isConfined: true)
        for now in stride(from: UInt64(70_000), through: 90_000, by: 500) {
            let mounted = Activity(amount: 3, isWaiting: true)
            #expect(look(mounted, at: now).hopeless == nil)
            let found = judge.look(at: [confined: waits(3)], now: now, interruption: 10_000)
            #expect(found.hopeless == nil)
        }
        #expect(look(nil, at: 91_000) == .init())
    }

    @Test func aProgramIsKnownWhileItRuns() throws {
        // Under a name that no program of another test has.
        let folder = try ScratchFolder()
        let shell = folder.path.appending("a-shell-of-this-test")
        try Files.makeLink(shell, to: "/bin/sh")
        let go = folder.path.appending("go")
        let runner = try WorkerThread {
            _ = try? ChildProcess.run([shell.string, "-c", "while [ ! -e '\(go)' ]; do sleep 0.01; done"])
        }
        func found() -> RunningPrograms.Program? {
            RunningPrograms.now.first { $0.name == "a-shell-of-this-test" }
        }
        while found() == nil { SystemFacts.sleep(seconds: 0.001) }
        let program = try #require(found())
        let before = RunningPrograms.activity(of: program)
        #expect(before.disks.isEmpty)
        var grows = false
        while !grows {
            SystemFacts.sleep(seconds: 0.01)
            grows = RunningPrograms.activity(of: program).amount > before.amount
        }
        try Files.write([], to: go)
        runner.join()
        #expect(!RunningPrograms.now.contains(program))
    }

    @Test func aDiskTellsWhatItHasDone() throws {
        let (root, directory) = try Self.madeUpDisks()
        #expect(directory.activity(of: "sda") == nil)
        let fields = "5 0 40 1 7 0 56 2 0 3 3 11 0 88 1 13 1"
        try Files.write(Array("   \(fields)\n".utf8), to: root.path.appending("block/sda/stat"))
        #expect(directory.activity(of: "sda") == 5 + 7 + 11 + 13)
        // Kernels before 4.18 count no discards, those before 5.5 no flushes.
        try Files.write(Array("5 0 40 1 7 0 56 2 0 3 3\n".utf8), to: root.path.appending("block/sda/stat"))
        #expect(directory.activity(of: "sda") == 5 + 7)
        withExtendedLifetime(root) {}
    }

    @Test func aCallThatOutlastsAnInterruptionIsGivenUp() {
        let calls = [Self.call("new", start: 9_000), Self.call("old", start: 2_000)]
        func hopeless(at now: UInt64, interruption: UInt64?) -> String? {
            StallWatch.Judge.hopeless(calls, now: now, interruption: interruption)?.name
        }
        #expect(hopeless(at: 1_000_000, interruption: nil) == nil)
        #expect(hopeless(at: 12_900, interruption: 10_000) == nil)
        #expect(hopeless(at: 13_000, interruption: 10_000) == "old")
        // A slow call is not a hung one: a call that began a moment ago may return.
        let young = [Self.call("young", start: 13_000)]
        #expect(StallWatch.Judge.hopeless(young, now: 15_900, interruption: 10_000) == nil)
        #expect(StallWatch.Judge.hopeless(young, now: 16_000, interruption: 10_000)?.name == "young")
    }

    /// A sysfs with `/dev/sda`, two disks below an array, and a mapped device over one partition.
    private static func madeUpDisks() throws -> (ScratchFolder, DiskDirectory) {
        let root = try ScratchFolder()
        func write(_ text: String, to file: String) throws {
            let path = root.path.appending(file)
            try Files.makeFolders(path.removingLastComponent())
            try Files.write(Array(text.utf8), to: path)
        }
        for (index, name) in ["sda", "sdb", "md0", "dm-0"].enumerated() {
            try write("2048\n", to: "block/\(name)/size")
            try write("\(index + 10)\n", to: "block/\(name)/diskseq")
            try Files.makeFolders(root.path.appending("dev/block"))
            try Files.makeLink(root.path.appending("dev/block/8:\(index)"), to: "../../block/\(name)")
            try Files.makeFolders(root.path.appending("class/block"))
            try Files.makeLink(root.path.appending("class/block/\(name)"), to: "../../block/\(name)")
        }
        for (name, below) in [("md0", "sda"), ("md0", "sdb"), ("dm-0", "sda")] {
            try Files.makeFolders(root.path.appending("block/\(name)/slaves/\(below)"))
        }
        return (root, DiskDirectory(sys: root.path, proc: root.path))
    }

    @Test func aDiskIsGoneWithItsFolderItsSizeOrItsSequenceNumber() throws {
        let (root, directory) = try Self.madeUpDisks()
        let disk = try #require(DiskPresence("sda", in: directory))
        #expect(!disk.isGone)
        try Files.write(Array("99\n".utf8), to: root.path.appending("block/sda/diskseq"))
        #expect(disk.isGone)
        try Files.write(Array("10\n".utf8), to: root.path.appending("block/sda/diskseq"))
        #expect(!disk.isGone)
        try Files.write(Array("0\n".utf8), to: root.path.appending("block/sda/size"))
        #expect(disk.isGone)
        #expect(DiskPresence("sda", in: directory) == nil)
        let other = try #require(DiskPresence("sdb", in: directory))
        try Files.rename(root.path.appending("block/sdb"), to: root.path.appending("elsewhere"))
        #expect(other.isGone)
    }

    @Test func aDiskBelowAMappedDeviceCountsAndAMemberOfAnArrayDoesNot() throws {
        let (root, directory) = try Self.madeUpDisks()
        func names(_ minor: UInt64) -> [String] {
            DiskPresence.disks(below: 8 << 8 | minor, in: directory).map(\.name)
        }
        #expect(names(0) == ["sda"])
        #expect(names(2) == ["md0"])
        #expect(names(3) == ["dm-0", "sda"])
        #expect(names(9) == [])
        withExtendedLifetime(root) {}
    }

    /// An open of a loop device waits for the close of another one, and that for the disk below.
    @Test func belowALoopDeviceNothingIsOpened() throws {
        let (root, directory) = try Self.madeUpDisks()
        for (number, backing) in [("7:0", "/dev/sda"), ("7:1", "/srv/disk.raw"), ("7:2", "/dev/missing")] {
            let name = "loop\(number.last ?? "x")"
            for folder in ["block", "class/block"] {
                let path = root.path.appending("\(folder)/\(name)")
                try Files.makeFolders(path.appending("loop"))
                try Files.write(Array("\(number)\n".utf8), to: path.appending("dev"))
                try Files.write(Array("8\n".utf8), to: path.appending("size"))
                try Files.write(Array("\(backing)\n".utf8), to: path.appending("loop/backing_file"))
            }
        }
        #expect(directory.nodesBelow("loop0", opening: false) == ["sda"])
        #expect(directory.nodesBelow("loop1", opening: false).isEmpty)
        #expect(directory.nodesBelow("loop2", opening: false).isEmpty)
        withExtendedLifetime(root) {}
    }
}
