// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import SystemAccess

/// The volumes of a disk that Windows may use, read by Reforge's own readers.
struct WindowsVolumes {
    /// A volume.
    enum Contents {
        case fat(FATVolume)
        case ntfs(NTFSVolume)
        /// It should be one of these, but cannot be read.
        case unreadable(String)
    }

    /// Paths that are looked for, at most: stores have some ten.
    private static let lookupLimit = 512

    private let disk: any BlockReader
    let volumes: [BootVolume]
    private var opened: [Int: Contents] = [:]
    private var lookups: [String: Bool] = [:]
    /// Why volumes, by their numbers, or folders of them cannot be read, as sentence parts.
    private(set) var problems: [Int: String] = [:]

    init(_ disk: any BlockReader, _ volumes: [BootVolume]) {
        self.disk = disk
        // A volume of LVM, or inside of LUKS or RAID, has the range of its partition, and Windows knows none.
        self.volumes = volumes.filter(\.isPartition)
    }

    /// The numbers of the volumes encrypted by BitLocker.
    var encrypted: [Int] { volumes.filter { $0.kindName == "BitLocker" }.map(\.number) }

    /// `nil` for a volume with another filesystem.
    mutating func contents(of volume: BootVolume) -> Contents? {
        guard volume.isFAT || volume.kind == .ntfs else { return nil }
        if let known = opened[volume.number] { return known }
        let contents: Contents
        if let slice = BlockSlice(disk, range: volume.range) {
            do throws(FilesystemError) {
                contents = volume.isFAT ? .fat(try FATVolume(slice)) : .ntfs(try NTFSVolume(slice))
            } catch { contents = .unreadable(error.description) }
        } else {
            contents = .unreadable("it does not lie on the disk")
        }
        opened[volume.number] = contents
        return contents
    }

    /// Whether a volume has a file; `nil` if that is not known.
    mutating func holds(_ path: String, _ volume: BootVolume) -> Bool? {
        let key = "\(volume.number)\(path.lowercased())"
        if let known = lookups[key] { return known }
        guard lookups.count < Self.lookupLimit else {
            problems[volume.number] = "more files are looked for than a Windows has"
            return nil
        }
        let found: Bool?
        do throws(FilesystemError) {
            switch contents(of: volume) {
            case nil: found = false
            case .fat(let fat)?: found = try fat.exists(path)
            case .ntfs(let ntfs)?: found = try ntfs.exists(path)
            case .unreadable(let reason)?:
                problems[volume.number] = reason
                found = nil
            }
        } catch {
            problems[volume.number] = error.description
            found = nil
        }
        if let found { lookups[key] = found }
        return found
    }

    /// The volumes that have a file; `nil` if one that may have it cannot be read.
    mutating func holders(of path: String) -> [Int]? {
        guard encrypted.isEmpty else {
            // It may be in an encrypted one, but a place where it is counts.
            let found = volumes.filter { holds(path, $0) == true }.map(\.number)
            return found.isEmpty ? nil : found
        }
        var found: [Int] = []
        for volume in volumes {
            guard let holds = holds(path, volume) else { return nil }
            if holds { found.append(volume.number) }
        }
        return found
    }

    /// A file with the places of its bytes, and why it must not be changed.
    /// - Returns: `nil` if there is none at that path.
    mutating func file(
        _ path: String, on volume: BootVolume, limit: Int
    ) throws(FilesystemError) -> (file: PlacedFile, obstacle: String?)? {
        switch contents(of: volume) {
        case .fat(let fat)?: return try fat.placedFile(path, limit: limit).map { ($0, nil) }
        case .ntfs(let ntfs)?:
            let obstacle = try ntfs.obstacleToChanges()
            return try ntfs.placedFile(path, limit: limit).map { ($0, obstacle) }
        case .unreadable(let reason)?: throw .damaged(reason)
        case nil: return nil
        }
    }

    /// The beginning of a log of a hive, or all of it; empty without one.
    mutating func log(_ path: String, on volume: BootVolume, limit: Int) throws(FilesystemError) -> [UInt8] {
        switch contents(of: volume) {
        case .fat(let fat)?: return try fat.exists(path) ? try fat.readFile(path, limit: limit) : []
        case .ntfs(let ntfs)?: return try ntfs.readFile(path, limit: limit) ?? []
        case .unreadable?, nil: return []
        }
    }

    /// The places of a part of a file on the disk, with their bytes; `nil` if the part is not in the file.
    static func placed(_ part: Range<Int>, of file: PlacedFile, on volume: BootVolume) -> [PlacedBytes]? {
        guard let places = file.places(of: part) else { return nil }
        var start = part.lowerBound
        var result: [PlacedBytes] = []
        for place in places {
            let end = start + Int(place.byteCount)
            result.append(PlacedBytes(at: volume.range.lowerBound + place.lowerBound, Array(file.bytes[start..<end])))
            start = end
        }
        return start == part.upperBound ? result : nil
    }
}
