// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The object of a lock while its process holds it. Its bytes never change; its time, which the store sets, does.
final class HeldLock: Sendable {
    /// What it says.
    let record: LockRecord
    private let store: any ObjectSink
    private let bytes: [UInt8]
    private var id: ObjectID { .lock(record.uuid) }

    /// Puts it.
    ///
    /// In a full store, maintenance makes do with an empty one, or nobody could make room. Others take a lock that they
    /// cannot read for maintenance.
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
            // It may have been put all the same, and would hold up others for as long as this process lives.
            try? store.remove(.lock(record.uuid))
            throw error
        }
    }

    /// Puts it again, and says which time it has now.
    func touched() throws(SystemCallError) -> Int64 { try store.touch(id, bytes) }

    /// Whether nobody has removed it.
    var exists: Bool { ((try? store.status(id)) ?? nil) != nil }

    /// Removes it.
    func remove() { try? store.remove(id) }
}
