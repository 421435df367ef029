// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel

/// A secret asked on a pseudo terminal.
@Suite struct KeyTerminalTests {
    private final class Pair {
        let master: FileDescriptor
        let slave: FilePath
        init() throws {
            // Swift's Glibc has no posix_openpt: the equivalent calls (ioctl_tty(2)).
            let file = try OwnedDescriptor.open("/dev/ptmx", .readWrite)
            var (unlocked, index): (Int32, UInt32) = (0, 0)
            let (unlock, getNumber): (UInt, UInt) = (0x4004_5431, 0x8004_5430)
            try #require(ioctl(file.raw.rawValue, unlock, &unlocked) == 0)
            try #require(ioctl(file.raw.rawValue, getNumber, &index) == 0)
            master = file.release()
            slave = FilePath("/dev/pts/\(index)")
        }
        deinit { try? master.close() }

        /// The terminal output since the last call.
        func shown(until text: String) -> String {
            var all = ""
            // By scalars: "\r\n" is one character of a String.
            for _ in 0..<100 where !all.unicodeScalars.contains(text.unicodeScalars) {
                var wish = pollfd(fd: master.rawValue, events: Int16(POLLIN), revents: 0)
                guard poll(&wish, 1, 100) > 0 else { continue }
                var buffer = [UInt8](repeating: 0, count: 256)
                let count = buffer.withUnsafeMutableBytes { (try? master.read(into: $0)) ?? 0 }
                if count == 0 { break }
                all += String(decoding: buffer[..<count], as: UTF8.self)
            }
            return all
        }
    }

    @Test func whatIsTypedIsNotShownAndTheTerminalIsAsBefore() throws {
        let pair = try Pair()
        let slave = try OwnedDescriptor.open(pair.slave, .readWrite)
        var before = termios()
        tcgetattr(slave.raw.rawValue, &before)
        #expect(before.c_lflag & tcflag_t(ECHO) != 0)
        let path = pair.slave
        let answer = Monitor<[UInt8]??>(nil)
        let thread = try WorkerThread {
            let line = try? TerminalSecret.ask("secret? ", terminal: path, limit: 100, cancellation: Cancellation())
            answer.update { $0 = .some(line) }
        }
        let question = pair.shown(until: "secret? ")
        #expect(question.contains("secret? "))
        _ = try pair.master.writeAll(Array("tr\u{7F}r0ub4dor\n".utf8))
        thread.join()
        let rest = pair.shown(until: "\n")
        #expect(!rest.contains("r") && !rest.contains("0"), "the terminal showed \(rest)")
        #expect(answer.update { $0 } == Array("tr0ub4dor".utf8))
        var after = termios()
        tcgetattr(slave.raw.rawValue, &after)
        #expect(after.c_lflag == before.c_lflag)
    }

    @Test func noTerminalIsNoAnswer() throws {
        for path: FilePath in ["/dev/null", "/no/such/terminal"] {
            #expect(try TerminalSecret.ask("?", terminal: path, limit: 10, cancellation: Cancellation()) == nil)
        }
    }

    @Test func aLineThatIsTooLongIsRefused() throws {
        let pair = try Pair()
        let slave = try OwnedDescriptor.open(pair.slave, .readWrite)
        let path = pair.slave
        let failed = Monitor(false)
        let thread = try WorkerThread {
            do {
                _ = try TerminalSecret.ask("secret? ", terminal: path, limit: 10, cancellation: Cancellation())
            } catch { failed.update { $0 = true } }
        }
        _ = pair.shown(until: "secret? ")
        _ = try pair.master.writeAll(Array("12345678901\n".utf8))
        thread.join()
        #expect(failed.update { $0 })
        var after = termios()
        tcgetattr(slave.raw.rawValue, &after)
        #expect(after.c_lflag & tcflag_t(ECHO) != 0)
    }
}
