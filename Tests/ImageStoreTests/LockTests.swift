// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageStore

@Suite struct LockTests {
    private let folder: ScratchFolder
    private var path: FilePath { folder.path }
    private var locks: FilePath { path.appending("locks") }

    init() throws { folder = try ScratchFolder() }

    /// Leaves a lock of somebody else, last touched so many seconds ago.
    private func leave(
        _ operation: RepositoryOperation, silentFor silence: Int, _ change: (inout LockRecord) -> Void
    ) throws -> FilePath {
        var record = LockRecord(operation)
        change(&record)
        try Files.makeFolders(locks)
        let file = locks.appending("\(record.uuid).json")
        try Files.write(try JSONText.encode(record), to: file)
        try age(file, silence)
        return file
    }

    private func age(_ file: FilePath, _ silence: Int) throws {
        var times = [timespec(), timespec()]
        times[0].tv_sec = Int(SystemFacts.unixSeconds()) - silence
        times[1] = times[0]
        #expect(utimensat(AT_FDCWD, file.string, &times, 0) == 0)
    }

    private func acquire(_ operation: RepositoryOperation, waiting: Double = 0) throws -> (RepositoryLock, [String]) {
        var notes: [String] = []
        let lock = try RepositoryLock.acquire(at: path, operation: operation, waiting: waiting) { notes.append($0) }
        return (lock, notes)
    }

    @Test func onlyMaintenanceExcludesMaintenance() throws {
        for first in RepositoryOperation.allCases {
            for second in RepositoryOperation.allCases {
                let lock = try acquire(first).0
                if first.isMaintenance && second.isMaintenance {
                    #expect(throws: ImageError.self) { try acquire(second) }
                } else {
                    #expect(try acquire(second).0.isStillHeld)
                }
                #expect(lock.isStillHeld)
                lock.release()
                #expect(!lock.isStillHeld)
            }
        }
        #expect(Files.names(in: locks).isEmpty)
    }

    @Test func waitsForTheOther() throws {
        let lock = try acquire(.prune).0
        let thread = try WorkerThread {
            SystemFacts.sleep(seconds: 1)
            lock.release()
        }
        let (second, notes) = try acquire(.merge, waiting: 30)
        #expect(second.isStillHeld && notes.contains { $0.contains("waiting for prune") })
        thread.join()
    }

    @Test func ofManyAtOnceOneWins() throws {
        let path = path
        let winners = Monitor(0)
        let most = Monitor((now: 0, most: 0))
        let threads = try (0..<8).map { _ in
            try WorkerThread {
                guard let lock = try? RepositoryLock.acquire(at: path, operation: .prune, waiting: 60) else { return }
                most.update {
                    $0.now += 1
                    $0.most = max($0.most, $0.now)
                }
                SystemFacts.sleep(seconds: 0.05)
                most.update { $0.now -= 1 }
                winners.update { $0 += 1 }
                lock.release()
            }
        }
        for thread in threads { thread.join() }
        #expect(most.update { $0.most } == 1)
        #expect(winners.update { $0 } == 8)
    }

    @Test func removesStaleLocks() throws {
        // A process that has ended, however fresh its lock.
        let dead = try leave(.prune, silentFor: 0) { $0.holder.startTicks += 1 }
        // This machine before it was restarted, and another machine.
        let restarted = try leave(.prune, silentFor: 200) { $0.holder.boot = "before" }
        let silent = try leave(.prune, silentFor: 31 * 60) {
            $0.holder.host = "elsewhere"
            $0.holder.boot = "other"
        }
        let future = try leave(.capture, silentFor: -86_400) { $0.holder.boot = "before" }
        let unreadable = locks.appending("\(GUID.random()).json")
        try Files.write([1, 2, 3], to: unreadable)
        try age(unreadable, 31 * 60)
        let (lock, notes) = try acquire(.prune)
        #expect(notes.count == 5, "\(notes)")
        for file in [dead, restarted, silent, future, unreadable] { #expect(!Files.exists(file)) }
        #expect(lock.isStillHeld)
    }

    @Test func keepsLocksThatMayBeAlive() throws {
        let elsewhere = try leave(.prune, silentFor: 29 * 60) {
            $0.holder.host = "elsewhere"
            $0.holder.boot = "other"
        }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(elsewhere)
        // A clone with the same names, not a restart: it was seen a moment ago.
        let clone = try leave(.prune, silentFor: 30) { $0.holder.boot = "other" }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(clone)
        // A container on this machine: its process numbers mean nothing here.
        let container = try leave(.prune, silentFor: 600) {
            $0.holder.namespace = "pid:[1]"
            $0.holder.startTicks += 1
        }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(container)
        let unreadable = locks.appending("\(GUID.random()).json")
        try Files.write([1, 2, 3], to: unreadable)
        #expect(throws: ImageError.self) { try acquire(.prune) }
        #expect(try acquire(.capture).0.isStillHeld)
        try Files.remove(unreadable)
        // An operation of a newer version is taken for the worst.
        let newer = try leave(.capture, silentFor: 0) { $0.operation = "compact" }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(newer)
        // What is named like no lock is none.
        try Files.write([1], to: locks.appending("README.json"))
        #expect(try acquire(.prune).0.isStillHeld)
    }

    @Test func refreshesAndNoticesItsLoss() throws {
        let lock = try RepositoryLock.acquire(
            at: path, operation: .capture, waiting: 0, refreshSeconds: 0.05, note: { _ in })
        let record = try #require(lock.record)
        let file = locks.appending("\(record.uuid).json")
        #expect(try JSONText.decode(LockRecord.self, try Files.read(file)) == record)
        try age(file, 3600)
        var wasRefreshed = false
        for _ in 0..<200 where !wasRefreshed {
            SystemFacts.sleep(seconds: 0.05)
            let modified = try #require(try Files.status(file)).modified
            wasRefreshed = SystemFacts.unixSeconds() - modified < 60
        }
        #expect(wasRefreshed)
        try Files.remove(file)
        #expect(!lock.isStillHeld)
        #expect(throws: ImageError.self) { try lock.confirm() }
        SystemFacts.sleep(seconds: 0.2)
        #expect(!Files.exists(file))
    }

    @Test func goesWithItsLastReference() throws {
        var lock: RepositoryLock? = try acquire(.prune).0
        #expect(lock?.isStillHeld == true && Files.names(in: locks).count == 1)
        lock = nil
        #expect(Files.names(in: locks).isEmpty)
    }
}
