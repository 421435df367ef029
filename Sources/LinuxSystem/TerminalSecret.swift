// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Prompts for a secret on the terminal without echo.
package enum TerminalSecret {
    /// Prompts and reads a line.
    ///
    /// The terminal is as before afterwards, also where `cancellation` ends the question. (Ctrl-Z and Ctrl-\ have no meaning
    /// while it is asked.)
    ///
    /// The corresponding C functions are `tcgetattr` and `tcsetattr`.
    /// - Parameter terminal: the terminal's device; the controlling terminal by default.
    /// - Returns: the line without its end; `nil` without a terminal, or at the end of its input.
    package static func ask(
        _ question: String, terminal path: FilePath = "/dev/tty", limit: Int, cancellation: Cancellation
    ) throws(SystemCallError) -> [UInt8]? {
        guard let terminal = try? OwnedDescriptor.open(path, .readWrite) else { return nil }
        let number = terminal.raw.rawValue
        var before = termios()
        guard tcgetattr(number, &before) == 0 else { return nil }
        var quiet = before
        quiet.c_lflag &= ~tcflag_t(ECHO | ECHOE | ECHOK | ECHONL)
        quiet.c_lflag |= tcflag_t(ICANON | ISIG)
        // Stopped or ended by these keys, the process would leave a terminal without echo. 0: no such key.
        withUnsafeMutableBytes(of: &quiet.c_cc) { keys in
            keys[Int(VQUIT)] = 0
            keys[Int(VSUSP)] = 0
        }
        // Input typed before the prompt is discarded.
        guard tcsetattr(number, TCSAFLUSH, &quiet) == 0 else { return nil }
        defer {
            // Surplus input must not become the next command.
            _ = tcsetattr(number, TCSAFLUSH, &before)
            _ = try? terminal.raw.writeAll(Array("\n".utf8))
        }
        _ = try? terminal.raw.writeAll(Array(question.utf8))
        return try readLine(terminal.raw, path.string, limit: limit, cancellation)
    }

    private static func readLine(
        _ terminal: FileDescriptor, _ name: String, limit: Int, _ cancellation: Cancellation
    ) throws(SystemCallError) -> [UInt8]? {
        var line: [UInt8] = []
        while true {
            if cancellation.isRequested { throw SystemCallError("read", name, .interrupted) }
            // A signal between the test and a blocking read would be noticed at the next key only: so not for long.
            var wish = pollfd(fd: terminal.rawValue, events: Int16(POLLIN), revents: 0)
            let ready = poll(&wish, 1, 200)
            if ready == 0 { continue }
            var byte: UInt8 = 0
            let count = ready < 0 ? -1 : read(terminal.rawValue, &byte, 1)
            if count < 0 {
                let reason = Errno(rawValue: errno)
                if reason == .interrupted || reason == .resourceTemporarilyUnavailable { continue }
                throw SystemCallError("read", name, reason)
            }
            if count == 0 { return line.isEmpty ? nil : line }
            if byte == UInt8(ascii: "\n") { return line }
            guard line.count < limit else { throw SystemCallError("read a line that long from", name, .fileTooLarge) }
            line.append(byte)
        }
    }
}
