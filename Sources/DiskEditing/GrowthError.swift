// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The reason why a partition table or a filesystem could not grow in place.
package struct GrowthError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Whether the structures on the disk are not as expected; nothing was written then. Otherwise a read or write
    /// failed.
    package let isUnexpected: Bool
    /// A sentence for a person.
    package let description: String

    /// Runs a growth and describes its errors.
    /// - Parameter subject: the start of the description of an unexpected structure, before a colon.
    static func naming<Value>(_ subject: String, _ body: () throws -> Value) throws(GrowthError) -> Value {
        do {
            return try body()
        } catch let error as ParsingError {
            throw GrowthError(isUnexpected: true, description: "\(subject): \(error)")
        } catch {
            throw GrowthError(isUnexpected: false, description: "\(error)")
        }
    }
}
