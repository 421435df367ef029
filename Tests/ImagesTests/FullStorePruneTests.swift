// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Prune of a store without space for an index.
@Suite struct FullStorePruneTests {
    /// A store without space for an index while it holds three packs.
    private final class FullStore: WrappedStore {
        let inner: any PrunableStore

        init(_ inner: any PrunableStore) { self.inner = inner }

        var freeByteCount: UInt64? { 0 }

        func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter {
            if id.kind == .index, try inner.list(.pack).count >= 3 {
                throw SystemCallError("write", inner.name(of: id), .noSpace)
            }
            return try inner.begin(id)
        }
    }

    /// A capture that ended for lack of space may leave packs without an index: they must not end a prune that makes
    /// space.
    @Test func packsWithoutAnIndexStayUntilThereIsSpace() throws {
        let fixture = try PruneFixture()
        let store = fixture.repository.store
        try fixture.capture(try fixture.disk())
        try fixture.abandonCapture()
        let before = Set(try store.indexNames())
        try fixture.abandonCapture()
        for name in Set(try store.indexNames()).subtracting(before) {
            try Files.remove(fixture.repository.layout.index(name))
        }
        #expect(fixture.packCount == 3)
        let full = FullStore(LocalStore(fixture.path))
        // What is known not to be needed makes space.
        let first = try Repository.open(full, keys: nil).prune(grace: 0)
        #expect(first.adopted.packCount == 0 && first.removed.packCount == 1 && fixture.packCount == 2, "\(first)")
        #expect(first.notes.contains { $0.contains("1 pack that no index knows stays") }, "\(first.notes)")
        let second = try Repository.open(full, keys: nil).prune(grace: 0)
        #expect(second.adopted.packCount == 1 && fixture.packCount == 1, "\(second)")
        try fixture.check()
    }
}
