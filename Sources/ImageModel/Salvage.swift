// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import Synchronization
import SystemPackage

/// What is lost of a damaged capture, noted while it is read: by the reader for records, by the workers for chunks.
///
/// Whoever holds one may put zeros in place of a chunk that cannot be had; without one, the chunk ends the work.
package final class Salvage: Sendable {
    /// A part of the disk that the capture no longer holds.
    package struct Loss: Equatable, Sendable {
        /// Where it lies on the captured disk: whole chunks, with what is not in use.
        package var range: ByteRange
        /// The hash of its content; `nil` where its record is lost too.
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
    /// How many findings are kept: a repository can lack millions of chunks.
    private static let mostFindings = 100
    private let state = Mutex(State())
    /// Ranges of the captured disk that may be lost; `nil` where any may.
    private let allowed: AllocationMap?

    /// Notes nothing so far, and lets anything be lost.
    package init() { allowed = nil }

    /// Lets nothing be lost but what `survey` found lost, in a second reading of the same capture.
    /// - Parameter byteCount: the length of the captured disk.
    package init(only survey: Salvage, byteCount: UInt64) {
        allowed = AllocationMap(byteCount: byteCount, unsorted: survey.losses.map(\.range))
    }

    /// Whether an error says that a part of a capture is damaged, missing or unreadable, and not that the system failed.
    package static func isDamage(_ error: any Error) -> Bool {
        switch error as? ImageError {
        case .damaged, .truncated: true
        case .system(let error): error.errno == .ioError
        default: false
        }
    }

    /// Notes that a range is lost.
    /// - Throws: `error` itself, where it is no damage or the range may not be lost.
    package func lose<Failure: Error>(
        _ range: ByteRange, hash: ContentHash?, because error: Failure
    ) throws(Failure) {
        guard Self.isDamage(error), allowed?.covers(range) ?? true else { throw error }
        state.withLock {
            $0.losses.append(Loss(range: range, hash: hash))
            $0.note(error)
        }
    }

    /// What names exactly these losses of this image, for whoever confirms them without a terminal: the start of a SHA-256 of both,
    /// in hexadecimal.
    package func code(imageUUID: GUID) -> String {
        let text = losses.reduce("\(imageUUID)") { "\($0)\n\($1.range.lowerBound)-\($1.range.upperBound)" }
        return String(ContentHash(of: Array(text.utf8)).description.prefix(12))
    }

    /// Notes damage that by itself costs no byte of the disk: of a record, of the end.
    package func note(_ error: ImageError) { state.withLock { $0.note(error) } }

    /// What is lost so far, ascending.
    package var losses: [Loss] { state.withLock { $0.losses }.sorted { $0.range.lowerBound < $1.range.lowerBound } }
    /// What was found damaged, the first of it: sentences.
    package var findings: [String] { state.withLock { $0.findings } }
    /// Whether the capture turned out whole so far.
    package var isWhole: Bool { state.withLock { $0.losses.isEmpty && $0.findingCount == 0 } }
}
