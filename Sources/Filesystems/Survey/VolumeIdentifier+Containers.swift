// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension VolumeIdentifier {
    /// The depth limit of nested containers: md, LUKS, LVM, and one more.
    static let deepest = 4
    /// The limit of recorded pieces of a volume.
    private static let mostNotedPlaces = 64
    /// The limit of surveyed volumes inside containers, in total.
    static let mostInnerVolumes = 4096

    /// The map of a container: the ranges that it always uses, and the used ranges of its volumes, at their places.
    static func contents(
        of container: Container, _ volume: any BlockReader, _ opinion: SecondOpinion?, depth: Int,
        volumesLeft: inout Int, trustMaps: Bool = false, _ unlocker: LUKSUnlocker?
    ) -> VolumeContents {
        var info = container.filesystem
        guard container.inner.count <= volumesLeft else {
            return (
                info.takenWhole(because: "there are too many volumes inside"), .whole(byteCount: volume.byteCount)
            )
        }
        volumesLeft -= container.inner.count
        if info.wholeReason != nil {
            info.inner = container.inner.isEmpty ? nil : container.inner.map(Self.closed)
            return (info, .whole(byteCount: volume.byteCount))
        }
        info.mapSource = .allocationStructures
        var used = UsedPlaces(byteCount: volume.byteCount)
        container.alwaysUsed.forEach { used.add($0) }
        var inner: [FilesystemInfo.InnerVolume] = []
        for place in container.inner {
            guard case .segments(let segments) = place.contents else {
                inner.append(closed(place))
                continue
            }
            let joined = SegmentedReader(volume, name: "\(place.name) on \(volume.name)", segments: segments)
            guard let joined, joined.byteCount == place.byteCount else {
                return (
                    info.takenWhole(because: "the parts of \(place.name) do not join"),
                    .whole(byteCount: volume.byteCount)
                )
            }
            let own = segments.count == 1 && place.reader == nil ? segments.first?.place.lowerBound : nil
            let (filesystem, map) = innerContents(
                of: place.reader ?? joined, place.opinion ?? own.flatMap { start in opinion?.shifted(up: start) },
                depth, &volumesLeft, trustMaps, unlocker)
            // A volume that was made shorter than its filesystem: the rest of that may still be at its old place.
            if !trustMaps, let length = filesystem.byteCount, length > place.byteCount,
                !containers.contains(where: { $0.kindNames.contains(filesystem.kindName) })
            {
                info.inner = container.inner.map(Self.closed)
                return (
                    info.takenWhole(
                        because: "\(place.name) is shorter than the \(filesystem.kindName) on it, whose end may be in "
                            + "space that counts as free"), .whole(byteCount: volume.byteCount)
                )
            }
            segments.forEachPlace(of: map.widened(toMultiplesOf: place.unit).ranges) { used.add($0) }
            inner.append(
                FilesystemInfo.InnerVolume(
                    name: place.name, byteCount: place.byteCount, filesystem: filesystem,
                    usedByteCount: map.usedByteCount,
                    places: segments.count <= mostNotedPlaces ? segments.map(\.place) : nil))
        }
        info.inner = inner
        info.leastByteCount = VolumeGroupLayout(info)?.leastByteCount
        return (info, used.map())
    }

    /// A volume that cannot be read counts as used; its neighbours are unaffected.
    private static func innerContents(
        of inner: any BlockReader, _ opinion: SecondOpinion?, _ depth: Int, _ volumesLeft: inout Int,
        _ trustMaps: Bool, _ unlocker: LUKSUnlocker?
    ) -> VolumeContents {
        let whole = AllocationMap.whole(byteCount: inner.byteCount)
        func unknown(_ reason: String) -> VolumeContents {
            (FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason), whole)
        }
        do throws(BlockIOError) {
            // The disk of a virtual machine: a signature of an earlier filesystem behind its table is meaningless.
            if let table = try PartitionTableReader.tableName(inner) {
                return unknown("it holds a partition table (\(table))")
            }
            let (info, map) = try survey(
                inner, secondOpinion: opinion, depth: depth + 1, volumesLeft: &volumesLeft, trustMaps: trustMaps,
                unlocker)
            guard info.kind == .swap, !info.remarks.isEmpty else { return (info, map) }
            // The header that resumes a hibernated system is replaced only where swap has its own partition; with the
            // header alone, the restored system would resume from missing pages.
            var suspended = info.takenWhole(because: "it holds a hibernation image")
            suspended.remarks = []
            return (suspended, whole)
        } catch {
            return unknown(error.description)
        }
    }

    private static func closed(_ place: InnerPlace) -> FilesystemInfo.InnerVolume {
        let reason =
            switch place.contents {
            case .closed(let reason): reason
            case .segments: "its whole container counts as used"
            }
        let info = FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason)
        return FilesystemInfo.InnerVolume(name: place.name, byteCount: place.byteCount, filesystem: info)
    }

    /// Collects used ranges in any order, in bounded memory.
    private struct UsedPlaces {
        private var gathered: AllocationMap
        private var waiting: [ByteRange] = []
        private static let limit = RangeAccumulator.standardLimit

        init(byteCount: UInt64) { gathered = AllocationMap(byteCount: byteCount) }

        mutating func add(_ range: ByteRange) {
            waiting.append(range)
            if waiting.count >= Self.limit { merge() }
        }

        private mutating func merge() {
            let all = gathered.ranges + waiting
            waiting.removeAll(keepingCapacity: true)
            gathered = AllocationMap(byteCount: gathered.byteCount, unsorted: all).coalesced(toAtMost: Self.limit)
        }

        mutating func map() -> AllocationMap {
            merge()
            return gathered
        }
    }
}
