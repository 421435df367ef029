// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Results go to standard output, everything else to standard error.
enum Console {
    static let events = TerminalEvents()

    static func message(_ text: String) { write(text.printableLines + "\n", to: .standardError) }

    /// Prints a result. A failed write is an error, except on a closed standard output, which asks for silence.
    static func result(_ text: String) throws {
        // A program that reads it gets names as they are.
        let text = SystemFacts.isTerminal(.standardOutput) ? text.printableLines : text
        do { try print(text) } catch  where error == .badFileDescriptor {} catch { throw lost(error) }
    }

    /// Prints a result as one JSON object. A failed write is always an error, because `--json` asks for the object.
    static func json(_ value: some Encodable) throws {
        let text = String(decoding: try JSONText.encode(value, pretty: true), as: UTF8.self)
        do { try print(text) } catch { throw lost(error) }
    }

    /// Prints a report, as one JSON object or as lines.
    static func result(_ report: some Encodable, json isJSON: Bool, lines: [String]) throws {
        if isJSON { try json(report) } else { try result(lines.joined(separator: "\n")) }
    }

    private static func print(_ text: String) throws(Errno) {
        do { _ = try FileDescriptor.standardOutput.writeAll(Array((text + "\n").utf8)) } catch {
            throw error as? Errno ?? .ioError
        }
    }

    private static func lost(_ reason: Errno) -> JobFailure {
        JobFailure(.ioError, "could not write the result to standard output: \(reason.sentence)")
    }

    static func write(_ text: String, to descriptor: FileDescriptor) {
        // A failure of this write cannot be reported anywhere.
        _ = try? descriptor.writeAll(Array(text.utf8))
    }

    /// Asks for a line of input; `nil` at the end of the input.
    /// - Parameter useTerminal: asks on /dev/tty because standard input is the image.
    static func ask(_ question: String, useTerminal: Bool) -> String? {
        guard useTerminal else {
            write(question.printableLines, to: .standardError)
            return readLine(.standardInput)
        }
        guard let terminal = try? OwnedDescriptor.open("/dev/tty", .readWrite) else { return nil }
        write(question.printableLines, to: terminal.raw)
        return readLine(terminal.raw)
    }

    private static func readLine(_ input: FileDescriptor) -> String? {
        var line: [UInt8] = []
        while line.count < 1024 {
            var byte: UInt8 = 0
            let count = withUnsafeMutableBytes(of: &byte) { try? input.read(into: $0, retryOnInterrupt: false) }
            guard count == 1 else { return line.isEmpty ? nil : String(decoding: line, as: UTF8.self) }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
        return nil
    }
}
