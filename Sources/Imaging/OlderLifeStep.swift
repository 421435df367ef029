// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// What one restored volume needs done about an older life of its place, before the commit.
struct OlderLifeStep: Equatable {
    /// What is done.
    enum Cure: Equatable {
        /// The volume's log, an XFS's, gets a newer cycle.
        case newerLog
        /// Its unused ranges are made zero.
        case clear
    }

    /// The region of the image that holds it.
    var region: Int
    /// For a person: `partition 2`, `vg/home in partition 2`.
    var name: String
    var cure: Cure
    /// Where it lies in the region, in the order of the volume, in bytes; all of the region where that is not known.
    var pieces: [ByteRange]

    /// The steps for everything that is restored.
    /// - Parameter isRestored: whether the region with that index is.
    static func steps(_ header: ImageHeader, isRestored: (Int) -> Bool) -> [OlderLifeStep] {
        var steps: [OlderLifeStep] = []
        for (index, (region, map)) in zip(header.manifest.regions, header.maps).enumerated() {
            // Of what was copied whole, nothing older is left.
            guard isRestored(index), let filesystem = region.filesystem, map.usedByteCount < map.byteCount else {
                continue
            }
            let name = region.partition.map { "partition \($0)" } ?? "the disk"
            add(
                filesystem, name, OlderLifeStep(region: index, name: name, cure: .clear, pieces: []),
                [0..<map.byteCount],
                map, isPlain: true, &steps)
        }
        return steps
    }

    /// - Parameter isPlain: whether bytes of the volume are written as they are, and nowhere else too: not inside of LUKS,
    ///   and not on one of the mirrors of an array, which must stay the same.
    private static func add(
        _ filesystem: FilesystemInfo, _ name: String, _ step: OlderLifeStep, _ pieces: [ByteRange]?,
        _ map: AllocationMap, isPlain: Bool, _ steps: inout [OlderLifeStep]
    ) {
        let places = pieces ?? [0..<map.byteCount]
        switch filesystem.traits.olderLife {
        case .harmless: break
        case .newerLog, .cleared:
            guard !places.allSatisfy(map.covers) else { return }
            var step = step
            step.name = name
            step.pieces = places
            step.cure = filesystem.traits.olderLife == .newerLog && isPlain && pieces != nil ? .newerLog : .clear
            steps.append(step)
        }
        for volume in filesystem.inner ?? [] {
            let isPlain = isPlain && filesystem.kind == .lvm
            let inside = pieces.flatMap { pieces in volume.places.flatMap { join($0, inside: pieces) } }
            add(volume.filesystem, "\(volume.name) in \(step.name)", step, inside, map, isPlain: isPlain, &steps)
        }
    }

    /// Parts of a container as parts of what the container lies in; `nil` where they are not inside of it.
    private static func join(_ parts: [ByteRange], inside pieces: [ByteRange]) -> [ByteRange]? {
        var joined: [ByteRange] = []
        for part in parts {
            var position: UInt64 = 0
            var found: UInt64 = 0
            for piece in pieces {
                let inside = part.clamped(to: position..<position + piece.byteCount)
                if !inside.isEmpty {
                    let start = piece.lowerBound + (inside.lowerBound - position)
                    joined.append(start..<start + inside.byteCount)
                    found += inside.byteCount
                }
                position += piece.byteCount
            }
            guard found == part.byteCount else { return nil }
        }
        return joined
    }
}
