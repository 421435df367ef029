// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// The file or device behind a loop device. The kernel does not prevent simultaneous writes to it, neither through the
/// file nor through another loop device.
struct LoopBase {
    /// The file or node, under the name it was attached by.
    var path: FilePath
    /// The kernel's name of a device; `nil` for a file.
    var kernelName: String?
    /// The bytes that the loop device shows.
    var range: ByteRange
    /// Other loop devices over (some of) the same bytes, by kernel name.
    var otherLoops: [String]
    fileprivate var backing: DiskDirectory.Backing

    /// Opens it; `nil` if its name does not reach it: it was renamed, or attached in another mount namespace.
    func opened(_ access: BlockDevice.Access) -> BlockDevice? {
        guard let file = try? BlockDevice(opening: path, access), file.isDevice == backing.isDevice,
            file.deviceNumber == backing.device, file.isDevice || file.inodeNumber == backing.inode
        else { return nil }
        return file
    }
}

extension DiskDirectory {
    /// The files and devices behind a loop device or a partition of one, nearest first: a loop device may be stacked
    /// on another. Empty for all other devices and for files.
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

    /// The bytes of its base that a loop device shows.
    func place(ofLoop loop: String) -> ByteRange {
        let offset = Files.text(sys.appending("block/\(loop)/loop/offset")).flatMap { UInt64($0) } ?? 0
        let end = offset.addingReportingOverflow(byteCount(of: loop) ?? 0)
        return offset..<(end.overflow ? .max : max(offset, end.partialValue))
    }
}
