// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The rules of passwords: arbitrary bytes, without the newline that an editor leaves at the end of a file.
package enum PasswordBytes {
    /// The longest password in bytes.
    package static let largestCount = 4096

    /// Takes a typed or stored password.
    /// - Parameter source: the origin, for messages; never the password itself.
    package static func from(_ bytes: [UInt8], source: String) throws(ImageError) -> [UInt8] {
        var password = bytes
        if password.last == UInt8(ascii: "\n") {
            password.removeLast()
            if password.last == UInt8(ascii: "\r") { password.removeLast() }
        }
        guard !password.isEmpty else { throw .key("the password in \(source) is empty") }
        guard password.count <= largestCount else {
            throw .key("the password in \(source) is longer than \(largestCount) bytes")
        }
        return password
    }

    /// From a file (or a pipe).
    package static func read(_ path: FilePath) throws(ImageError) -> [UInt8] {
        let bytes: [UInt8]
        do { bytes = try Files.read(path, limit: largestCount + 3) } catch { throw .system(error) }
        return try from(bytes, source: path.string)
    }
}
