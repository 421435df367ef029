// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import ImageModel
import SystemPackage

/// Collects the parts of a disk, and checks that they fit together.
struct ForeignDiskBuilder {
    let folder: ForeignFolder
    var disk: ForeignDisk

    init(_ folder: ForeignFolder, format: String, geometry: DiskGeometry, identity: DiskIdentity) {
        self.folder = folder
        disk = ForeignDisk(name: folder.path.string, format: format, geometry: geometry, identity: identity)
    }

    mutating func warn(_ text: String) {
        if !disk.warnings.contains(text) { disk.warnings.append(text) }
    }

    mutating func add(_ label: String, _ segments: [ByteRange], _ content: ForeignContent) {
        disk.parts.append(ForeignPart(label: label, segments: segments, content: content))
        if case .missing(let reason) = content { warn("\(label) is missing: \(reason)") }
    }

    /// A physical volume of LVM whose logical volumes were saved one by one.
    /// - Parameters:
    ///   - text: the backup of its group's metadata.
    ///   - content: what the folder has of a logical volume, given the names of its group and its own.
    mutating func addPhysicalVolume(
        _ label: String, at range: ByteRange, id: String, text: [UInt8],
        content: (String, String) throws(ImageError) -> ForeignContent
    ) throws(ImageError) {
        let backup: LVMBackup
        do { backup = try LVMBackup(text: text, id: id, byteCount: range.byteCount) } catch {
            let why = if case .damaged(let what) = error { what } else { error.description }
            add(label, [range], .missing(reason: "its physical volume cannot be made from the saved metadata: \(why)"))
            return
        }
        func place(_ ranges: [ByteRange]) throws(ImageError) -> [ByteRange] {
            var placed: [ByteRange] = []
            for part in ranges {
                guard let moved = part.shifted(up: range.lowerBound), range.covers(moved) else {
                    throw folder.refusal("the volume group \(backup.groupName) is longer than \(label)")
                }
                placed.append(moved)
            }
            return placed
        }
        disk.fixed.append(ForeignBytes(offset: range.lowerBound, bytes: backup.head))
        var reasons: [String] = []
        for volume in backup.volumes {
            let name = "\(backup.groupName)/\(volume.name)"
            if let obstacle = volume.obstacle {
                reasons.append("\(name): \(obstacle)")
            } else {
                add(name, try place(volume.places), try content(backup.groupName, volume.name))
            }
        }
        if !backup.closedPlaces.isEmpty || !reasons.isEmpty {
            let what = reasons.isEmpty ? ["its volumes serve others"] : reasons
            let reason =
                "only linear logical volumes that lie on this disk alone are taken (\(what.joined(separator: "; ")))"
            let places = try place(backup.closedPlaces)
            if places.isEmpty {
                warn("\(label) is not complete: \(reason)")
            } else {
                add("the other volumes of \(backup.groupName)", places, .missing(reason: reason))
            }
        }
    }

    /// The disk, with everything in order and disjoint.
    consuming func finish() throws(ImageError) -> ForeignDisk {
        var disk = self.disk
        disk.parts.removeAll { $0.segments.isEmpty }
        disk.parts.sort { $0.segments[0].lowerBound < $1.segments[0].lowerBound }
        disk.fixed.removeAll { $0.bytes.isEmpty }
        disk.fixed.sort { $0.offset < $1.offset }
        var places: [(range: ByteRange, label: String)] = []
        for piece in disk.fixed {
            guard let range = ByteRange(offset: piece.offset, byteCount: UInt64(piece.bytes.count)) else {
                throw folder.refusal("it has metadata that lies behind any disk")
            }
            places.append((range, "metadata"))
        }
        for part in disk.parts { places += part.segments.map { ($0, part.label) } }
        places.sort { $0.range.lowerBound < $1.range.lowerBound }
        var end: UInt64 = 0
        var before = ""
        for place in places {
            guard place.range.lowerBound >= end else {
                throw folder.refusal(
                    "its parts overlap on the disk (\(before), \(place.label)): its lists of partitions are damaged")
            }
            (end, before) = (place.range.upperBound, place.label)
        }
        guard end <= disk.geometry.byteCount else {
            throw folder.refusal("\(before) ends behind the end of the disk: its lists of partitions are damaged")
        }
        disk.files = folder.used
        return disk
    }
}
