// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// Writes the data of an image to a target: reads its records in order, and passes them to a crew.
struct RestorePipeline {
    private let setup: RestoreSetup
    private let image: any ImageReader
    /// The position that an interrupted run of the same plan reached; `nil` for a restore from the start.
    private let resumedFrom: UInt64?
    /// The regions of the image on the target; `nil` for skipped ones.
    private let regions: [PlacedRegion?]

    /// The result of the run.
    struct Done {
        /// The hashes to compare the target with; `nil` without `--verify`.
        var written: WrittenChunks?
        var writtenByteCount: UInt64
        /// Warnings for a person.
        var warnings: [String]
    }

    private var manifest: Manifest { image.header.manifest }

    init(_ setup: RestoreSetup, _ image: any ImageReader, resumedFrom: UInt64?) {
        self.setup = setup
        self.image = image
        self.resumedFrom = resumedFrom
        regions = zip(setup.plan.destinations, image.header.maps).map { destination, map in
            PlacedRegion(destination, byteCount: map.byteCount, on: setup.writer)
        }
    }

    /// Writes all data, and records the progress in the target's journal from time to time.
    func run(noting target: inout UnfinishedTarget) throws -> Done {
        let crew = try RestoreCrew(setup, image)
        setup.progress.begin("restore", total: manifest.usedByteCount)
        var isDone = false
        // After a failure, the journal gets the position reached: the threads have ended by then.
        defer { if !isDone { try? target.advance(to: crew.position) } }
        defer { crew.cancel() }
        try crew.start()
        var written =
            setup.options.verify
            ? WrittenChunks(image.header, setup.plan.destinations, identity: image.coding.identity) : nil
        try feed(crew, &written, &target)
        try crew.finish()
        let warnings = try checkEnding()
        written?.finish()
        isDone = true
        return Done(written: written, writtenByteCount: crew.writtenByteCount, warnings: warnings)
    }

    private func feed(
        _ crew: RestoreCrew, _ written: inout WrittenChunks?, _ target: inout UnfinishedTarget
    ) throws {
        var ordinal = 0
        var lastNote = SystemFacts.monotonicSeconds()
        while let record = try image.nextRecord() {
            try crew.check()
            try setup.cancellation.check()
            guard var job = makeJob(for: record, ordinal: ordinal) else { continue }
            written?.add(record, used: job.used)
            if record.kind == .data {
                guard let buffer = crew.takeBuffer() else { break }
                try load(record, into: buffer, for: &job)
            }
            guard crew.push(job) else { break }
            ordinal += 1
            if SystemFacts.monotonicSeconds() - lastNote > 5 {
                try target.advance(to: crew.position)
                lastNote = SystemFacts.monotonicSeconds()
            }
        }
    }

    /// The job for a record: its place, and its used bytes; `nil` if nothing is written.
    private func makeJob(for record: ChunkRecord, ordinal: Int) -> RestoreWorker.Job? {
        guard let region = regions[record.region], record.kind != .unused else { return nil }
        let start = record.range.lowerBound - manifest.regions[record.region].range.lowerBound
        let used = image.header.maps[record.region].ranges(in: start..<start + record.range.byteCount)
            .map { $0.lowerBound - start..<$0.upperBound - start }
        // The data that an interrupted run of the same plan wrote should be there, except for the held-back part. It is
        // compared, not trusted: the disk may have changed since.
        let isExpected =
            setup.options.delta || record.kind == .data && record.range.upperBound <= (resumedFrom ?? 0)
        return RestoreWorker.Job(
            ordinal: ordinal, record: record, fileOffset: image.position, buffer: nil, fetch: nil,
            region: region, start: start, used: used, isExpected: isExpected)
    }

    /// Reads the stored data of a record, or lets the crew read it.
    private func load(_ record: ChunkRecord, into buffer: ChunkBuffer, for job: inout RestoreWorker.Job)
        throws(ImageError)
    {
        job.buffer = buffer
        job.fetch = image.storedFetch()
        job.otherCopies = image.otherCopies()
        guard job.fetch == nil else { return }
        try image.readStored(
            into: UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<record.storedByteCount]))
    }

    /// Fails if the image was not read to its end, or is not the expected one: the id of a stream is known only at its
    /// end, and nothing is committed yet.
    /// - Returns: warnings from the late facts.
    private func checkEnding() throws -> [String] {
        guard image.ending != nil || image.salvage != nil else {
            throw ImagingError.failed("the image was not read to its end")
        }
        if let id = setup.expectedImageID {
            guard let ending = image.ending else {
                throw image.damageReporter(
                    "its end is lost, and with it the id that should be \(id)", image.position, nil)
            }
            guard ending.id.description.hasPrefix(id.lowercased()) else {
                throw image.damageReporter("it has the id \(ending.id), not \(id)", image.position, nil)
            }
        }
        var warnings = manifest.unreadableTexts(image.ending?.lateFacts.unreadable ?? [])
        if image.ending == nil {
            warnings.append(
                "the end of the image is lost: it would list ranges that could not be read when it was captured")
        }
        return warnings
    }
}
