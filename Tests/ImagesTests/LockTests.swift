// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Glibc
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

@Suite struct LockTests {
    private let folder: ScratchFolder
    private var path: FilePath { folder.path }
    private var locks: FilePath { path.appending("locks") }

    init() throws { folder = try ScratchFolder() }

    /// Leaves a lock of another process, last touched the given number of seconds ago.
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

    private func acquire(
        _ operation: RepositoryOperation, waiting: Double = 0, watchSeconds: Double = LockRecord.watchSeconds
    ) throws -> (RepositoryLock, [String]) {
        var notes: [String] = []
        let lock = try RepositoryLock.acquire(
            in: LocalStore(path), operation: operation, waiting: waiting, refreshSeconds: LockRecord.refreshSeconds,
            watchSeconds: watchSeconds
        ) { notes.append($0) }
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
                guard let lock = try? RepositoryLock.acquire(in: LocalStore(path), operation: .prune, waiting: 60)
                else { return }
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
        // A process that has ended, with a fresh lock.
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
        // Without a waiting time no lock is watched: only a proven dead one is removed.
        let (capture, first) = try acquire(.capture)
        #expect(first.count == 1 && first.allSatisfy { $0.contains("has ended") }, "\(first)")
        #expect(!Files.exists(dead))
        for file in [restarted, silent, future, unreadable] { #expect(Files.exists(file)) }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        capture.release()
        let (lock, notes) = try acquire(.prune, waiting: 0.1, watchSeconds: 2)
        #expect(notes.filter { $0.contains("removed a stale lock") }.count == 4, "\(notes)")
        for file in [restarted, silent, future, unreadable] { #expect(!Files.exists(file)) }
        #expect(lock.isStillHeld)
    }

    /// On SMB and SSH mounts, the writing machines set the times of files: a live lock can have any age.
    @Test(arguments: [86_400, -86_400]) func aLiveLockOfAnotherClockStays(silence: Int) throws {
        let other = try leave(.prune, silentFor: silence) {
            $0.holder.host = "elsewhere"
            $0.holder.boot = "other"
        }
        let (isOver, isDead) = (Monitor(false), Monitor(false))
        let path = other
        let holder = try WorkerThread {
            defer { isDead.update { $0 = true } }
            // The holder renews its lock, by its own clock.
            var step = 0
            while !isOver.update({ $0 }) {
                step += 1
                var times = [timespec(), timespec()]
                times[0].tv_sec = Int(SystemFacts.unixSeconds()) - silence + step
                times[1] = times[0]
                _ = utimensat(AT_FDCWD, path.string, &times, 0)
                SystemFacts.sleep(seconds: 0.3)
            }
        }
        defer {
            isOver.update { $0 = true }
            holder.join()
        }
        // The lock is waited for and named; it is not removed, even after long watching.
        for _ in 0..<2 {
            #expect(throws: ImageError.self) { try acquire(.prune, waiting: 1.5, watchSeconds: 1) }
            #expect(Files.exists(other))
        }
        // The holder dies: the lock is no longer renewed.
        isOver.update { $0 = true }
        isDead.wait { $0 ? () : nil }
        let (lock, notes) = try acquire(.prune, waiting: 6, watchSeconds: 1)
        #expect(lock.isStillHeld && !Files.exists(other), "\(notes)")
    }

    /// The lock of a capture that died elsewhere: prune watches it, as its marks would wait for it otherwise.
    @Test func aDeadCaptureOfAnotherMachine() throws {
        let other = try leave(.capture, silentFor: 3600) {
            $0.holder.host = "elsewhere"
            $0.holder.boot = "other"
        }
        let (lock, notes) = try acquire(.prune, waiting: 0.1, watchSeconds: 1)
        #expect(lock.isStillHeld && !Files.exists(other), "\(notes)")
        #expect(notes.first?.contains("watching the lock of capture") == true, "\(notes)")
    }

    /// The time of a lock comes from a write, not from this machine's clock: an explicitly set time is not kept.
    @Test func theStoreSetsTheTime() throws {
        let lock = try acquire(.capture).0
        let record = try #require(lock.record)
        let file = locks.appending("\(record.uuid).json")
        let before = try Files.read(file)
        try age(file, 7200)
        let now = try #require(lock.keeperSeconds())
        #expect((now - SystemFacts.unixSeconds()).magnitude <= 2)
        #expect(try Files.read(file) == before)
        let started = try #require(TimeText(record.started)?.unixSeconds)
        #expect((started - now).magnitude <= 5)
    }

    @Test func keepsLocksThatMayBeAlive() throws {
        let elsewhere = try leave(.prune, silentFor: 29 * 60) {
            $0.holder.host = "elsewhere"
            $0.holder.boot = "other"
        }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(elsewhere)
        // A clone with the same names, not a restart: it was just seen.
        let clone = try leave(.prune, silentFor: 30) { $0.holder.boot = "other" }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(clone)
        // A container on this machine: its process numbers are not valid here.
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
        // An operation of a newer version counts as maintenance and as a capture.
        let newer = try leave(.capture, silentFor: 0) { $0.operation = "compact" }
        #expect(throws: ImageError.self) { try acquire(.prune) }
        try Files.remove(newer)
        // Files with other names are no locks.
        try Files.write([1], to: locks.appending("README.json"))
        #expect(try acquire(.prune).0.isStillHeld)
    }

    @Test func refreshesAndNoticesItsLoss() throws {
        let lock = try RepositoryLock.acquire(
            in: LocalStore(path), operation: .capture, waiting: 0, refreshSeconds: 0.05, note: { _ in })
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
