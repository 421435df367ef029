// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import Synchronization
import SystemPackage

// Additional needs of a first process: signals as bytes, orphaned children, terminals.

/// The signals that a supervisor receives or sends.
package enum Signal: Int32, Sendable {
    /// The terminal was closed.
    case hangUp = 1
    /// Ctrl-C, and Ctrl-Alt-Del for PID 1.
    case interrupt = 2
    /// Ends a process without notice.
    case kill = 9
    /// A user-defined signal; for PID 1, busybox's `halt`.
    case user1 = 10
    /// A user-defined signal; for PID 1, busybox's `poweroff`.
    case user2 = 12
    /// Asks a process to end; for PID 1, busybox's `reboot`.
    case terminate = 15
    /// A child has ended.
    case child = 17

    /// Delivers the signals of `numbers` as bytes (their numbers) to a pipe from now on, and returns its read end.
    /// For one caller in a process.
    ///
    /// The corresponding C functions are `pipe2` and `sigaction`.
    package static func deliver(_ signals: [Signal]) throws(SystemCallError) -> OwnedDescriptor {
        let pipe = try OwnedDescriptor.pipe()
        let writeEnd = pipe.writeEnd.release()
        for end in [pipe.readEnd.raw, writeEnd] { _ = fcntl(end.rawValue, F_SETFL, O_NONBLOCK) }
        signalPipe.store(writeEnd.rawValue, ordering: .relaxed)
        for number in signals {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                let before = errno
                var byte = UInt8(truncatingIfNeeded: number)
                // A full pipe loses nothing: the reader empties it before it acts.
                _ = write(signalPipe.load(ordering: .relaxed), &byte, 1)
                errno = before
            }
            sigemptyset(&action.sa_mask)
            action.sa_flags = SA_RESTART
            guard sigaction(number.rawValue, &action, nil) == 0 else {
                throw SystemCallError("listen for", "signal \(number.rawValue)", Errno(rawValue: errno))
            }
        }
        Glibc.signal(SIGPIPE, SIG_IGN)
        return pipe.readEnd
    }
}

private let signalPipe = Atomic<Int32>(-1)

/// Processes by id: PID 1 inherits those that others started.
package enum Processes {
    /// The state of the children of this process.
    package enum Reaped: Equatable, Sendable {
        /// This child has ended.
        case child(Int32, ChildProcess.Ending)
        /// There are children, and none has ended.
        case noneEnded
        /// There are no children.
        case noneLeft
    }

    /// Collects any child that has ended.
    ///
    /// The corresponding C function is `waitpid`.
    package static func reap() -> Reaped {
        var status: Int32 = 0
        let result = waitpid(-1, &status, WNOHANG)
        if result > 0 {
            let number = status & 0x7F
            return .child(result, number == 0 ? .exited(status >> 8 & 0xFF) : .signalled(number))
        }
        return result == 0 ? .noneEnded : .noneLeft
    }

    /// Sends a signal to one process.
    ///
    /// The corresponding C function is `kill`.
    package static func send(_ signal: Signal, to processID: Int32) {
        // 0 and below address process groups, and -1 all processes.
        guard processID > 0 else { return }
        _ = kill(processID, signal.rawValue)
    }

    /// Sends a signal to every process except PID 1 (and the sender, where it is PID 1).
    package static func sendToAll(_ signal: Signal) { _ = kill(-1, signal.rawValue) }

    /// The ids of the children of this process.
    package static func children() -> [Int32] {
        let own = getpid()
        return Files.names(in: "/proc").compactMap { Int32($0) }.filter { id in
            // "id (name) state parent …": a name may contain spaces and parentheses.
            guard let text = Files.text(FilePath("/proc/\(id)/stat")), let end = text.lastIndex(of: ")") else {
                return false
            }
            let fields = text[text.index(after: end)...].split(separator: " ")
            return fields.count > 1 && Int32(fields[1]) == own
        }
    }
}

/// Waits for several descriptors at once.
package enum Polling {
    /// A descriptor and the awaited events.
    package struct Wish: Sendable {
        package var descriptor: FileDescriptor
        /// Until there is something to read.
        package var reading: Bool
        /// Until there is room to write.
        package var writing: Bool

        package init(_ descriptor: FileDescriptor, reading: Bool = true, writing: Bool = false) {
            self.descriptor = descriptor
            self.reading = reading
            self.writing = writing
        }
    }

    /// The state of a descriptor.
    package struct State: Sendable {
        /// Data, the end of the other side, or an error can be read.
        package var isReadable: Bool
        /// There is room to write.
        package var isWritable: Bool
    }

    /// Waits until one of `wishes` is ready or the time is over (`nil`: no limit); returns a state for each.
    ///
    /// The corresponding C function is `poll`.
    package static func wait(for wishes: [Wish], seconds: Double?) -> [State] {
        var polled = wishes.map { wish in
            pollfd(
                fd: wish.descriptor.rawValue,
                events: Int16((wish.reading ? POLLIN : 0) | (wish.writing ? POLLOUT : 0)), revents: 0)
        }
        let milliseconds = seconds.map { Int32(max(0, min($0, 86_400)) * 1000) } ?? -1
        guard poll(&polled, nfds_t(polled.count), milliseconds) > 0 else {
            return wishes.map { _ in State(isReadable: false, isWritable: false) }
        }
        return polled.map { entry in
            let events = Int32(entry.revents)
            return State(
                isReadable: events & (POLLIN | POLLHUP | POLLERR | POLLNVAL) != 0,
                isWritable: events & (POLLOUT | POLLERR) != 0)
        }
    }
}

/// The result of a nonblocking read or write.
package enum NonblockingResult: Equatable, Sendable {
    /// This many bytes; more than 0.
    case moved(Int)
    /// Nothing at the moment.
    case wouldBlock
    /// The stream has ended, or an error occurred.
    case ended
}

extension FileDescriptor {
    /// Makes reads and writes return at once instead of waiting, or turns that off.
    ///
    /// The corresponding C function is `fcntl(F_SETFL)`.
    package func setNonblocking(_ nonblocking: Bool) {
        let flags = fcntl(rawValue, F_GETFL)
        guard flags >= 0 else { return }
        _ = fcntl(rawValue, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK)
    }

    /// Appends the available bytes, at most `limit`, to `bytes`.
    package func readAvailable(into bytes: inout [UInt8], limit: Int = 1 << 16) -> NonblockingResult {
        var part = [UInt8](repeating: 0, count: max(1, limit))
        let count = part.withUnsafeMutableBytes { Glibc.read(rawValue, $0.baseAddress, $0.count) }
        if count > 0 {
            bytes += part.prefix(count)
            return .moved(count)
        }
        return count < 0 && (errno == EAGAIN || errno == EINTR) ? .wouldBlock : .ended
    }

    /// Writes as many bytes as are accepted at once.
    package func writeAvailable(_ bytes: ArraySlice<UInt8>) -> NonblockingResult {
        guard !bytes.isEmpty else { return .wouldBlock }
        let count = bytes.withUnsafeBytes { Glibc.write(rawValue, $0.baseAddress, $0.count) }
        if count > 0 { return .moved(count) }
        return count < 0 && errno != EAGAIN && errno != EINTR ? .ended : .wouldBlock
    }
}

/// A terminal device, opened without becoming a controlling terminal.
package struct Terminal: ~Copyable, Sendable {
    private let owner: OwnedDescriptor

    /// Opens the device at `path`; reads and writes return at once.
    ///
    /// The corresponding C function is `open` with O_NOCTTY. O_NONBLOCK also spares a serial line without a carrier
    /// detect signal from hanging in open.
    package init(opening path: FilePath) throws(SystemCallError) {
        let opened = try OwnedDescriptor.open(
            path, .readWrite, options: [.nonBlocking, FileDescriptor.OpenOptions(rawValue: O_NOCTTY)])
        guard isatty(opened.raw.rawValue) == 1 else {
            throw SystemCallError("use", "\(path) as a terminal", Errno(rawValue: errno))
        }
        owner = opened
    }

    /// The descriptor, valid during the lifetime of this value.
    package var descriptor: FileDescriptor { owner.raw }

    /// Transfers the descriptor to the caller, who closes it.
    package consuming func release() -> FileDescriptor { owner.release() }

    /// Restores line editing, echo and plain output after any program. Speed and framing stay.
    ///
    /// The corresponding C functions are `tcgetattr` and `tcsetattr`.
    package func makeSane() {
        var settings = termios()
        guard tcgetattr(owner.raw.rawValue, &settings) == 0 else { return }
        // Without IXON: a stray Ctrl-S on a serial line would stop a console for good.
        settings.c_iflag = tcflag_t(BRKINT | ICRNL | IUTF8)
        settings.c_oflag = tcflag_t(OPOST | ONLCR)
        settings.c_lflag = tcflag_t(ISIG | ICANON | IEXTEN | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE)
        settings.c_cflag |= tcflag_t(CREAD | CLOCAL)
        _ = tcsetattr(owner.raw.rawValue, TCSANOW, &settings)
    }
}

extension Files {
    /// The kind of a folder entry.
    package enum Kind: Sendable {
        /// A folder.
        case folder
        /// A file with bytes.
        case file
        /// A symbolic link.
        case link
        /// Anything else: a device, a pipe, a socket, or a kind that the filesystem does not report.
        case other
    }

    /// The names in a folder with their kinds, links not followed, sorted; empty if it cannot be read.
    ///
    /// The corresponding C functions are `readdir` and `lstat`.
    package static func entries(in folder: FilePath) -> [(name: String, kind: Kind)] {
        names(in: folder).map { name in
            var status = stat()
            guard lstat(folder.appending(name).string, &status) == 0 else { return (name, .other) }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: return (name, .folder)
            case S_IFREG: return (name, .file)
            case S_IFLNK: return (name, .link)
            default: return (name, .other)
            }
        }
    }

    /// Creates a symbolic link at `path` that points to `target`; an existing one stays.
    ///
    /// The corresponding C function is `symlink`.
    package static func makeLink(_ path: FilePath, to target: String) throws(SystemCallError) {
        guard symlink(target, path.string) == 0 || errno == EEXIST else {
            throw SystemCallError("create", path.string, Errno(rawValue: errno))
        }
    }

    /// Creates a named pipe for its owner only, replacing an existing one.
    ///
    /// The corresponding C function is `mkfifo`.
    package static func makeNamedPipe(_ path: FilePath) throws(SystemCallError) {
        unlink(path.string)
        guard mkfifo(path.string, 0o600) == 0 else {
            throw SystemCallError("create", path.string, Errno(rawValue: errno))
        }
    }

    /// Writes into an existing file without replacing it: procfs, sysfs, a pipe, a device, a log.
    package static func put(
        _ text: String, into path: FilePath, appending: Bool = false
    ) throws(SystemCallError) {
        let descriptor = try OwnedDescriptor.open(path, .writeOnly, options: appending ? [.append] : [])
        do { _ = try descriptor.raw.writeAll(Array(text.utf8)) } catch {
            throw SystemCallError("write", path.string, error as? Errno ?? .ioError)
        }
    }
}

extension Mount {
    /// Unmounts a mount point, regardless of its owner.
    /// - Parameter lazily: detaches it at once, and releases it when it is no longer in use.
    ///
    /// The corresponding C function is `umount2`.
    package static func unmount(_ place: FilePath, lazily: Bool = false) throws(SystemCallError) {
        try check(rf_umount(place.string, lazily ? 1 : 0), "unmount", place.string)
    }
}

extension Machine {
    /// Writes all cached data to the disks.
    ///
    /// The corresponding C function is `sync`.
    package static func sync() { Glibc.sync() }
}
