// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The object of a lock while its process holds it. Its bytes never change; its time, which the store sets, does.
final class HeldLock: Sendable {
    /// The contents of the lock.
    let record: LockRecord
    private let store: any ObjectSink
    private let bytes: [UInt8]
    private var id: ObjectID { .lock(record.uuid) }

    /// Writes the lock.
    ///
    /// In a full store, maintenance falls back to an empty object; otherwise no space could be freed. Other processes
    /// treat an unreadable lock as maintenance.
    init(_ operation: RepositoryOperation, in store: any ObjectSink) throws(SystemCallError) {
        var record = LockRecord(operation)
        // By the clock of the store: others compare it with the times of objects.
        if store.traits.keepsTime, let now = store.now() { record.started = SystemFacts.utcText(now) }
        self.record = record
        self.store = store
        do { bytes = try JSONText.encode(record, pretty: true) } catch {
            throw SystemCallError("write", store.name(of: .lock(record.uuid)), .invalidArgument)
        }
        do throws(SystemCallError) {
            try store.put(.lock(record.uuid), bytes, record.isMaintenance ? .mayBeEmpty : [])
        } catch {
            // The object may exist despite the error, and would block others until this process ends.
            try? store.remove(.lock(record.uuid))
            throw error
        }
    }

    /// Writes the lock again.
    /// - Returns: its new time.
    func touched() throws(SystemCallError) -> Int64 { try store.touch(id, bytes) }

    /// Whether the object still exists.
    var exists: Bool { ((try? store.status(id)) ?? nil) != nil }

    func remove() { try? store.remove(id) }
}
