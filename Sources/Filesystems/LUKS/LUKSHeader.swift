// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The header of an encrypted volume: "LUKS On-Disk Format Specification" 1.2 (§2.1, phdr) and "LUKS2 On-Disk Format
/// Specification" (§2.1, binary header). The used sectors behind it are known only with its key.
package enum LUKSHeader {
    static let format = ContainerFormat(kindNames: ["crypto_LUKS"], open: open)

    /// The start of a volume's encrypted sectors, in bytes: header and key slots are before it. `nil` if the header
    /// is invalid or incomplete.
    package static func dataStart(of volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        try open(volume)?.locked?.start
    }

    private static let primary = Array("LUKS".utf8) + [0xBA, 0xBE]
    private static let secondary = Array("SKUL".utf8) + [0xBA, 0xBE]
    /// The magic of a LUKS1 while cryptsetup re-encrypts it (its `src/utils_reencrypt_luks1.c`).
    private static let underReencryption = Array("LUKS".utf8) + [0xDE, 0xAD]
    /// The possible places of a second header of LUKS2: each is the length of the first header.
    private static let secondaryPlaces: [UInt64] = (14...22).map { 1 << $0 }
    /// The length of the fields; they are followed by key slots in LUKS1, and padding in LUKS2.
    private static let byteCount = 512

    static func open(_ volume: any BlockReader) throws(BlockIOError) -> Container? {
        for place in [0] + secondaryPlaces where place + UInt64(byteCount) <= volume.byteCount {
            // On all other volumes, a bad sector at a possible place of a second header is irrelevant.
            guard let header = place == 0 ? try volume.readBytes(at: 0, count: byteCount) : read(volume, at: place)
            else { continue }
            if place == 0, header.starts(with: underReencryption) {
                let info = FilesystemInfo(kind: .luks, kindName: "crypto_LUKS", features: ["LUKS1"], mapSource: .whole)
                return .whole(info, because: "it is encrypted (LUKS1), and \(LUKSData.reencryption)")
            }
            guard header.starts(with: place == 0 ? primary : secondary) else { continue }
            // The fields are inside the bytes that were read.
            if let container = (try? self.container(header, at: place, volume)) ?? nil { return container }
        }
        return nil
    }

    private static func read(_ volume: any BlockReader, at place: UInt64) -> [UInt8]? {
        try? volume.readBytes(at: place, count: byteCount)
    }

    /// All numbers are big-endian.
    private static func container(
        _ header: [UInt8], at place: UInt64, _ volume: any BlockReader
    ) throws(ParsingError) -> Container? {
        let version = try header.bigEndian(UInt16.self, at: 6)
        let uuid = try header.text(at: 168, count: 40)
        var info = FilesystemInfo(
            kind: .luks, kindName: "crypto_LUKS", uuid: uuid.isEmpty ? nil : uuid, features: ["LUKS\(version)"],
            mapSource: .whole)
        let data: Result<LUKSData, FilesystemError>
        switch version {
        case 1 where place == 0:
            let cipher = try header.text(at: 8, count: 32)  // cipher-name
            let mode = try header.text(at: 40, count: 32)  // cipher-mode
            info.features.append("\(cipher)-\(mode)")
            info.sectorSize = 512
            let start = UInt64(try header.bigEndian(UInt32.self, at: 104)) * 512  // payload-offset, in sectors
            data = Result { () throws(FilesystemError) in try LUKSData(start: start, volume.byteCount) }
        case 2:
            guard try header.bigEndian(UInt64.self, at: 256) == place else { return nil }  // hdr_offset
            let label = try header.text(at: 24, count: 48)
            info.label = label.isEmpty ? nil : label
            let byteCount = try header.bigEndian(UInt64.self, at: 8)  // hdr_size
            if place > 0 {
                info.remarks.append("has lost its first header; the second one is there")
                data = .failure(.damaged("its first header is lost"))
            } else {
                data = Result { () throws(FilesystemError) in
                    try LUKSData(metadataOf: volume, headerByteCount: byteCount)
                }
            }
        default: return nil
        }
        var reason = "it is encrypted (LUKS\(version))"
        var locked: LUKSData?
        do {
            let found = try data.get()
            locked = found
            info.sectorSize = found.sectorSize
            if let cipher = found.cipher { info.features.append(cipher) }
            // A volume with its own length does not grow with its partition.
            if found.byteCount == nil { info.byteCount = volume.byteCount }
            reason += ": which of its sectors are in use is known only with its key"
        } catch {
            reason += ", and \((try? error.reasonForWhole()) ?? error.description)"
        }
        var container = Container.whole(info, because: reason)
        container.locked = locked
        return container
    }
}
