// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// A step that protects one restored volume from an older life of its place, before the commit.
struct OlderLifeStep: Equatable {
    /// The kind of step.
    enum Cure: Equatable {
        /// The log of the XFS gets a newer cycle.
        case newerLog
        /// The unused ranges of the volume are zeroed.
        case clear
    }

    /// The region of the image with the volume.
    var region: Int
    /// The name for messages: `partition 2`, `vg/home in partition 2`.
    var name: String
    var cure: Cure
    /// The pieces of the volume in the region, in the order of the volume, in bytes; the whole region if they are
    /// unknown.
    var pieces: [ByteRange]

    /// The steps for all restored regions.
    /// - Parameter isRestored: whether the region with that index is restored.
    static func steps(_ header: ImageHeader, isRestored: (Int) -> Bool) -> [OlderLifeStep] {
        var steps: [OlderLifeStep] = []
        for (index, (region, map)) in zip(header.manifest.regions, header.maps).enumerated() {
            // A region that is written completely keeps nothing older.
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

    /// - Parameter isPlain: whether the volume's bytes are written unencrypted and in one place only: not inside LUKS,
    ///   and not on a mirror of an array, whose members must stay equal.
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

    /// Maps parts of a container to the container's own pieces; `nil` if they are not inside it.
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
