// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// What a loop device stands on. The kernel keeps nobody from writing to it at the same time: not through the file, not through
/// another loop device.
struct LoopBase {
    /// The file or node by the name that it was attached by.
    var path: FilePath
    /// The kernel's name of a device; `nil` for a file.
    var kernelName: String?
    /// Which of its bytes the loop device shows.
    var range: ByteRange
    /// Other loop devices over (some of) the same bytes, by the kernel's names.
    var otherLoops: [String]
    fileprivate var backing: DiskDirectory.Backing

    /// Opens it; `nil` where it cannot be reached by its name: it was renamed, or attached in another mount namespace.
    func opened(_ access: BlockDevice.Access) -> BlockDevice? {
        guard let file = try? BlockDevice(opening: path, access), file.isDevice == backing.isDevice,
            file.deviceNumber == backing.device, file.isDevice || file.inodeNumber == backing.inode
        else { return nil }
        return file
    }
}

extension DiskDirectory {
    /// What a loop device (or a partition of one) stands on, the nearest first: a loop device may stand on another. Empty for all
    /// other devices and for files.
    func loopBases(of device: BlockDevice) -> [LoopBase] {
        var bases: [LoopBase] = []
        var next = device.isDevice ? kernelName(ofDevice: device.deviceNumber).map(wholeDisk) : nil
        while let loop = next, loop.hasPrefix("loop"), bases.count < 8, let base = loopBase(of: loop) {
            bases.append(base)
            next = base.kernelName.map(wholeDisk)
        }
        return bases
    }

    private func loopBase(of loop: String) -> LoopBase? {
        guard let backing = backing(ofLoop: loop),
            let path = Files.text(sys.appending("block/\(loop)/loop/backing_file"))
        else { return nil }
        let range = place(ofLoop: loop)
        let others = loops().filter {
            $0 != loop && self.backing(ofLoop: $0) == backing && place(ofLoop: $0).overlaps(range)
        }
        return LoopBase(
            path: FilePath(path), kernelName: backing.isDevice ? kernelName(ofDevice: backing.device) : nil,
            range: range, otherLoops: others, backing: backing)
    }

    /// Which bytes of its base a loop device shows.
    private func place(ofLoop loop: String) -> ByteRange {
        let offset = Files.text(sys.appending("block/\(loop)/loop/offset")).flatMap { UInt64($0) } ?? 0
        let end = offset.addingReportingOverflow(byteCount(of: loop) ?? 0)
        return offset..<(end.overflow ? .max : max(offset, end.partialValue))
    }
}
