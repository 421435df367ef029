// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport

@testable import Filesystems

/// Files and folders written into an exFAT by hand, with clusters of 4 KiB. Section numbers are those of Microsoft's
/// "exFAT file system specification".
struct ExFATFixture {
    /// First clusters of the contents that `addTree` makes.
    static let contiguous = 200
    static let chained = 300
    static let folder = 400
    static let inner = 500

    var bytes: [UInt8]
    private let boot: ExFATBootSector
    /// Where the allocation bitmap starts.
    let bitmap: Int

    init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        guard let boot = try ExFATBootSector(Array(bytes[..<512])) else {
            throw ToolFailure(description: "no exFAT")
        }
        self.boot = boot
        let root = Int(boot.offset(ofCluster: UInt64(boot.rootCluster)))
        guard let entry = (0..<16).map({ root + 32 * $0 }).first(where: { bytes[$0] == 0x81 }) else {
            throw ToolFailure(description: "no allocation bitmap")
        }
        bitmap = Int(boot.offset(ofCluster: UInt64(try bytes.littleEndian(UInt32.self, at: entry + 20))))
    }

    func offset(ofCluster cluster: Int) -> Int { Int(boot.offset(ofCluster: UInt64(cluster))) }

    /// A contiguous file, one in a chain that jumps, and a folder with a file.
    mutating func addTree() throws {
        let root = offset(ofCluster: Int(boot.rootCluster))
        add("row", Array(Self.contiguous..<Self.contiguous + 10), to: root)
        add("chain", [Self.chained, Self.chained + 1, Self.chained + 7, Self.chained + 3], isChain: true, to: root)
        add("folder", [Self.folder], isChain: true, isFolder: true, to: root)
        add("inner", [Self.inner, Self.inner + 1], to: offset(ofCluster: Self.folder))
    }

    /// Marks a cluster as used or free.
    mutating func mark(_ cluster: Int, isUsed: Bool) {
        let bit = UInt8(1) << UInt8((cluster - 2) % 8)
        if isUsed { bytes[bitmap + (cluster - 2) / 8] |= bit } else { bytes[bitmap + (cluster - 2) / 8] &= ~bit }
    }

    mutating func link(_ cluster: Int, to next: UInt32) {
        bytes.setLittleEndian(next, at: Int(boot.fatByteOffset) + 4 * cluster)
    }

    /// An entry set (§7.4, §7.6, §7.7) behind those in the folder at `folder`.
    private mutating func add(
        _ name: String, _ clusters: [Int], isChain: Bool = false, isFolder: Bool = false, to folder: Int
    ) {
        for cluster in clusters { mark(cluster, isUsed: true) }
        if isChain {
            for (index, cluster) in clusters.enumerated() {
                link(cluster, to: index + 1 < clusters.count ? UInt32(clusters[index + 1]) : 0xFFFF_FFFF)
            }
        }
        let units = Array(name.utf16)
        var set = [UInt8](repeating: 0, count: 96)
        set[0] = 0x85
        set[1] = 2  // SecondaryCount
        set[4] = isFolder ? 0x10 : 0x20
        set[32] = 0xC0
        set[33] = isChain ? 1 : 3  // AllocationPossible, NoFatChain
        set[35] = UInt8(units.count)
        let hash = units.map { UInt8(truncatingIfNeeded: $0 - 32) }.reduce(0 as UInt16) { sum, byte in
            [UInt16(byte), 0].reduce(sum) { ($0 >> 1 | $0 << 15) &+ $1 }
        }
        set.setLittleEndian(hash, at: 36)
        let byteCount = UInt64(clusters.count) * boot.clusterSize
        set.setLittleEndian(byteCount, at: 40)
        set.setLittleEndian(UInt32(clusters[0]), at: 52)
        set.setLittleEndian(byteCount, at: 56)
        set[64] = 0xC1
        for (index, unit) in units.enumerated() { set.setLittleEndian(unit, at: 66 + 2 * index) }
        var sum: UInt16 = 0
        for (index, byte) in set.enumerated() where index != 2 && index != 3 {
            sum = (sum >> 1 | sum << 15) &+ UInt16(byte)
        }
        set.setLittleEndian(sum, at: 2)
        var place = folder
        while bytes[place] != 0 { place += 32 }
        bytes.replaceSubrange(place..<place + 96, with: set)
    }
}
