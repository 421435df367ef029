// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel

/// A chunk of data of a snapshot, and the places of its content.
struct SnapshotChunk {
    typealias Report = @Sendable (String, UInt64, ByteRange?) -> ImageError

    let record: ChunkRecord
    /// Whole packs first; never empty.
    private let places: [BlobSource.Found]
    private let first: BlobSource.Found

    /// Looks up the content of the chunk at `range`.
    /// - Parameter position: the place in the snapshot, for messages.
    init(
        _ id: ContentHash, _ range: ByteRange, region: Int, in blobs: BlobSource, position: UInt64, _ report: Report
    ) throws(ImageError) {
        let all: [BlobSource.Found]
        do { all = try blobs.places(id, .data) } catch {
            if case .system = error { throw error }
            throw report("\(error)", position, range)
        }
        guard let first = all.first else { throw report("no pack has the chunk \(id)", position, range) }
        places = all.filter {
            UInt64($0.location.contentByteCount) == range.byteCount && $0.location.storedByteCount > 0
                && Int($0.location.storedByteCount) <= ChunkCoding.bound(Int(range.byteCount))
        }
        guard let found = places.first else {
            throw report("a chunk's length in \(first.pack.path)", UInt64(first.location.offset), range)
        }
        self.first = found
        record = ChunkRecord(
            kind: .data, region: region, range: range, storedByteCount: Int(found.location.storedByteCount), hash: id)
    }

    /// The offset of the content in its pack.
    var position: UInt64 { UInt64(first.location.offset) }

    /// A closure that reads the stored bytes of the first place.
    func fetch(_ report: @escaping Report) -> StoredFetch {
        let (pack, location, range) = (first.pack, first.location, record.range)
        return { (buffer) throws(ImageError) in
            do { unsafe try pack.read(location, into: buffer) } catch {
                throw report("\(error)", UInt64(location.offset), range)
            }
        }
    }

    /// A closure that reads the content from the other places.
    func otherCopies(_ repository: Repository, _ coding: ChunkCoding) -> OtherCopies? {
        guard let id = record.hash, places.count > 1 else { return nil }
        return { [places, first] content in
            guard let decoder = try? ChunkDecoder(coding) else { return false }
            for place in places.dropFirst() {
                guard let stored = try? place.pack.stored(place.location) else { continue }
                let isWhole = unsafe stored.withUnsafeBytes {
                    unsafe (try? decoder.decode($0, id: id, into: content)) != nil
                }
                guard isWhole else { continue }
                repository.noteDamagedCopy(first, insteadUsing: place)
                return true
            }
            return false
        }
    }
}
