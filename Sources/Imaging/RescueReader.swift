// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Reads a failing disk: a sector that stays unreadable after some attempts reads as zeros, and is recorded.
package final class RescueReader: BlockReader {
    private struct State {
        var unreadable: AllocationMap
        var noteCount = 0
        /// The first and the last place that could be read: if one of them can be read again, the disk still answers.
        var goodPlaces: [UInt64] = []

        mutating func noteGood(_ place: UInt64) {
            if goodPlaces.count < 2 { goodPlaces.append(place) } else { goodPlaces[1] = place }
        }
    }
    private let base: any BlockReader
    private let sectors: any BlockReader
    private let retryCount: Int
    private let rangeLimit: Int
    private let cancellation: Cancellation
    private let note: @Sendable (String) -> Void
    private let state: Monitor<State>
    /// The limit of notes; the record has all ranges anyway.
    private static let noteLimit = 100

    /// Reads around the errors of `base`.
    /// - Parameters:
    ///   - sectors: the reader of single sectors after a larger read has failed (`DirectReader`); `nil` for `base`.
    ///   - retryCount: the number of retries for a failed sector.
    ///   - rangeLimit: the number of separate unreadable ranges after which the rescue fails.
    ///   - cancellation: ends the retries.
    ///   - note: receives a sentence on each unreadable range, on the reading thread.
    package init(
        _ base: any BlockReader, sectors: (any BlockReader)? = nil, retryCount: Int = 2, rangeLimit: Int = 1 << 16,
        cancellation: Cancellation = Cancellation(), note: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.base = base
        self.sectors = sectors ?? base
        self.retryCount = max(0, retryCount)
        self.rangeLimit = max(1, rangeLimit)
        self.cancellation = cancellation
        self.note = note
        state = Monitor(State(unreadable: AllocationMap(byteCount: base.byteCount)))
    }

    /// The length in bytes.
    package var byteCount: UInt64 { base.byteCount }
    /// The unit that the disk addresses, in bytes.
    package var logicalSectorSize: Int { base.logicalSectorSize }
    /// The disk's name.
    package var name: String { base.name }

    /// The unreadable ranges so far: whole logical sectors of requested ranges, ascending, with neighbours joined.
    package var unreadable: AllocationMap { state.update { $0.unreadable } }

    /// Fills all of `buffer` from `offset` on, with zeros for unreadable sectors.
    /// - Throws: errors other than damage of the medium: a range past the end, a disk that is gone, an interruption,
    ///   more damage than can be recorded.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard let wanted = ByteRange(offset: offset, byteCount: UInt64(buffer.count)), wanted.upperBound <= byteCount
        else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        guard !wanted.isEmpty else { return }
        // A sector that was given up stays zero: all reads agree, and a dying disk is spared further attempts.
        let known = state.update { $0.unreadable.ranges(in: wanted) }
        if known.isEmpty, try readAtOnce(base, wanted, buffer, offset) {
            state.update { $0.noteGood(offset) }
            return
        }
        var read = Reading(buffer: buffer, offset: offset)
        var position = wanted.lowerBound
        for range in known {
            try narrow(position..<range.lowerBound, &read)
            read.fill(range)
            position = range.upperBound
        }
        try narrow(position..<wanted.upperBound, &read)
        try record(read)
    }

    /// The buffer of one call, and its unreadable ranges.
    private struct Reading {
        let buffer: UnsafeMutableRawBufferPointer
        let offset: UInt64
        /// Ascending, with neighbours joined.
        var missing: [ByteRange] = []
        var lastError: BlockIOError?

        init(buffer: UnsafeMutableRawBufferPointer, offset: UInt64) {
            self.buffer = buffer
            self.offset = offset
        }

        func part(_ range: ByteRange) -> UnsafeMutableRawBufferPointer {
            UnsafeMutableRawBufferPointer(
                rebasing: buffer[Int(range.lowerBound - offset)..<Int(range.upperBound - offset)])
        }

        func fill(_ range: ByteRange) { part(range).initializeMemory(as: UInt8.self, repeating: 0) }

        mutating func giveUp(_ range: ByteRange, of sector: ByteRange, _ error: BlockIOError) {
            fill(range)
            lastError = error
            if let last = missing.last, last.upperBound == sector.lowerBound {
                missing[missing.count - 1] = last.lowerBound..<sector.upperBound
            } else {
                missing.append(sector)
            }
        }
    }

    /// Reads a range in one call; `false` if the medium is damaged there.
    private func readAtOnce(
        _ reader: any BlockReader, _ range: ByteRange, _ buffer: UnsafeMutableRawBufferPointer, _ start: UInt64
    ) throws(BlockIOError) -> Bool {
        do {
            try reader.read(
                into: UnsafeMutableRawBufferPointer(
                    rebasing: buffer[Int(range.lowerBound - start)..<Int(range.upperBound - start)]),
                at: range.lowerBound)
            return true
        } catch {
            guard Self.isDamage(error) else { throw error }
            return false
        }
    }

    /// Halves a range, on sector boundaries, until a part can be read or is one sector.
    private func narrow(_ range: ByteRange, _ read: inout Reading) throws(BlockIOError) {
        guard !range.isEmpty else { return }
        try checkCancellation(range)
        let size = UInt64(max(1, logicalSectorSize))
        let first = range.lowerBound / size
        let end = (range.upperBound - 1) / size + 1
        if end - first == 1 { return try readSector(range, first * size..<min(end * size, byteCount), &read) }
        if try readAtOnce(sectors, range, read.buffer, read.offset) {
            state.update { $0.noteGood(range.lowerBound) }
            return
        }
        let middle = (first + (end - first) / 2) * size
        try narrow(range.lowerBound..<middle, &read)
        try narrow(middle..<range.upperBound, &read)
    }

    private func checkCancellation(_ range: ByteRange) throws(BlockIOError) {
        guard cancellation.isRequested else { return }
        throw BlockIOError(
            .read, name: name, offset: range.lowerBound, byteCount: range.byteCount,
            errorNumber: Errno.interrupted.rawValue, reason: cancellation.name)
    }

    /// Reads one sector in several attempts, the last one through the cache, where another read may have left it.
    private func readSector(_ range: ByteRange, _ sector: ByteRange, _ read: inout Reading) throws(BlockIOError) {
        for attempt in 0...retryCount {
            do {
                try (attempt == retryCount && attempt > 0 ? base : sectors).read(
                    into: read.part(range), at: range.lowerBound)
                state.update { $0.noteGood(range.lowerBound) }
                return
            } catch {
                guard Self.isDamage(error) else { throw error }
                // No sector of a disk that is gone is damaged.
                try checkCancellation(range)
                guard attempt == retryCount else { continue }
                if read.missing.isEmpty { try checkPresence(error) }
                read.giveUp(range, of: sector, error)
            }
        }
    }

    /// Fails if the disk is gone: a disk that fell off its bus gives the same error as a bad sector, but then a sector
    /// that was read before fails, too.
    private func checkPresence(_ error: BlockIOError) throws(BlockIOError) {
        let places = state.update { $0.goodPlaces }
        guard let place = places.last else { return }
        for attempt in 0...retryCount {
            if places.contains(where: { (try? sectors.readBytes(at: $0, count: 1)) != nil }) { return }
            if attempt < retryCount { SystemFacts.sleep(seconds: 0.5, unless: cancellation) }
        }
        throw BlockIOError(
            .read, name: name, offset: error.offset, byteCount: error.byteCount, errorNumber: error.errorNumber,
            reason:
                "\(error.reason), and so does byte \(place), which could be read a moment ago: the disk no longer answers"
        )
    }

    private func record(_ read: Reading) throws(BlockIOError) {
        guard let error = read.lastError else { return }
        let (count, notesLeft) = state.update { state in
            for range in read.missing { state.unreadable.insert(range) }
            let left = max(0, Self.noteLimit - state.noteCount)
            state.noteCount += min(left, read.missing.count)
            return (state.unreadable.ranges.count, left)
        }
        for range in read.missing.prefix(notesLeft) {
            note(
                "could not read \(ByteText.exact(range.byteCount)) at byte \(range.lowerBound) of \(name): \(error.reason). They become zeros."
            )
        }
        if notesLeft > 0, read.missing.count >= notesLeft {
            note("\(Self.noteLimit) ranges are unreadable so far; further ones are recorded, and not listed here.")
        }
        guard count <= rangeLimit else {
            throw BlockIOError(
                .read, name: name, offset: error.offset, byteCount: error.byteCount, errorNumber: error.errorNumber,
                reason:
                    "more than \(rangeLimit) separate ranges are unreadable: this disk needs a data recovery service")
        }
    }

    /// Whether an error means damage of the medium at that place, and not a lost disk or an invalid request.
    static func isDamage(_ error: BlockIOError) -> Bool {
        // The block layer's errors for damage (errno of blk_status_t): EIO, ENODATA (medium), EILSEQ (protection),
        // EREMOTEIO (target), ETIMEDOUT. ENODEV, ENXIO and ENOLINK mean a disk that is gone.
        let damage: [Errno] = [.ioError, .noData, .illegalByteSequence, Errno(rawValue: 121), .timedOut]
        return damage.contains(Errno(rawValue: error.errorNumber))
    }
}

extension DiskSurvey {
    /// Takes volumes with unreadable ranges whole, after a survey through a `RescueReader`: the lost part of an
    /// allocation structure would look free.
    /// - Parameter unreadable: the ranges that could not be read during the survey.
    package func takingWhole(unreadable: AllocationMap) -> DiskSurvey {
        var survey = self
        for index in survey.volumes.indices {
            let volume = survey.volumes[index]
            guard volume.filesystem.mapSource != .whole, !unreadable.ranges(in: volume.range).isEmpty else { continue }
            let reason = "its allocation structures could not all be read"
            survey.volumes[index].filesystem.mapSource = .whole
            survey.volumes[index].filesystem.wholeReason = reason
            survey.volumes[index].allocation = .whole(byteCount: volume.range.byteCount)
            let name = volume.partition.map { "partition \($0.number)" } ?? "the disk"
            survey.warnings.append("\(name): all of this \(volume.filesystem.kindName) counts as used: \(reason)")
        }
        return survey
    }
}
