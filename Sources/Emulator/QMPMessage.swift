// SPDX-License-Identifier: GPL-3.0-or-later

/// A message of QEMU's machine protocol (docs/interop/qmp-spec.txt).
package enum QMPMessage: Equatable, Sendable {
    case greeting
    /// The answer to the command with that number.
    case success(command: Int64, QMPValue)
    /// The refusal of the command with that number; of a command that could not be read, without one.
    case failure(command: Int64?, why: String)
    case event(QMPEvent)
    /// A message of a kind that this version does not know.
    case other

    init(_ value: QMPValue) {
        var command: Int64?
        if case .integer(let number)? = value["id"] { command = number }
        if let name = value["event"]?.string {
            self = .event(QMPEvent(name: name, data: value["data"] ?? .null))
        } else if let error = value["error"] {
            self = .failure(command: command, why: error["desc"]?.string ?? "it gave no reason")
        } else if let result = value["return"], let command {
            self = .success(command: command, result)
        } else {
            self = value["QMP"] == nil ? .other : .greeting
        }
    }
}

/// An event of a machine: `SHUTDOWN`, `BLOCK_IO_ERROR`, …
package struct QMPEvent: Equatable, Sendable {
    package var name: String
    package var data: QMPValue

    package init(name: String, data: QMPValue = .null) {
        self.name = name
        self.data = data
    }
}

/// Cuts a stream of JSON, one value a line, into its lines. A line is bounded: the other side may be a guest.
package struct JSONLines: Sendable {
    private var unfinished: [UInt8] = []
    private let limit: Int

    package init(limit: Int = 1 << 20) { self.limit = limit }

    /// The values of the lines that `bytes` completes.
    /// - Throws: `DecodingError`, or `Failure.tooLong`.
    package mutating func take(_ bytes: some Collection<UInt8>) throws -> [QMPValue] {
        var values: [QMPValue] = []
        for byte in bytes {
            guard byte == 0x0A else {
                guard unfinished.count < limit else { throw Failure.tooLong }
                unfinished.append(byte)
                continue
            }
            // QMP ends its lines with CR LF.
            let line = unfinished.last == 0x0D ? unfinished.dropLast() : unfinished[...]
            unfinished.removeAll(keepingCapacity: true)
            if !line.isEmpty { values.append(try QMPValue(parsing: line)) }
        }
        return values
    }

    package enum Failure: Error { case tooLong }
}
