// SPDX-License-Identifier: GPL-3.0-or-later
internal import ByteParsing
import DiskModel

/// The header of an encrypted volume: "LUKS On-Disk Format Specification" 1.2 (§2.1, phdr) and "LUKS2 On-Disk Format
/// Specification" (§2.1, binary header). What is in use behind it only its key can tell.
enum LUKSHeader {
    static let format = ContainerFormat(kindNames: ["crypto_LUKS"], open: open)

    private static let primary = Array("LUKS".utf8) + [0xBA, 0xBE]
    private static let secondary = Array("SKUL".utf8) + [0xBA, 0xBE]
    /// Where a second header of LUKS2 can lie: the first is as long as that.
    private static let secondaryPlaces: [UInt64] = (14...22).map { 1 << $0 }
    /// The fields; LUKS1 has key slots behind them, LUKS2 padding.
    private static let byteCount = 512

    static func open(_ volume: any BlockReader) throws(BlockIOError) -> Container? {
        for place in [0] + secondaryPlaces where place + UInt64(byteCount) <= volume.byteCount {
            // On all other volumes, a bad sector where a second header could be says nothing.
            guard let header = place == 0 ? try volume.readBytes(at: 0, count: byteCount) : read(volume, at: place)
            else { continue }
            guard header.starts(with: place == 0 ? primary : secondary) else { continue }
            // The fields lie inside what was read.
            if let container = (try? self.container(header, at: place)) ?? nil { return container }
        }
        return nil
    }

    private static func read(_ volume: any BlockReader, at place: UInt64) -> [UInt8]? {
        try? volume.readBytes(at: place, count: byteCount)
    }

    /// All numbers are big-endian.
    private static func container(_ header: [UInt8], at place: UInt64) throws(ParsingError) -> Container? {
        let version = try header.bigEndian(UInt16.self, at: 6)
        let uuid = try header.text(at: 168, count: 40)
        var info = FilesystemInfo(
            kind: .luks, kindName: "crypto_LUKS", uuid: uuid.isEmpty ? nil : uuid, features: ["LUKS\(version)"],
            mapSource: .whole)
        switch version {
        case 1 where place == 0:
            let cipher = try header.text(at: 8, count: 32)  // cipher-name
            let mode = try header.text(at: 40, count: 32)  // cipher-mode
            info.features.append("\(cipher)-\(mode)")
            info.sectorSize = 512
        case 2:
            guard try header.bigEndian(UInt64.self, at: 256) == place else { return nil }  // hdr_offset
            let label = try header.text(at: 24, count: 48)
            info.label = label.isEmpty ? nil : label
            if place > 0 { info.remarks.append("has lost its first header; the second one is there") }
        default: return nil
        }
        return .whole(
            info,
            because: "it is encrypted (LUKS\(version)): which of its sectors are in use is known only with its key")
    }
}
