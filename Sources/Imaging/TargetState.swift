// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// What state a restore has its target in, for any thread to read.
public final class TargetState: Sendable {
    /// That of a target to which nothing was written.
    public init() {}

    private let state = Mutex(RestoreExecutor.DiskState.untouched)

    /// The state now.
    public internal(set) var value: RestoreExecutor.DiskState {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}
