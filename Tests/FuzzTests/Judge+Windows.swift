// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import WindowsFiles

/// Registry hives, boot configuration stores, and files of an NTFS by their paths.
extension Judge {
    private static func hive(_ reader: any BlockReader) throws -> (bytes: [UInt8], hive: RegistryHive)? {
        let bytes = try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20)))
        return (try? RegistryHive(bytes)).map { (bytes, $0) }
    }

    /// A SYSTEM hive: a driver that is started in place starts, and nothing else changes.
    static func systemHive(_ reader: any BlockReader) throws {
        guard let (bytes, hive) = try hive(reader) else { return }
        _ = HiveLog.problem(bytes, named: "LOG1", of: hive)
        walk(hive)
        let names = StorageDrivers.allServices
        guard let drivers = try? ControlSets(hive).drivers(names, systemRoot: "\\Windows") else { return }
        for driver in drivers {
            guard let words = driver.wordsToClear else { continue }
            var changed = bytes
            for word in words {
                try demand(
                    word.offset >= 4096 && word.offset + 4 <= bytes.count
                        && (try? bytes.littleEndian(UInt32.self, at: word.offset)) == word.value,
                    "the place of a number of \(driver.name)")
                changed.setLittleEndian(0 as UInt32, at: word.offset)
            }
            // A hive whose records share bytes may read otherwise then, but must not trap.
            _ = try? ControlSets(RegistryHive(changed)).drivers([driver.name], systemRoot: "\\Windows")
        }
    }

    /// All keys and values, up to a number: keys may be listed in several places.
    private static func walk(_ hive: RegistryHive) {
        guard let root = try? hive.root else { return }
        var keys = [root]
        var left = 5000
        while let key = keys.popLast(), left > 0 {
            left -= 1
            for value in (try? hive.values(of: key)) ?? [] {
                _ = hive.text(value)
                _ = hive.word(value)
            }
            keys += (try? hive.subkeys(of: key)) ?? []
            if keys.count > 20_000 { return }
        }
    }

    /// A store: each device element that names a partition can be replaced by one of the same length, and reads as that.
    static func bootStore(_ reader: any BlockReader) throws {
        guard let (bytes, hive) = try hive(reader), let store = try? BCDStore(hive), let anyGUID else { return }
        for element in store.objects.flatMap(\.elements) where element.isDevice {
            try demand(
                element.ranges.allSatisfy { $0.lowerBound >= 4096 && $0.upperBound <= bytes.count }
                    && element.ranges.flatMap { bytes[$0] } == element.data, "the place of an element")
            guard case .partition(let old)? = try? BCDDevice(element.data) else { continue }
            try demand(
                try BCDDevice.replacing(old, in: element.data) == element.data, "the same partition, other bytes")
            for new in [BCDPartition.gpt(partition: anyGUID, disk: anyGUID), .mbr(start: 1 << 20, signature: 7)] {
                let data = try BCDDevice.replacing(new, in: element.data)
                try demand(
                    data.count == element.data.count && (try BCDDevice(data)) == .partition(new), "a replacement")
            }
        }
    }

    /// A file found by its path lies inside the volume, at places that hold its bytes.
    static func placedFiles(_ reader: any BlockReader) throws {
        guard let volume = try? NTFSVolume(reader) else { return }
        _ = try? volume.obstacleToChanges()
        for path in ["\\Windows\\System32\\config\\SYSTEM", "\\pagefile.sys", "\\hiberfil.sys"] {
            guard let file = try? volume.placedFile(path, limit: 1 << 20) else { continue }
            guard let places = file.places(of: 0..<file.bytes.count) else { throw Verdict("a file without places") }
            try demand(places.allSatisfy { $0.upperBound <= reader.byteCount }, "a file outside of its volume")
            var bytes: [UInt8] = []
            for place in places { bytes += try reader.readBytes(at: place.lowerBound, count: Int(place.byteCount)) }
            try demand(bytes == file.bytes, "other bytes at the places of a file")
        }
    }
}
