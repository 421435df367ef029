// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Verifies an image, a snapshot or a repository.
package final class VerifyOperation {
    private let job: VerifyJob
    private let keys: KeyRing
    private let events: any EventSink
    private var cancellation: Cancellation { keys.cancellation }

    /// The result of a verification.
    package enum Findings {
        /// An image that is whole.
        case image(VerifiedImage)
        /// A repository, whole or not.
        case repository(VerifiedRepository)
    }

    /// An image that is whole.
    package struct VerifiedImage: Encodable {
        package let schema = 1
        package var image: String
        package var imageID: String
        package var chunks: Int
        package var dataByteCount: UInt64
        package var unreadable: [ByteRange]
        package var seconds: Double
        /// The ranges that could not be read at capture, for a person.
        package var unreadableTexts: [String] = []

        private enum CodingKeys: String, CodingKey {
            case schema, image, imageID, chunks, dataByteCount, unreadable, seconds
        }
    }

    /// - Parameters:
    ///   - keys: the job's passwords.
    package init(_ job: VerifyJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// Runs the verification.
    /// - Throws: `JobFailure` or an error of the engines; also for a damaged image.
    package func run() throws -> Findings {
        try events.reporting("verify", cancellation, outcome: { Outcome($0.isWhole ? .done : .badImage) }) {
            if LocalStore.isRepository(FilePath(job.image)) { return try verify(Stores.normalized(job.image), nil) }
            if case .snapshot(let address) = try ImageAddress.parse(job.image, .thisMachine) {
                return try verify(Stores.normalized(address.repository), address)
            }
            if job.readsDataPercent != nil, job.image != "-" {
                events.log("an image is always read whole: --read-data changes nothing")
            }
            return .image(try verifyImage())
        }
    }

    private func verifyImage() throws -> VerifiedImage {
        let start = SystemFacts.monotonicSeconds()
        let input: OpenedImage
        let outcome: CaptureVerifier.Outcome
        do {
            input = try OpenedImage.open(job.image, keys, operation: .verify)
            try keys.refuseUnused(job.image)
            outcome = try input.verified(events, cancellation)
        } catch {
            throw SalvageAdvice.followed(
                error, by: "`reforge restore --salvage` brings back the rest.", image: job.image, keys)
        }
        let holes = outcome.ending.lateFacts.unreadable
        return VerifiedImage(
            image: job.image, imageID: outcome.ending.id.description, chunks: outcome.chunkCount,
            dataByteCount: outcome.dataByteCount, unreadable: holes, seconds: SystemFacts.monotonicSeconds() - start,
            unreadableTexts: input.reader.header.manifest.unreadableTexts(holes))
    }

    private func verify(_ repositoryAddress: String, _ address: SnapshotAddress?) throws -> Findings {
        let start = SystemFacts.monotonicSeconds()
        let repository = try OpenedRepository.open(repositoryAddress, keys)
        try keys.refuseUnused(repositoryAddress)
        if job.repairs {
            guard address.map({ $0.choice == .repository }) ?? true else {
                throw JobFailure(.usage, "--repair works on a whole repository: \(repositoryAddress)")
            }
            let report = try repair(repository)
            return .repository(
                VerifiedRepository(repositoryAddress, report, seconds: SystemFacts.monotonicSeconds() - start))
        }
        var ids: [ContentHash]?
        if let address, address.choice != .repository {
            ids = [try OpenedRepository.find(address, in: repository, events).info.id]
        }
        let report = try showing { progress in
            try repository.verify(readDataPercent: job.readsDataPercent, snapshots: ids, note: events.log) {
                // Files are counted, not bytes: only contents make a bar.
                if $0.phase == .contents { progress.show("verify", done: $0.done, total: $0.total) }
            }
        }
        return .repository(
            VerifiedRepository(repositoryAddress, report, seconds: SystemFacts.monotonicSeconds() - start))
    }

    /// Sets damaged contents aside. The snapshots that need them stay damaged until they are stored again.
    private func repair(_ repository: Repository) throws -> VerifyReport {
        let report = try showing { progress in
            try repository.repair(waiting: 30, note: events.log) {
                if $0.phase == .contents { progress.show("verify", done: $0.done, total: $0.total) }
            }
        }
        for note in report.notes { events.log(note) }
        if report.quarantinedCount > 0 {
            events.log(
                "\(report.quarantinedCount) damaged contents were set aside: capture the disks again that still have them, then "
                    + "run reforge verify \(repository.name) --read-data")
        }
        if report.adopted.packCount > 0 {
            events.log("\(report.adopted.packCount) packs that no index knew were indexed again")
        }
        return report.found
    }

    private func showing<Value>(_ body: (Progress) throws -> Value) throws -> Value {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        return try body(progress)
    }
}

extension VerifyOperation.Findings {
    /// Whether no problem was found.
    package var isWhole: Bool {
        switch self {
        case .image: true
        case .repository(let report): report.isWhole
        }
    }
}
