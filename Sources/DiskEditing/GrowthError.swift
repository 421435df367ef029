// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Why a table or a filesystem could not grow in its place.
package struct GrowthError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Whether what is there is not as expected; nothing was written then. Otherwise reading or writing failed.
    package let isUnexpected: Bool
    /// One sentence for a person.
    package let description: String

    /// Runs a growth and names what fails in it.
    /// - Parameter subject: what stays as it is where something is not as expected, before a colon.
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
