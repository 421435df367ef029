// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// What state a restore has its target in, for any thread to read.
package final class TargetState: Sendable {
    /// That of a target to which nothing was written.
    package init() {}

    private let state = Mutex(RestoreExecutor.DiskState.untouched)

    /// The state now.
    package internal(set) var value: RestoreExecutor.DiskState {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    private let resumable = Mutex(true)

    /// Whether the same restore could go on where it stopped; not where a filesystem cannot be made as small as planned.
    package internal(set) var goesOn: Bool {
        get { resumable.withLock { $0 } }
        set { resumable.withLock { $0 = newValue } }
    }

    private let committing = Mutex(false)

    /// Whether the commit is under way: what is partial so far may be whole the next moment.
    package internal(set) var isCommitting: Bool {
        get { committing.withLock { $0 } }
        set { committing.withLock { $0 = newValue } }
    }
}
