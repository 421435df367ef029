// SPDX-License-Identifier: GPL-3.0-or-later

/// Why the contents of a volume do not work on a disk with another logical sector size.
package struct SectorObstacle: Equatable, Sendable {
    /// Half a sentence: "its blocks of 1024 bytes are smaller than …".
    package var reason: String
    /// Whether it is known not to work there; otherwise unknown.
    package var isCertain: Bool

    package init(_ reason: String, isCertain: Bool = true) {
        self.reason = reason
        self.isCertain = isCertain
    }
}

extension FilesystemInfo {
    /// Whether this FAT must be recreated on a disk with sectors of `sector` bytes.
    ///
    /// UEFI 2.10 §13.3 and the Linux kernel (`fs/fat/inode.c`, fat_fill_super: "logical sector size too small for
    /// device") require BPB_BytsPerSec to be the disk's sector; firmware does not read a larger one either.
    /// - Parameter captured: the sector size of the source disk, for images that do not record the FAT's.
    package func mustBeRemade(forSectorsOf sector: Int, captured: Int) -> Bool {
        isFAT && (sectorSize ?? captured) != sector
    }

    /// Why the unchanged contents of a volume do not work on a disk with logical sectors of `sector`
    /// bytes; `nil` if they do.
    ///
    /// A filesystem reads and writes in its own units. It works where these are no smaller than the disk's sectors.
    /// - Parameters:
    ///   - sector: the target's sector size in bytes.
    ///   - captured: the source disk's sector size in bytes.
    package func sectorObstacle(onto sector: Int, captured: Int) -> SectorObstacle? {
        let onto = "the target's sectors of \(sector) bytes"
        func least(_ size: Int?, _ what: String) -> SectorObstacle? {
            guard let size else {
                return SectorObstacle("the size of its \(what) is not known", isCertain: false)
            }
            return size >= sector ? nil : SectorObstacle("its \(what) of \(size) bytes are smaller than \(onto)")
        }
        switch traits.sectors {
        case .blocks(let what): return least(blockSize, what)
        case .ownSectors: return least(sectorSize, "sectors")
        case .recreated:
            guard mustBeRemade(forSectorsOf: sector, captured: captured) else { return nil }
            return SectorObstacle("its FAT has sectors of \(sectorSize ?? captured) bytes, and \(onto) need others")
        case .sameSectors:
            let own = sectorSize ?? captured
            return own == sector
                ? nil : SectorObstacle("\(kindName) made for sectors of \(own) bytes does not work with \(onto)")
        case .extentsAndContents:
            guard sectorSize ?? 0 >= sector else {
                return SectorObstacle(
                    "its extents are not known to lie on boundaries of \(onto)", isCertain: sectorSize != nil)
            }
            return innerObstacle(onto: sector, captured: captured)
        case .contents:
            // dm-crypt passes the disk's sector size on; contents that worked with larger
            // sectors work with smaller ones.
            guard sector > captured || inner != nil else { return nil }
            return innerObstacle(onto: sector, captured: captured)
        case .unknown:
            return SectorObstacle(
                "it is not known whether its contents (\(kindName)) work with \(onto)", isCertain: false)
        }
    }

    private func innerObstacle(onto sector: Int, captured: Int) -> SectorObstacle? {
        guard let inner else {
            return SectorObstacle(
                "it could not be opened, and its contents may not work with the target's sectors of \(sector) bytes",
                isCertain: false)
        }
        var doubtful: SectorObstacle?
        for volume in inner {
            // Filesystems inside a container are never recreated: a FAT there is refused like the others.
            guard let obstacle = volume.filesystem.sectorObstacle(onto: sector, captured: captured) else { continue }
            let named = SectorObstacle("\(volume.name): \(obstacle.reason)", isCertain: obstacle.isCertain)
            if obstacle.isCertain { return named }
            doubtful = doubtful ?? named
        }
        return doubtful
    }
}
