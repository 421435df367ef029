// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// Texts as QEMU's programs read and write them.
package enum QemuText {
    /// A JSON string.
    package static func json(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 32:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// A path that QEMU takes as nothing else: with a slash before any colon it is not a protocol's name
    /// (`path_has_protocol`, block.c).
    package static func plainPath(_ path: FilePath) -> String { path.isAbsolute ? path.string : "./\(path)" }

    /// The message of a failed program: its last lines, without its own name in front.
    /// - Parameter files: their names stand in place of their descriptors.
    static func message(_ lines: [String], program: QemuProgram, files: [StorageDaemon.File] = []) -> String {
        let own = "\(program.rawValue): "
        let said = lines.map { $0.hasPrefix(own) ? String($0.dropFirst(own.count)) : $0 }
            .filter { !$0.allSatisfy(\.isWhitespace) && progress($0) == nil }
        var text = said.suffix(4).joined(separator: " / ")
        // The longest first: the path of descriptor 1 begins that of descriptor 12.
        for file in files.sorted(by: { $0.path.utf8.count > $1.path.utf8.count }) {
            text = text.replacing(file.path, with: file.name)
        }
        return text
    }

    /// The percentage of a progress line, `(12.34/100%)`; `nil` for any other text.
    static func progress(_ line: String) -> Double? {
        let text = line.drop { $0 == " " }
        guard text.first == "(", let slash = text.firstIndex(of: "/"), text[slash...].hasPrefix("/100%)") else {
            return nil
        }
        guard let value = Double(text[text.index(after: text.startIndex)..<slash]), (0...100).contains(value) else {
            return nil
        }
        return value
    }
}
