// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// PID 1's side of a console: a terminal that accepts output without ever blocking PID 1, and returns whole lines. If
/// its device fails or is missing, it is silent.
final class MediumConsole {
    /// The kernel's name, `tty0`, `ttyS0`.
    let name: String
    /// The process id of the rescue shell on it.
    var shell: Int32?
    private let devices: [FilePath]
    private var terminal: FileDescriptor?
    private var outgoing: [UInt8] = []
    private var lines = LineSplitter()
    private var inputEnded = false
    /// A serial line at 9600 baud needs four minutes for this; older output is dropped.
    private static let outgoingLimit = 1 << 18

    /// The console with the kernel's name `name`.
    init(_ name: String) {
        self.name = name
        // tty0 is the virtual terminal in the foreground; a shell needs a fixed one.
        devices = (name == "tty0" ? ["tty1", "tty0"] : [name]).map { FilePath("/dev/\($0)") }
        open()
    }

    /// The consoles that the kernel writes to (`/sys/class/tty/console/active`), else /dev/console.
    static func all() -> [MediumConsole] {
        let active = Files.text("/sys/class/tty/console/active") ?? ""
        let consoles = names(active: active).map { MediumConsole($0) }.filter(\.isOpen)
        return consoles.isEmpty ? [MediumConsole("console")].filter(\.isOpen) : consoles
    }

    /// The names in the text of `active` that could be devices.
    static func names(active: String) -> [String] {
        var names: [String] = []
        for name in active.split(whereSeparator: \.isWhitespace).map(String.init)
        where !names.contains(name) && name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber) }) {
            names.append(name)
        }
        return names
    }

    /// Whether the terminal can be used.
    var isOpen: Bool { terminal != nil }

    /// Opens the device with the usual settings.
    func open() {
        letGo()
        for device in devices {
            guard let opened = try? Terminal(opening: device) else { continue }
            opened.makeSane()
            terminal = opened.release()
            inputEnded = false
            return
        }
    }

    /// Closes the device for a shell: when the shell ends, the kernel hangs up all processes that have it open.
    func close() {
        flush()
        letGo()
        outgoing = []
        lines = LineSplitter()
    }

    private func letGo() {
        try? terminal?.close()
        terminal = nil
    }

    /// The condition to poll; `nil` if there is none.
    var wish: Polling.Wish? {
        guard let terminal, shell == nil, !inputEnded || !outgoing.isEmpty else { return nil }
        return Polling.Wish(terminal, reading: !inputEnded, writing: !outgoing.isEmpty)
    }

    /// Shows bytes, now or once the device accepts them.
    func show(_ bytes: [UInt8]) {
        guard isOpen, shell == nil else { return }
        outgoing += bytes
        if outgoing.count > Self.outgoingLimit {
            outgoing =
                Array("\n[output was dropped here: this console is slow]\n".utf8)
                + outgoing.suffix(Self.outgoingLimit / 2)
        }
        flush()
    }

    /// Writes as much as the device accepts without blocking.
    func flush() {
        while let terminal, !outgoing.isEmpty {
            switch terminal.writeAvailable(outgoing[...]) {
            case .moved(let count): outgoing.removeFirst(min(count, outgoing.count))
            case .wouldBlock: return
            case .ended: outgoing = []
            }
        }
    }

    /// The typed lines.
    func typedLines() -> [String] {
        guard let terminal, !inputEnded else { return [] }
        var bytes: [UInt8] = []
        if terminal.readAvailable(into: &bytes, limit: 4096) == .ended {
            // A missing serial port, or Ctrl-D on an empty line. The latter must not end a console, so a port is given
            // up only after repeated errors, which missing hardware reports at once.
            endings += 1
            inputEnded = endings > 16
        } else {
            endings = 0
        }
        return lines.add(bytes)
    }
    private var endings = 0

    /// Starts a shell whose controlling terminal this is.
    func startShell() throws(SystemCallError) {
        guard shell == nil else { return }
        close()
        var failure = SystemCallError("open", name, .noSuchFileOrDirectory)
        for device in devices {
            do throws(SystemCallError) {
                let own = try Terminal(opening: device)
                own.makeSane()
                own.descriptor.setNonblocking(false)
                let child = try ChildProcess(
                    ["/bin/sh", "-l"],
                    environment: ChildProcess.plainEnvironment.filter { !$0.hasPrefix("TERM=") }
                        + ["TERM=\(name.hasPrefix("tty") && !name.hasPrefix("ttyS") ? "linux" : "vt100")"],
                    input: own.descriptor, output: own.descriptor, error: own.descriptor, newSession: true,
                    terminal: true)
                shell = child.processID
                return
            } catch {
                failure = error
            }
        }
        open()
        throw failure
    }
}
