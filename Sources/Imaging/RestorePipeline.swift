// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// Writes the data of an image to a target: reads its records in their order, and hands them to a crew.
struct RestorePipeline {
    private let setup: RestoreSetup
    private let image: any ImageReader
    /// How far an interrupted run of the same plan was; `nil` where the restore starts from the front.
    private let resumedFrom: UInt64?
    /// The regions of the image on the target; `nil` for what is skipped.
    private let regions: [PlacedRegion?]

    /// What was done.
    struct Done {
        /// What the target is to be compared with; `nil` where it is not.
        var written: WrittenChunks?
        var writtenByteCount: UInt64
        /// What a person should know.
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

    /// Writes everything, noting on the target from time to time how far it is.
    func run(noting target: inout UnfinishedTarget) throws -> Done {
        let crew = try RestoreCrew(setup, image)
        setup.progress.begin("restore", total: manifest.usedByteCount)
        var isDone = false
        // Where it fails, the journal says how far it really was: the threads have ended by then.
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

    /// Where a record goes, and which of its bytes; `nil` where none is written.
    private func makeJob(for record: ChunkRecord, ordinal: Int) -> RestoreWorker.Job? {
        guard let region = regions[record.region], record.kind != .unused else { return nil }
        let start = record.range.lowerBound - manifest.regions[record.region].range.lowerBound
        let used = image.header.maps[record.region].ranges(in: start..<start + record.range.byteCount)
            .map { $0.lowerBound - start..<$0.upperBound - start }
        // What an interrupted run of the same plan wrote should be there, but for what it held back. The journal is not
        // believed: the disk may have been used since.
        let isExpected =
            setup.options.delta || record.kind == .data && record.range.upperBound <= (resumedFrom ?? 0)
        return RestoreWorker.Job(
            ordinal: ordinal, record: record, fileOffset: image.position, buffer: nil, fetch: nil,
            region: region, start: start, used: used, isExpected: isExpected)
    }

    /// Reads what is stored for a record, or has the crew read it.
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

    /// Fails where the image was not read to its end, or is another one than asked for: a stream tells its id only at the
    /// end, and nothing was committed yet.
    /// - Returns: what a person should know of what the end says.
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
