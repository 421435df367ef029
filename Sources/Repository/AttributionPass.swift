// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// The third pass of verify: attributes each damaged or missing content to byte ranges of the disks that need it.
struct AttributionPass {
    private let repository: Repository
    private let structure: VerifiedStructure
    private let isSelection: Bool

    /// - Parameter isSelection: whether only selected snapshots were verified.
    init(_ repository: Repository, _ structure: VerifiedStructure, isSelection: Bool) {
        self.repository = repository
        self.structure = structure
        self.isSelection = isSelection
    }

    /// - Parameter contents: entries that no index lists any more are removed from `damaged`.
    func run(_ contents: inout DamagedContents, _ report: inout VerifyReport) {
        let (indexes, references) = (structure.indexes, structure.references)
        // What repair removed from the indexes is still in its pack, and does no harm there.
        var places = contents.damaged.merging(contents.unread) { damaged, _ in damaged }
        var quarantinedCount = 0
        for entry in places.keys where structure.indexedPacks.contains(entry.location.pack) {
            let isIndexed = (try? indexes.hits(entry.key))?.contains { $0.hit.entry == entry } ?? true
            if isIndexed { continue }
            places[entry] = nil
            contents.damaged[entry] = nil
            quarantinedCount += 1
        }
        if quarantinedCount > 0 {
            report.notes.append(
                "\(quarantinedCount) damaged contents are in packs, but in no index: nothing relies on them")
        }
        var bad: [BlobKey: String] = [:]
        var whole: Set<BlobKey> = []
        for (entry, what) in places {
            // Another copy may be good: an unread copy counts as good, and the damage is reported in any case.
            let others = ((try? indexes.hits(entry.key)) ?? []).map(\.hit.entry).filter {
                $0 != entry && places[$0] == nil
            }
            if others.isEmpty { bad[entry.key] = what } else { whole.insert(entry.key) }
        }
        for (entry, what) in places where whole.contains(entry.key) && bad[entry.key] == nil {
            report.add("\(what); an intact copy exists")
        }
        for key in references.missing where bad[key] == nil { bad[key] = "no pack has the content \(key.id)" }
        if references.missingCount > references.missing.count {
            report.add("\(references.missingCount) contents are in no pack; only some of them are listed")
        }
        guard !bad.isEmpty else { return }
        var used: Set<BlobKey> = []
        for id in structure.snapshots {
            guard let snapshot = try? repository.snapshot(id) else { continue }
            for (index, region) in snapshot.manifest.regions.enumerated() {
                attribute(bad, &used, snapshot, region, snapshot.regions[index], &report)
            }
        }
        for (key, what) in bad where !used.contains(key) {
            report.add("\(what); no snapshot\(isSelection ? " of these" : "") needs it")
        }
    }

    private func attribute(
        _ bad: [BlobKey: String], _ used: inout Set<BlobKey>, _ snapshot: Snapshot, _ region: Manifest.Region,
        _ pieces: Snapshot.RegionPieces, _ report: inout VerifyReport
    ) {
        let chunk = UInt64(snapshot.manifest.chunkByteCount)
        func problem(_ span: ByteRange, _ what: String) {
            report.add(
                .init(
                    snapshot: snapshot.info.id, partition: region.partition,
                    disk: span.shifted(up: region.range.lowerBound), what: what))
        }
        for (number, id) in pieces.lists.enumerated() {
            let span = Snapshot.span(ofPiece: number, region, Int(chunk))
            for (key, name) in [
                (BlobKey(id, .list), "the list of chunks"),
                (BlobKey(number < pieces.maps.count ? pieces.maps[number] : id, .map), "the allocation map"),
            ] {
                guard let what = bad[key] else { continue }
                used.insert(key)
                if !structure.unreadablePieces.contains(key) { problem(span, "\(name): \(what)") }
            }
            guard let list = try? structure.references.list(id, snapshot, region, piece: number) else { continue }
            var position = span.lowerBound
            for entry in list.entries {
                switch entry {
                case .run(_, let count): position += count * chunk
                case .data(let id):
                    let range = position..<min(span.upperBound, position + chunk)
                    position = range.upperBound
                    let key = BlobKey(id, .data)
                    if let what = bad[key] {
                        used.insert(key)
                        problem(range, what)
                    }
                }
            }
        }
    }
}
