// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// The state of a restore's target, for any thread.
package final class TargetState: Sendable {
    /// The state of an untouched target.
    package init() {}

    private let state = Mutex(RestoreExecutor.DiskState.untouched)

    /// The current state.
    package internal(set) var value: RestoreExecutor.DiskState {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    private let resumable = Mutex(true)

    /// Whether the same restore could resume where it stopped; false if a filesystem cannot shrink as planned.
    package internal(set) var goesOn: Bool {
        get { resumable.withLock { $0 } }
        set { resumable.withLock { $0 = newValue } }
    }

    private let committing = Mutex(false)

    /// Whether the commit is under way: a partial target may be whole the next moment.
    package internal(set) var isCommitting: Bool {
        get { committing.withLock { $0 } }
        set { committing.withLock { $0 = newValue } }
    }
}
