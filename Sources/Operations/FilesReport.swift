// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import ImageModel
import JobModel
import LinuxSystem

/// The result of reading files of an image.
package struct FilesReport: Encodable {
    /// A file, as JSON and for a listing.
    package struct Found: Encodable {
        package var path: String
        /// The bytes of the path in hexadecimal digits, if `path` does not show all of them as they are.
        package var pathBytes: String?
        package var kind: String
        /// Four octal digits.
        package var permissions: String
        package var owner: UInt32
        package var group: UInt32
        package var byteCount: UInt64
        package var linkCount: UInt64
        /// RFC 3339, UTC.
        package var modified: String
        package var target: String?

        /// - Parameter prefix: the volume and the folder, as the user wrote them.
        init(_ entry: AgentEntry, prefix: String, path: [UInt8]) {
            let shown = AgentText.shown(path)
            self.path = prefix + shown
            pathBytes =
                path.elementsEqual(shown.utf8)
                ? nil : path.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            kind = entry.kindName
            permissions = String(String(Int(entry.permissions) + 0o10000, radix: 8).dropFirst())
            (owner, group) = (entry.owner, entry.group)
            (byteCount, linkCount) = (entry.byteCount, entry.linkCount)
            modified = SystemFacts.utcText(entry.modified)
            target = entry.target.isEmpty ? nil : AgentText.shown(entry.target)
        }

        /// As `ls -l` writes it.
        package var line: String {
            let letter =
                [
                    "file": "-", "folder": "d", "link": "l", "character device": "c", "block device": "b",
                    "pipe": "p", "socket": "s",
                ][kind] ?? "?"
            let bits = Int(permissions, radix: 8) ?? 0
            let letters = ["r", "w", "x"]
            var mode = (0..<9).map { bits >> (8 - $0) & 1 == 1 ? letters[$0 % 3] : "-" }
            for (bit, place, character) in [(0o4000, 2, "s"), (0o2000, 5, "s"), (0o1000, 8, "t")] where bits & bit != 0
            {
                mode[place] = mode[place] == "x" ? character : character.uppercased()
            }
            func right(_ text: String, _ width: Int) -> String {
                String(repeating: " ", count: max(0, width - text.count)) + text
            }
            let arrow = target.map { " -> \($0)" } ?? ""
            return "\(letter)\(mode.joined()) \(right(String(linkCount), 3)) \(right(String(owner), 5)) "
                + "\(right(String(group), 5)) \(right(String(byteCount), 12)) \(modified) \(path)\(arrow)"
        }
    }

    package struct Volume: Encodable {
        package var name: String
        package var kind: String
        package var label: String
        package var uuid: String
        package var byteCount: UInt64
        package var layers: [String]
        /// Why its files cannot be read.
        package var obstacle: String?

        init(_ volume: AgentVolume) {
            (name, kind, label, uuid) = (volume.name, volume.kindName, volume.label, volume.uuid)
            (byteCount, layers) = (volume.byteCount, volume.layers)
            obstacle = volume.obstacle.isEmpty ? nil : volume.obstacle
        }
    }

    package struct Problem: Encodable {
        package var path: String
        package var why: String
        /// `image` or `destination`.
        package var cause: String

        init(_ problem: FileProblem) {
            (path, why) = (problem.path, problem.why)
            cause = problem.cause == .image ? "image" : "destination"
        }
    }

    package let schema = 1
    package var volumes: [Volume]?
    package var entries: [Found]?
    package var fileCount: UInt64 = 0
    package var folderCount: UInt64 = 0
    package var byteCount: UInt64 = 0
    /// Entries that were left out: devices, sockets.
    package var leftOutCount: UInt64 = 0
    package var problemCount: UInt64 = 0
    /// The first ones.
    package var problems: [Problem] = []
    package var seconds: Double = 0
    private(set) var status = ExitStatus.done

    private enum CodingKeys: String, CodingKey {
        case schema, volumes, entries, fileCount, folderCount, byteCount, leftOutCount, problemCount, problems, seconds
    }

    package var outcome: Outcome { Outcome(status) }

    mutating func add(_ counts: DeliveryCounts) {
        (fileCount, folderCount, byteCount) = (counts.fileCount, counts.folderCount, counts.byteCount)
        leftOutCount = counts.otherCount
        problemCount = counts.imageProblemCount + counts.destinationProblemCount
        problems = counts.problems.map(Problem.init)
        status = counts.imageProblemCount > 0 ? .badImage : counts.destinationProblemCount > 0 ? .cannotCreate : .done
    }

    mutating func add(_ problem: FileProblem) {
        problemCount += 1
        if problems.count < 1000 { problems.append(Problem(problem)) }
        status = .badImage
    }
}

extension AgentEntry {
    var kindName: String {
        switch kind {
        case .file, .hardLink: "file"
        case .folder: "folder"
        case .link: "link"
        case .characterDevice: "character device"
        case .blockDevice: "block device"
        case .pipe: "pipe"
        case .socket: "socket"
        case .reparsePoint: "reparse point"
        case .other: "other"
        }
    }
}
