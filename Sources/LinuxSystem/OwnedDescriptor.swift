// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import SystemPackage

/// A file descriptor with one owner, closed with the owner.
package struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, for calls during the owner's lifetime.
    package let raw: FileDescriptor

    /// Takes over an open descriptor.
    package init(owning raw: FileDescriptor) { self.raw = raw }

    /// Opens `path`; always close-on-exec.
    ///
    /// The corresponding C function is `open`.
    package static func open(
        _ path: FilePath, _ mode: FileDescriptor.AccessMode, options: FileDescriptor.OpenOptions = [],
        permissions: FilePermissions? = nil
    ) throws(SystemCallError) -> OwnedDescriptor {
        func opened() throws(SystemCallError) -> OwnedDescriptor {
            do {
                return OwnedDescriptor(
                    owning: try .open(path, mode, options: options.union(.closeOnExec), permissions: permissions))
            } catch {
                throw SystemCallError("open", path.string, error as? Errno ?? .ioError)
            }
        }
        // Read-only opens outside of /dev return at once and are not recorded: sysfs and procfs
        // are read by the thousand.
        guard mode != .readOnly || path.starts(with: "/dev") else { return try opened() }
        return try PendingCalls(path: path.string).during(.open, opened)
    }

    /// An empty file of `byteCount` zeros in memory; `name` is for /proc only.
    ///
    /// The corresponding C functions are `memfd_create` and `ftruncate`.
    package static func memory(_ name: String, byteCount: UInt64) throws(SystemCallError) -> OwnedDescriptor {
        let raw = rf_memfd_create(name)
        guard raw >= 0 else { throw SystemCallError("make", "a file in memory", Errno(rawValue: -raw)) }
        let file = OwnedDescriptor(owning: FileDescriptor(rawValue: raw))
        do { try file.raw.resize(to: Int64(clamping: byteCount)) } catch {
            throw SystemCallError("make", "a file in memory", error as? Errno ?? .ioError)
        }
        return file
    }

    /// Both ends of a pipe.
    package struct Pipe: ~Copyable, Sendable {
        package var readEnd: OwnedDescriptor
        package var writeEnd: OwnedDescriptor

        /// The read end, without this process's write end: it ends with the programs that write to it.
        package consuming func reading() throws(SystemCallError) -> OwnedDescriptor {
            try writeEnd.close()
            return readEnd
        }

        /// The write end, without this process's read end.
        package consuming func writing() throws(SystemCallError) -> OwnedDescriptor {
            try readEnd.close()
            return writeEnd
        }
    }

    /// A pipe, both ends close-on-exec.
    ///
    /// The corresponding C function is `pipe2`.
    package static func pipe() throws(SystemCallError) -> Pipe {
        do {
            let ends = try FileDescriptor.pipe(options: .closeOnExec)
            return Pipe(
                readEnd: OwnedDescriptor(owning: ends.readEnd), writeEnd: OwnedDescriptor(owning: ends.writeEnd))
        } catch {
            throw SystemCallError("make", "a pipe", error)
        }
    }

    /// Closes it and reports failures (a full disk may be reported only here).
    package consuming func close() throws(SystemCallError) {
        let raw = self.raw
        discard self
        do { try PendingCalls.closing.during(.change) { try raw.close() } } catch {
            throw SystemCallError("close", "a file", error as? Errno ?? .ioError)
        }
    }

    /// Transfers the descriptor to the caller, who closes it.
    package consuming func release() -> FileDescriptor {
        let raw = self.raw
        discard self
        return raw
    }

    deinit { PendingCalls.closing.during(.change) { try? raw.close() } }
}
