// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import Synchronization
import SystemPackage

/// The losses of a damaged capture, recorded during reading: by the reader for records, by the workers for chunks.
///
/// With a salvage, an unreadable chunk is replaced by zeros; without one, it ends the work.
package final class Salvage: Sendable {
    /// A part of the disk that the capture no longer holds.
    package struct Loss: Equatable, Sendable {
        /// Its range on the captured disk: whole chunks, including bytes not in use.
        package var range: ByteRange
        /// The hash of its content; `nil` if its record is lost too.
        package var hash: ContentHash?

        /// Names a part.
        package init(range: ByteRange, hash: ContentHash?) {
            self.range = range
            self.hash = hash
        }
    }

    private struct State {
        var losses: [Loss] = []
        var findings: [String] = []
        var findingCount = 0

        mutating func note(_ error: any Error) {
            findingCount += 1
            guard findings.count < Salvage.mostFindings, findings.last != "\(error)" else { return }
            findings.append("\(error)")
        }
    }
    /// Upper bound on the kept findings: a repository can lack millions of chunks.
    private static let mostFindings = 100
    private let state = Mutex(State())
    /// Ranges of the captured disk that may be lost; `nil` if any range may.
    private let allowed: AllocationMap?

    /// An empty salvage that accepts any loss.
    package init() { allowed = nil }

    /// Accepts only the losses found by `survey`, for a second reading of the same capture.
    /// - Parameter byteCount: the length of the captured disk.
    package init(only survey: Salvage, byteCount: UInt64) {
        allowed = AllocationMap(byteCount: byteCount, unsorted: survey.losses.map(\.range))
    }

    /// Whether an error means that a part of a capture is damaged, missing or unreadable, rather than that the system
    /// failed.
    package static func isDamage(_ error: any Error) -> Bool {
        switch error as? ImageError {
        case .damaged, .truncated: true
        case .system(let error): error.errno == .ioError
        default: false
        }
    }

    /// Records a range as lost.
    /// - Throws: `error` itself, if it is no damage or the range may not be lost.
    package func lose<Failure: Error>(
        _ range: ByteRange, hash: ContentHash?, because error: Failure
    ) throws(Failure) {
        guard Self.isDamage(error), allowed?.covers(range) ?? true else { throw error }
        state.withLock {
            $0.losses.append(Loss(range: range, hash: hash))
            $0.note(error)
        }
    }

    /// A code for exactly these losses of this image, used to confirm them without a terminal: the start of a SHA-256
    /// of both, in hexadecimal.
    package func code(imageUUID: GUID) -> String {
        let text = losses.reduce("\(imageUUID)") { "\($0)\n\($1.range.lowerBound)-\($1.range.upperBound)" }
        return String(ContentHash(of: Array(text.utf8)).description.prefix(12))
    }

    /// Records damage that by itself loses no byte of the disk: of a record, of the end.
    package func note(_ error: ImageError) { state.withLock { $0.note(error) } }

    /// The losses so far, ascending.
    package var losses: [Loss] { state.withLock { $0.losses }.sorted { $0.range.lowerBound < $1.range.lowerBound } }
    /// The first damages found, as sentences.
    package var findings: [String] { state.withLock { $0.findings } }
    /// Whether no damage was found so far.
    package var isWhole: Bool { state.withLock { $0.losses.isEmpty && $0.findingCount == 0 } }
}
