// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// The right to read or write a disk from the survey to the end. Other users of the disk are reported by program or
/// mount before anything is done, and are kept out where programs check.
///
/// Devices that are written are opened with O_EXCL (`BlockDevice.Access`), which mounts and holders respect. Virtual
/// machines do not, on devices as little as on files: they lock single bytes, and so does a claim. For a loop device,
/// its backing file or device is claimed as well. The locks are released with the device.
package struct Claim: Sendable {
    /// Why there is no claim.
    package enum Problem: Error, Equatable, CustomStringConvertible {
        /// Another program holds a conflicting lock.
        case held(String, FileLock.Holder?)
        /// The file is on a filesystem without locks.
        case withoutLocks
        /// The system refused for another reason.
        case failed(String)

        /// The end of a sentence that begins with the name of the disk.
        package var description: String {
            switch self {
            case .held(let node, let holder): "is in use: another program has \(node) locked\(Self.likeness(holder))"
            case .withoutLocks:
                "lies on a filesystem without locks, so use by another program cannot be ruled out"
            case .failed(let reason): "cannot be locked: \(reason)"
            }
        }

        private static func likeness(_ holder: FileLock.Holder?) -> String {
            guard let holder else { return "" }
            return holder.isQEMU
                ? ", as a running virtual machine (QEMU) or another capture does" : ", as another restore does"
        }
    }

    /// QEMU's bytes (block/file-posix.c): it reads; it writes; it resizes; others may not write.
    private static let (reads, writes, resizes, keepsFromWriting): (UInt64, UInt64, UInt64, UInt64) = (
        100, 101, 103, 201
    )

    /// Whether locks exclude others. Without locks, a claim of a source relies on the check for writes at its end.
    package let isLocked: Bool
    private let device: BlockDevice
    private let directory: DiskDirectory
    private let mark: WriteMark
    /// The swap areas of a source: writes to them change no content.
    private let swap: Set<String>

    /// Claims a disk or file for writing.
    /// - Parameter isTrial: whether to check only, as for a plan: `device` may be open for reading.
    package static func target(
        _ device: BlockDevice, isTrial: Bool = false, directory: DiskDirectory = DiskDirectory()
    ) throws(Problem) -> Claim {
        for node in directory.openedNodes(on: device) {
            if let holder = FileLock.holder(node.fileDescriptor, forWriting: true) { throw .held(node.name, holder) }
        }
        for base in directory.loopBases(of: device) {
            guard let below = base.opened(.readOnly) else { continue }
            if let holder = FileLock.holder(below.fileDescriptor, forWriting: true) { throw .held(below.name, holder) }
            guard !isTrial, !below.isDevice, let file = base.opened(.exclusiveWrite) else { continue }
            // Without locks on its filesystem, the lock on the loop device is the best available.
            if try answer(file, forWriting: true, 0, 0) == .held {
                throw .held(file.name, FileLock.holder(file.fileDescriptor, forWriting: true))
            }
            device.keep(file)
        }
        // A tool that works on a device later may lock it itself (ntfsresize does): for devices, O_EXCL is the claim.
        guard !isTrial, !device.isDevice else { return Claim(device, directory, isLocked: true) }
        switch try answer(device, forWriting: true, 0, 0) {
        case .granted: return Claim(device, directory, isLocked: true)
        case .held: throw .held(device.name, FileLock.holder(device.fileDescriptor, forWriting: true))
        case .unsupported: throw .withoutLocks
        }
    }

    /// Claims a disk or file that is read and must not change, as QEMU claims an image that it only reads.
    package static func source(
        _ device: BlockDevice, directory: DiskDirectory = DiskDirectory()
    ) throws(Problem) -> Claim {
        var isLocked = true
        for byte in [reads, keepsFromWriting] {
            switch try answer(device, forWriting: false, byte, 1) {
            case .granted: break
            case .held: throw .held(device.name, FileLock.holder(device.fileDescriptor, forWriting: false))
            case .unsupported: isLocked = false
            }
        }
        for node in directory.openedNodes(on: device) {
            for byte in [writes, resizes] {
                let holder = FileLock.holder(node.fileDescriptor, forWriting: true, start: byte, byteCount: 1)
                if let holder { throw .held(node.name, holder) }
            }
        }
        for base in directory.loopBases(of: device) {
            guard let below = base.opened(.readOnly) else { continue }
            for byte in [writes, resizes] {
                let holder = FileLock.holder(below.fileDescriptor, forWriting: true, start: byte, byteCount: 1)
                if let holder { throw .held(below.name, holder) }
            }
            for byte in [reads, keepsFromWriting] where try answer(below, forWriting: false, byte, 1) == .held {
                throw .held(below.name, FileLock.holder(below.fileDescriptor, forWriting: false))
            }
            device.keep(below)
        }
        return Claim(device, directory, isLocked: isLocked)
    }

    private static func answer(
        _ device: BlockDevice, forWriting: Bool, _ start: UInt64, _ byteCount: UInt64
    ) throws(Problem) -> FileLock.Answer {
        do {
            return try FileLock.take(device.fileDescriptor, forWriting: forWriting, start: start, byteCount: byteCount)
        } catch { throw .failed(error.errno.sentence) }
    }

    private init(_ device: BlockDevice, _ directory: DiskDirectory, isLocked: Bool) {
        self.device = device
        self.directory = directory
        self.isLocked = isLocked
        // Earlier writes that are still on their way to the medium are no change.
        if device.isDevice { try? device.flush() }
        swap = Set(
            directory.uses(of: device).compactMap { use in
                if case .swap(let node) = use { return node }
                return nil
            })
        mark = WriteMark(device, directory, besides: swap)
    }

    /// The changes made to a source since it was claimed, as a sentence; `nil` without changes.
    package func change() -> String? { mark.change(to: WriteMark(device, directory, besides: swap)) }
}

/// Evidence of writes: a device's counters, a file's times.
struct WriteMark: Equatable {
    /// Sectors written and discarded, in units of 512 bytes.
    var sectorCount: UInt64?
    /// The sequence number of the disk's attachment.
    var diskSequence: String?
    var byteCount: UInt64
    /// For a file, and for the files below a loop device: the times at which its bytes and its inode last changed,
    /// in seconds and nanoseconds.
    var times: [Int] = []

    /// - Parameter nodes: nodes whose writes do not count.
    init(_ device: BlockDevice, _ directory: DiskDirectory, besides nodes: Set<String>) {
        byteCount = device.byteCount
        guard device.isDevice else {
            if let now = Files.changeTimes(device.fileDescriptor) { (byteCount, times) = now }
            return
        }
        for base in directory.loopBases(of: device) where base.kernelName == nil {
            guard let file = base.opened(.readOnly) else { continue }
            times += Files.changeTimes(file.fileDescriptor)?.times ?? []
        }
        guard let name = directory.kernelName(ofDevice: device.deviceNumber) else { return }
        diskSequence = directory.diskSequence(of: name)
        sectorCount = directory.sectorsWritten(to: name)
        for node in nodes where node != name {
            guard let count = sectorCount, let part = directory.sectorsWritten(to: node) else { continue }
            sectorCount = count &- part
        }
    }

    func change(to now: WriteMark) -> String? {
        if now.diskSequence != diskSequence { return "another disk has taken its name" }
        if let before = sectorCount, let after = now.sectorCount, before != after {
            let (written, overflow) = (after &- before).multipliedReportingOverflow(by: 512)
            return "something else wrote \(overflow ? "" : ByteText.rounded(written) + " ")to it"
        }
        if now.byteCount != byteCount { return "its length changed" }
        return now.times != times ? "something else changed it" : nil
    }
}
