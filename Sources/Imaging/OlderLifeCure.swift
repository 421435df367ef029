// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import ImageModel
import LinuxSystem

/// Makes restored volumes independent of data that older lives of the same filesystems left in their unused blocks.
struct OlderLifeCure {
    private let steps: [OlderLifeStep]
    private let plan: RestorePlan
    private let header: ImageHeader
    private let writer: TargetWriter
    private let progress: Progress
    private let cancellation: Cancellation
    private let log: (String) -> Void
    /// For each step, the log cycle of the XFS that the target held at the same place.
    private let cycles: [UInt32?]

    /// Reads the log cycles on the target, before anything is written to it.
    init(
        _ header: ImageHeader, _ plan: RestorePlan, _ writer: TargetWriter, _ progress: Progress,
        _ cancellation: Cancellation, log: @escaping (String) -> Void = { _ in }
    ) {
        self.header = header
        self.plan = plan
        self.writer = writer
        self.progress = progress
        self.cancellation = cancellation
        self.log = log
        steps = plan.olderLifeSteps(header)
        cycles = steps.map { step in
            guard step.cure == .newerLog, case .disk(let start) = plan.destinations[step.region] else { return nil }
            return PlacedVolume(writer.target, start: start, pieces: step.pieces).flatMap(XFSRestoredLog.cycle(on:))
        }
    }

    /// Performs the steps, once all data is in its place.
    /// - Parameters:
    ///   - unixSeconds: the time by this machine's clock.
    ///   - checksFirst: whether unused ranges are read first, and written only if they are not zero.
    ///   - holed: regions with lost ranges: their logs are not changed, only unused space is cleared.
    func run(
        unixSeconds: Int64, checksFirst: Bool, holed: Set<Int> = [], _ changes: inout TargetChanges,
        _ warnings: inout [String]
    ) throws {
        for (step, older) in zip(steps, cycles) {
            if step.cure == .newerLog, !holed.contains(step.region),
                try renewLog(step, older: older, unixSeconds, &changes, &warnings)
            {
                continue
            }
            try clear(step, checksFirst: checksFirst)
        }
    }

    // MARK: a newer log

    /// - Returns: whether the volume needs nothing else.
    private func renewLog(
        _ step: OlderLifeStep, older: UInt32?, _ unixSeconds: Int64, _ changes: inout TargetChanges,
        _ warnings: inout [String]
    ) throws -> Bool {
        let place = PlacedRegion(
            plan.destinations[step.region], byteCount: header.maps[step.region].byteCount, on: writer)
        guard let place, let volume = PlacedVolume(place, start: 0, pieces: step.pieces) else { return false }
        if try XFSRestoredLog.isVersion4(volume) { return true }
        guard let log = try XFSRestoredLog(volume) else { return false }
        let captured = TimeText(header.manifest.started)?.unixSeconds ?? 0
        let cycle = Self.cycle(image: log.cycle, older: older, unixSeconds: unixSeconds)
        guard cycle <= XFSRestoredLog.cycleLimit else { return false }
        progress.begin("new log of \(step.name)", total: log.range.byteCount)
        try changes.change("the log of \(step.name)") {
            try log.format(cycle: cycle) { bytes, offset in
                try cancellation.check()
                try volume.write(bytes, at: offset, to: place)
                progress.advance(UInt64(bytes.count))
            }
            return try XFSRestoredLog.isClean(volume, cycle: cycle) ? .passed : .failed("its bytes differ")
        }
        self.log("the log of \(step.name) starts again in cycle \(cycle)")
        // A clock that is behind the capture does not bound the cycles of lives since then.
        guard unixSeconds >= captured else {
            warnings.append(
                "the clock of this machine is behind the image's (\(header.manifest.started)): all that is unused of "
                    + "\(step.name) was made zero")
            return false
        }
        return true
    }

    /// The cycle for a new log. It is newer than the image's, than that of the filesystem being overwritten, and than
    /// that of any life that an earlier restore started, even if its log can no longer be read: that life also began by
    /// this clock, and has not run through more than four cycles a second since. The smallest log that mkfs.xfs makes
    /// today has 64 MiB; one of 6 MiB runs through two cycles a second when files are made in memory as fast as
    /// possible.
    static func cycle(image: UInt32, older: UInt32?, unixSeconds: Int64) -> UInt32 {
        let seconds = min(max(unixSeconds, startOf2020) - startOf2020, Int64(UInt32.max))
        return max(image.next, older?.next ?? 0, UInt32(clamping: seconds * 4))
    }

    private static let startOf2020: Int64 = 1_577_836_800

    // MARK: zeros

    private func clear(_ step: OlderLifeStep, checksFirst: Bool) throws {
        let map = header.maps[step.region]
        var pieces = step.pieces
        var byteCount = map.byteCount
        if case .disk(let start) = plan.destinations[step.region],
            let growth = plan.growths.first(where: { $0.range.lowerBound == start })
        {
            // The filesystem may grow into any of the rest.
            pieces = [0..<map.byteCount]
            byteCount = max(byteCount, growth.range.byteCount)
        }
        guard let place = PlacedRegion(plan.destinations[step.region], byteCount: byteCount, on: writer) else { return }
        let unused = map.complement
        let ranges = pieces.flatMap { unused.ranges(in: $0) } + [map.byteCount..<byteCount]
        progress.begin("clear the unused space of \(step.name)", total: ranges.reduce(0) { $0 + $1.byteCount })
        // In steps, so that an interruption is possible in between.
        let length: UInt64 = checksFirst ? 1 << 20 : 256 << 20
        for range in ranges {
            var position = range.lowerBound
            while position < range.upperBound {
                try cancellation.check()
                let part = position..<min(range.upperBound, position + length)
                if !checksFirst || !place.isZero(part) { try place.clear(part) }
                progress.advance(part.byteCount)
                position = part.upperBound
            }
        }
    }
}

extension UInt32 {
    /// One more, or the largest.
    fileprivate var next: UInt32 { self == .max ? .max : self + 1 }
}
