// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import LinuxSystem
import SystemPackage

extension DiskVolumes {
    package func diagnose(_ disk: UInt32, _ question: [UInt8]) throws(ApplianceError) -> [UInt8] {
        guard disks.indices.contains(Int(disk)) else { throw .notFound("there is no such disk") }
        // Boot repair's survey mounts by itself, and refuses a disk that is in use.
        guard !hasOpenVolumes else { throw .refused("the disk's volumes are in use") }
        Self.loadModules(["loop", "dm_mod"] + (keys.isEmpty ? [] : ["dm_crypt"]))
        var files: [FilePath] = []
        // /run is in memory.
        defer { for file in files { try? Files.remove(file) } }
        do {
            for (number, key) in keys.enumerated() {
                files.append(folder.appending("key\(number)"))
                try write(key, to: folder.appending("key\(number)"))
            }
            return try DoctorQuestion(json: question).answer(disk: disks[Int(disk)], keyFiles: files).json()
        } catch { throw .failed("the disk could not be judged: \(error)") }
    }
}
