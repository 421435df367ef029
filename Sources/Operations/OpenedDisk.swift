// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// The opened disk of a command, with its identity.
package struct OpenedDisk {
    package var device: BlockDevice
    package var identity: DiskIdentity
    /// The kernel's name of the node; `nil` for a file.
    package var kernelName: String?

    /// Opens a block device or a raw image file.
    package init(_ path: String, _ access: BlockDevice.Access, sectorSize: Int? = nil) throws {
        do {
            device = try BlockDevice(opening: FilePath(path), access, sectorSize: sectorSize ?? 512)
        } catch {
            if error.errno == .resourceBusy {
                let name = Files.realPath(FilePath(path))?.lastComponent?.string ?? ""
                let uses = DiskDirectory().uses(of: name).map(\.description)
                throw JobFailure(
                    .refused,
                    "\(path) is in use\(uses.isEmpty ? "" : ": " + uses.joined(separator: "; ")). Unmount it, or stop what holds it, and try again"
                )
            }
            throw error
        }
        guard device.byteCount > 0 else {
            throw JobFailure(.notFound, "\(path) is empty: it has no size (no medium?)")
        }
        let directory = DiskDirectory()
        kernelName = device.isDevice ? directory.kernelName(ofDevice: device.deviceNumber) : nil
        // The absolute path: the files of two virtual machines may differ in nothing else.
        let place = device.isDevice ? FilePath(path) : Files.realPath(FilePath(path)) ?? FilePath(path)
        identity = directory.identity(path: place, kernelName: kernelName, diskSequence: device.diskSequence)
    }

    /// The image, or part of a repository, in place of a disk; `nil` for a possible disk.
    package var knownImage: KnownImage? {
        get throws { try KnownImage.identify(device, at: device.path, isFile: !device.isDevice) }
    }

    /// Waits for a program that a killed restore started on this disk: it must finish its work, and until then the disk
    /// is in use. Then removes the remaining logical volumes and mappings.
    /// - Parameters:
    ///   - isTrial: whether nothing may change, for a plan.
    ///   - cancellation: ends the wait.
    package func waitForAbandonedWork(
        isTrial: Bool, _ events: any EventSink, _ cancellation: Cancellation
    ) throws {
        var said: [String] = []
        while case let programs = AbandonedWork.programs(on: device), !programs.isEmpty {
            try cancellation.check()
            if programs != said {
                events.log(
                    "waiting for \(programs.joined(separator: ", ")): an interrupted restore left it at work on \(device.path)"
                )
                said = programs
            }
            SystemFacts.sleep(seconds: 0.2, unless: cancellation)
        }
        if !isTrial { AbandonedWork.release(on: device) }
    }

    /// The uses of the disk: mounts, swap, holders; also of loop devices over it.
    package var uses: [DiskUse] { DiskDirectory().uses(of: device) }

    /// Whether the kernel refuses exclusive access to the device, or to a loop device over it, without a known use.
    package var isHeldByUnknown: Bool {
        let directory = DiskDirectory()
        let nodes = [kernelName].compactMap { $0 } + directory.loopDevices(over: device)
        for name in nodes where directory.uses(of: name).isEmpty {
            do throws(SystemCallError) {
                _ = try BlockDevice(opening: FilePath("/dev/\(name)"), .exclusiveRead)
            } catch {
                if error.errno == .resourceBusy { return true }
            }
        }
        return false
    }

    /// Claims the disk for writing, until the device is closed.
    /// - Parameter isTrial: whether to check only, for a plan.
    package func claimTarget(isTrial: Bool = false) throws {
        do throws(Claim.Problem) { _ = try Claim.target(device, isTrial: isTrial) } catch {
            let wayOut =
                error == .withoutLocks
                ? "Take a file on another filesystem, or a loop device over this one (losetup --find --show \(identity.path))"
                : "Stop it (shut the virtual machine down), and try again"
            throw JobFailure(.refused, "\(identity.path) \(error). \(wayOut)")
        }
    }

    /// Claims the disk for reading, until the device is closed.
    /// - Parameter otherwise: the end of a refusal's sentence, with an alternative.
    package func claimSource(otherwise: String = "", _ events: any EventSink) throws -> Claim {
        do throws(Claim.Problem) {
            let claim = try Claim.source(device)
            if !claim.isLocked { events.warn("source-without-locks", "\(identity.path) \(Claim.Problem.withoutLocks)") }
            return claim
        } catch {
            throw JobFailure(
                .refused,
                "\(identity.path) \(error). Its contents may change while they are read: stop what writes it (shut the virtual machine "
                    + "down), or take a snapshot of it\(otherwise)")
        }
    }

    /// The ranges of the disk that are mounted read-write.
    package var mountedReadWriteRanges: [ByteRange] {
        let directory = DiskDirectory()
        guard let kernelName else { return mountPointsReadWrite.isEmpty ? [] : [0..<device.byteCount] }
        var ranges: [ByteRange] = []
        let nodes = directory.partitionNodes(of: kernelName)
        for use in uses {
            switch use {
            case .mounted(let node, _, false), .swap(let node), .held(let node, _, _):
                // A node on a holder (an LV) is not a partition of this disk: the held partition counts. A loop device
                // can lie anywhere on the disk, and so can the nodes below this one.
                if let range = nodes.first(where: { $0.name == node })?.range {
                    ranges.append(range)
                } else if node == kernelName || !["dm-", "md"].contains(where: node.hasPrefix) {
                    ranges.append(0..<device.byteCount)
                }
            case .mounted: break
            }
        }
        return ranges
    }

    /// The mount points of the disk's filesystems that are mounted read-write.
    package var mountPointsReadWrite: [String] { uses.compactMap(\.mountPointReadWrite) }

    /// Whether a file (that need not exist yet) lies on this disk, or is this disk.
    package func holds(_ file: FilePath) -> Bool {
        // The folder counts even if the file is a link to elsewhere: the image is made beside its final name.
        let folder = file.removingLastComponent()
        return lies(folder.isEmpty ? "." : folder) || (Files.exists(file) && lies(file))
    }

    private func lies(_ path: FilePath) -> Bool {
        let file = path
        guard let status = try? Stat(path.isEmpty ? "." : path) else { return false }
        let directory = DiskDirectory()
        // A file in a filesystem on a loop device over the source lies in the source, too.
        let loops = directory.loopDevices(over: device)
        if !loops.isEmpty {
            let below = directory.nodes(holding: path.isEmpty ? "." : path).flatMap(directory.disksBelow)
            if below.contains(where: loops.contains) { return true }
        }
        if !device.isDevice {
            return Files.exists(file) && UInt64(status.deviceID.rawValue) == device.deviceNumber
                && UInt64(status.inode.rawValue) == device.inodeNumber
        }
        guard let kernelName else { return false }
        if status.type == .blockSpecial { return UInt64(status.specialDeviceID.rawValue) == device.deviceNumber }
        let own = directory.wholeDisk(of: kernelName)
        return directory.nodes(holding: path.isEmpty ? "." : path).flatMap(directory.disksBelow).contains(own)
    }

    /// Surveys the disk: table, volumes, boot code.
    package func survey(allUsed: Bool = false, trustMaps: Bool = false, unlocker: LUKSUnlocker? = nil) throws
        -> DiskSurvey
    {
        try DiskSurveyor.survey(
            device, identity: identity, geometry: device.geometry, mountedReadWrite: mountedReadWriteRanges,
            allUsed: allUsed, trustMaps: trustMaps, unlocker: unlocker, descriptor: device.fileDescriptor.rawValue)
    }
}
