// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import ObjectStore
import Synchronization
import SystemPackage

/// What a process says while it is at work in a repository: a file of its own in `locks/`, touched every minute, removed
/// at the end. One that a dead process left is seen to be stale and removed by whoever comes next.
///
/// Only maintenance waits for other maintenance; the rest hold theirs so that prune sees them.
package final class RepositoryLock: Sendable {
    /// What the lock says; `nil` where nothing can be written (a read-only repository): readers go without.
    package let record: LockRecord?
    private let file: HeldLock?
    private let refresher: PeriodicThread?
    private let keepsTime: Bool

    private init(_ record: LockRecord?, _ file: HeldLock?, _ refresher: PeriodicThread?, keepsTime: Bool) {
        self.keepsTime = keepsTime
        self.record = record
        self.file = file
        self.refresher = refresher
    }

    /// That of a reader where nothing can be written.
    static var none: RepositoryLock { RepositoryLock(nil, nil, nil, keepsTime: false) }

    deinit { release() }

    /// Takes a lock.
    /// - Parameters:
    ///   - store: the repository.
    ///   - waiting: how long maintenance waits for other maintenance, in seconds.
    ///   - cancellation: ends the wait.
    ///   - note: is told what a person should know: whom it waits for, which stale locks it removed.
    /// - Throws: `ImageError.busy` where other maintenance goes on for longer; `ImageError.system` where no lock can be
    ///   written. A reader (restore, verify) of a read-only repository gets a lock that is none.
    package static func acquire(
        in store: any ObjectSink, operation: RepositoryOperation, waiting: Double = 0,
        cancellation: Cancellation = Cancellation(), note: (String) -> Void = { _ in }
    ) throws(ImageError) -> RepositoryLock {
        try acquire(
            in: store, operation: operation, waiting: waiting, refreshSeconds: LockRecord.refreshSeconds,
            cancellation: cancellation, note: note)
    }

    static func acquire(
        in store: any ObjectSink, operation: RepositoryOperation, waiting: Double, refreshSeconds: Double,
        removesStale: Bool = true, watchSeconds: Double = LockRecord.watchSeconds,
        cancellation: Cancellation = Cancellation(), note: (String) -> Void
    ) throws(ImageError) -> RepositoryLock {
        let deadline = SystemFacts.monotonicSeconds() + waiting
        // Whoever does not wait leaves it to others to find out.
        let watches = operation.isMaintenance && waiting > 0 && removesStale
        var attempts = 0
        var announced: Set<GUID> = []
        func announce(_ other: Held) {
            guard announced.insert(other.uuid).inserted else { return }
            let summary = other.record?.summary ?? "a process whose lock cannot be read"
            note(
                other.isSuspected
                    ? "watching the lock of \(summary) for \(Int(watchSeconds)) s: it goes unless its holder renews it"
                    : "waiting for \(summary)")
        }
        while true {
            let file: HeldLock
            do { file = try HeldLock(operation, in: store) } catch {
                let isReadOnly = [Errno.readOnlyFileSystem, .permissionDenied, .notPermitted].contains(error.errno)
                if isReadOnly, operation == .restore || operation == .verify { return .none }
                throw .system(error)
            }
            var found: Held?
            do {
                // Written first, then looked: of two that come at once, one at least sees the other.
                let refresher = try PeriodicThread(every: refreshSeconds) { _ = try? file.touched() }
                while true {
                    let others = try held(
                        in: store, store, besides: file.record.uuid, now: try file.touched(),
                        removesStale: removesStale, watchSeconds: watchSeconds, note: note)
                    let other = operation.isMaintenance ? others.first { $0.record?.isMaintenance ?? true } : nil
                    // What a capture left that died elsewhere holds up no prune, but the space that it frees.
                    if other == nil, watches, let suspect = others.first(where: \.isSuspected),
                        !cancellation.isRequested
                    {
                        announce(suspect)
                        SystemFacts.sleep(seconds: min(1, watchSeconds / 10), unless: cancellation)
                        continue
                    }
                    found = other
                    break
                }
                if found == nil {
                    return RepositoryLock(file.record, file, refresher, keepsTime: store.traits.keepsTime)
                }
                refresher.stop()
            } catch {
                file.remove()
                throw .system(error)
            }
            guard let conflict = found else { continue }
            // Two that saw each other both step back, and come again at different times.
            file.remove()
            attempts += 1
            let summary = conflict.record?.summary ?? "a process whose lock cannot be read"
            let isWorthWaiting = SystemFacts.monotonicSeconds() < deadline || watches && conflict.isSuspected
            guard attempts < 4 || isWorthWaiting, !cancellation.isRequested else {
                throw .busy(
                    "\(store.name) is in use: \(summary). \(operation.rawValue) has to wait until that has ended "
                        + "(a lock that was left behind goes by itself: after 30 minutes, prune watches it for 3 and takes it away)"
                )
            }
            if attempts >= 4 { announce(conflict) }
            SystemFacts.sleep(seconds: Double.random(in: attempts < 4 ? 0.02...0.2 : 0.5...1.5), unless: cancellation)
        }
    }

    /// Whether the lock still holds: to be asked right before something is published that relies on it. A machine that
    /// slept for an hour may have lost it.
    package var isStillHeld: Bool {
        guard let file else { return true }
        return (try? file.touched()) != nil && file.exists
    }

    /// Like `isStillHeld`, as an error.
    package func confirm() throws(ImageError) {
        guard !isStillHeld else { return }
        throw .busy(
            "this process was silent for so long that its lock on the repository was taken for a dead one's; nothing "
                + "was published, run it again")
    }

    /// The time by the store's clock: file times are compared with it; `nil` without a lock.
    func keeperSeconds() -> Int64? { keepsTime ? try? file?.touched() : nil }

    /// Ends it. It also ends with its last reference.
    package func release() {
        refresher?.stop()
        file?.remove()
    }

    /// A lock that somebody holds, or may hold.
    struct Held {
        var uuid: GUID
        /// `nil` where it cannot be read.
        var record: LockRecord?
        /// Whether clocks say that its holder is gone, and watching it has not yet told.
        var isSuspected = false

        /// Whether its holder may be storing something.
        var mayWrite: Bool {
            guard let operation = record.map({ RepositoryOperation(rawValue: $0.operation) }) else { return true }
            return operation.map { $0 == .capture || $0 == .copy } ?? true
        }
    }

    /// The locks of others whose holders may be alive.
    /// - Parameters:
    ///   - now: the time by the store's clock.
    ///   - removesStale: whether those of others are removed.
    static func held(
        in store: StoreAccess, besides own: GUID?, now: Int64, removesStale: Bool
    ) throws(ImageError) -> [Held] {
        let remover = removesStale ? try store.sink() : nil
        do {
            return try held(
                in: store.source, remover, besides: own, now: now, removesStale: removesStale,
                watchSeconds: LockRecord.watchSeconds
            ) { _ in }
        } catch { throw .system(error) }
    }

    private static func held(
        in store: any ObjectSource, _ remover: (any ObjectSink)?, besides own: GUID?, now: Int64, removesStale: Bool,
        watchSeconds: Double,
        note: (String) -> Void
    ) throws(SystemCallError) -> [Held] {
        let me = ProcessFacts.own()
        var result: [Held] = []
        for name in try names(in: store) {
            // What is not named like a lock is none: a file on its way to be one, or somebody else's.
            guard let uuid = GUID(name), uuid != own else { continue }
            let id = ObjectID(.lock, name)
            guard let status = try store.status(id) else { continue }
            let record = (try? store.read(id, limit: 1 << 16)).flatMap { try? JSONText.decode(LockRecord.self, $0) }
            let silence = now.subtractingReportingOverflow(status.modified).partialValue
            let absence =
                if let record {
                    record.absence(silence: store.traits.keepsTime ? silence : nil, seenBy: me)
                } else {
                    LockRecord.absence(silence: silence).map {
                        LockRecord.Absence.suspected("it cannot be read, and \($0)")
                    }
                }
            let reason: String
            switch absence {
            case .proven(let why): reason = why
            case .suspected(let why):
                let (unchangedSeconds, hasChanged) = LockWatch.shared.observe(uuid, status)
                guard unchangedSeconds >= watchSeconds else {
                    result.append(Held(uuid: uuid, record: record, isSuspected: !hasChanged))
                    continue
                }
                reason = "\(why), and nothing renewed it for \(Int(unchangedSeconds)) s"
            case nil:
                result.append(Held(uuid: uuid, record: record))
                continue
            }
            // Unless its holder has woken up meanwhile. The name never comes again, so nobody else's can be hit.
            guard try store.status(id) == status else {
                result.append(Held(uuid: uuid, record: record))
                continue
            }
            if removesStale, let remover, (try? remover.remove(id)) != nil {
                note("removed a stale lock (\(record?.summary ?? name)): \(reason)")
            }
        }
        return result
    }

    /// The names of all locks. Where there is no folder for them, nobody can hold one; one that cannot be read must
    /// never pass for empty.
    private static func names(in store: any ObjectSource) throws(SystemCallError) -> [String] {
        do { return try store.list(.lock) } catch {
            if error.errno == .noSuchFileOrDirectory { return [] }
            throw error
        }
    }
}
