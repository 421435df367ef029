// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import LinuxSystem
import SystemPackage

extension DiskVolumes {
    package func diagnose(_ disk: UInt32, _ question: [UInt8]) throws(ApplianceError) -> [UInt8] {
        try withKeyFiles(disk) { (node, files) throws(ApplianceError) in
            do { return try DoctorQuestion(json: question).answer(disk: node, keyFiles: files).json() } catch {
                throw .failed("the disk could not be judged: \(error)")
            }
        }
    }

    package func repair(
        _ disk: UInt32, _ question: [UInt8], log: (String) -> Void
    ) throws(ApplianceError) -> [UInt8] {
        guard mayRepair else { throw .refused("disks are only read here") }
        return try withKeyFiles(disk) { (node, files) throws(ApplianceError) in
            _ = kernelErrors()
            do {
                var answer = try DoctorQuestion(json: question).repair(disk: node, keyFiles: files, log: log)
                // A write that fails after its file was closed is seen here only.
                let errors = kernelErrors().filter { $0.contains("I/O error") || $0.contains("lost async page write") }
                if answer.after != nil, let error = errors.first {
                    answer.failure = answer.failure ?? "the disk did not take all that was written (\(error))"
                }
                return try answer.json()
            } catch { throw .failed("the disk could not be repaired: \(error)") }
        }
    }

    /// Gives the work the disk's node, and the keys as files.
    private func withKeyFiles(
        _ disk: UInt32, _ work: (FilePath, [FilePath]) throws(ApplianceError) -> [UInt8]
    ) throws(ApplianceError) -> [UInt8] {
        guard disks.indices.contains(Int(disk)) else { throw .notFound("there is no such disk") }
        // Boot repair's survey mounts by itself, and refuses a disk that is in use.
        guard !hasOpenVolumes else { throw .refused("the disk's volumes are in use") }
        Self.loadModules(["loop", "dm_mod"] + (keys.isEmpty ? [] : ["dm_crypt"]))
        var files: [FilePath] = []
        // /run is in memory.
        defer { for file in files { try? Files.remove(file) } }
        for (number, key) in keys.enumerated() {
            files.append(folder.appending("key\(number)"))
            do { try write(key, to: folder.appending("key\(number)")) } catch {
                throw .failed("a key could not be kept: \(error)")
            }
        }
        return try work(disks[Int(disk)], files)
    }
}
