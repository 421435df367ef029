// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// Preparation of this process before it runs a command. Descriptors 0 to 2 are open by then (`CEarlyBoot`).
package enum Process {
    /// Prepares for any command: no core dumps (they would hold keys and passwords), file size limits as errors instead
    /// of a signal, and a failure where standard output did not take the text that the command line parser printed.
    ///
    /// The corresponding C functions are `setrlimit(RLIMIT_CORE)`, `prctl(PR_SET_DUMPABLE)` and `signal(SIGXFSZ)`.
    package static func enter() {
        rf_forbid_dumps()
        // A write past the limit returns EFBIG then. Children start with the default action.
        signal(SIGXFSZ, SIG_IGN)
        atexit {
            guard rf_is_output_whole() == 0 else { return }
            _ = try? FileDescriptor.standardError.writeAll(
                Array("reforge: could not write the result to standard output\n".utf8))
            _exit(74)
        }
    }

    /// Gives the process its own mount namespace, so that its mounts end with it and with the programs that it
    /// started, however they end. Mounts and unmounts by others still arrive (`MS_SLAVE`): a disk that they unmount is
    /// free. Nothing changes without permission, or where unmounts of a disk would not arrive: the disk would stay in
    /// use until this process ends. Must be called before the first thread.
    ///
    /// The corresponding C functions are `unshare(CLONE_NEWNS)` and `mount(MS_REC | MS_SLAVE)`.
    package static func ownMounts() {
        // Checked before: setns back would lose the working folder and the root.
        if !MountEntry.holdsDisks(MountEntry.current()) { _ = rf_unshare_mounts() }
    }

    /// Continues in a child process. The parent forwards signals and ends as the child does; it also ends when the
    /// child gives up (`giveUp`) while the kernel keeps it: a thread that waits uninterruptibly for a disk outlives
    /// even SIGKILL. Must be called before the first thread. Nothing changes where fork fails.
    ///
    /// The corresponding C functions are `fork`, `sigwaitinfo` and `waitpid`.
    package static func continueInChild() { _ = rf_continue_in_child() }

    /// Ends the process without waiting, not even for its own pending calls.
    ///
    /// The corresponding C functions are `sigqueue` and `_exit`.
    package static func giveUp(_ status: Int32) -> Never { rf_give_up(status) }

    /// Registers another descriptor, besides the standard ones, whose reader must see the end
    /// of a process that gives up.
    package static func tells(_ descriptor: FileDescriptor) { rf_tells(descriptor.rawValue) }
}
