// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage

/// Opens the LUKS volumes found by a survey, with the user's keys.
///
/// For one survey only: not safe to use from several threads.
package final class LUKSUnlocker {
    /// Whether a LUKS volume was found, opened or not.
    package private(set) var hasFound = false
    package private(set) var hasOpened = false
    /// Why no volume can be opened here, as a sentence part; `nil` without such a reason.
    package private(set) var problem: String?
    private let keyFiles: [FilePath]
    /// Limits the number of openings: deriving a key may take minutes, and the volume sets the cost.
    private var volumesLeft = 64

    package init(keyFiles: [FilePath]) { self.keyFiles = keyFiles }

    /// The container with its content, if one of the keys opens it.
    /// - Parameters:
    ///   - volume: the source of the container's bytes.
    ///   - place: the place of the volume on the disk; `nil` if it is not contiguous.
    /// - Returns: the container, and the opened volume, to be closed after its survey.
    func unlock(
        _ container: Container, _ volume: any BlockReader, at place: SecondOpinion?
    ) -> (Container, OpenedLUKS?) {
        hasFound = true
        func whole(_ reason: String) -> (Container, OpenedLUKS?) {
            var info = container.filesystem
            info.wholeReason = reason
            return (.whole(info, because: reason), nil)
        }
        // Its special features are reported already.
        guard problem == nil, let data = container.locked else { return (container, nil) }
        guard let place, let range = (0..<volume.byteCount).shifted(up: place.offset) else {
            return whole("it is encrypted, and is not on the disk in one piece that could be opened")
        }
        guard volumesLeft > 0 else { return whole("it is encrypted, and too many such volumes were opened already") }
        volumesLeft -= 1
        do throws(LUKSOpenError) {
            guard let opened = try open(place.descriptor, range, sectorSize: volume.logicalSectorSize) else {
                return whole("it is encrypted, and none of the given keys opens it")
            }
            let dataEnd = data.end(in: volume.byteCount)
            guard opened.geometry.dataStart == data.start, opened.geometry.sectorSize == data.sectorSize,
                opened.geometry.byteCount == (dataEnd - data.start).roundedDown(toMultipleOf: 512)
            else {
                opened.close()
                return whole("it is encrypted, and cryptsetup opens it with another geometry than its header has")
            }
            hasOpened = true
            return (
                container.opened(
                    opened, descriptor: opened.fileDescriptor.rawValue, data, volumeByteCount: volume.byteCount),
                opened
            )
        } catch {
            problem = error.description
            return whole("it is encrypted, and could not be opened: \(error)")
        }
    }

    private func open(
        _ descriptor: Int32, _ range: ByteRange, sectorSize: Int
    ) throws(LUKSOpenError) -> OpenedLUKS? {
        for keyFile in keyFiles {
            do throws(LUKSOpenError) {
                return try OpenedLUKS(
                    disk: FilePath("/proc/self/fd/\(descriptor)"), range: range,
                    sectorSize: sectorSize, keyFile: keyFile, readOnly: true)
            } catch {
                guard error == .wrongKey else { throw error }
            }
        }
        return nil
    }
}

extension Container {
    /// An opened LUKS: its header, its key slots and everything behind its sectors are always used; of its sectors,
    /// those with used bytes of the volume inside.
    func opened(_ volume: any BlockReader, descriptor: Int32?, _ data: LUKSData, volumeByteCount: UInt64) -> Container {
        var info = filesystem
        info.wholeReason = nil
        let end = data.start + volume.byteCount
        let inner = InnerPlace(
            name: info.label ?? "luks", byteCount: volume.byteCount,
            contents: .segments([VolumeSegment(start: 0, place: data.start..<end)]), reader: volume,
            opinion: descriptor.map { SecondOpinion(descriptor: $0) }, unit: UInt64(data.sectorSize))
        return Container(
            filesystem: info, alwaysUsed: [0..<data.start, end..<volumeByteCount], inner: [inner])
    }
}
