// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A store of UEFI variables as OVMF has it in its second flash: an empty one, with variables added.
///
/// EDK II, MdePkg/Include/Pi/PiFirmwareVolume.h and MdeModulePkg/Include/Guid/VariableFormat.h.
package struct FirmwareVariables {
    package private(set) var bytes: [UInt8]
    private var position: Int
    private let end: Int

    /// gEfiAuthenticatedVariableGuid.
    private static let storeGUID = "aaf32c78-947b-439a-a180-2e144ec37792"
    /// gEfiGlobalVariableGuid (UEFI 2.10 §3.3).
    private static let globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

    /// - Parameter template: an empty store; `nil` for one in another format.
    package init?(template: [UInt8]) {
        // The header of the volume has its own length at 48, and its signature at 40.
        guard template.count >= 0x80, Array(template[40..<44]) == Array("_FVH".utf8) else { return nil }
        let header = Int(template[48]) | Int(template[49]) << 8
        guard header <= template.count - 28,
            let guid = try? GUID(mixedEndianBytes: Array(template[header..<header + 16])),
            guid == GUID(Self.storeGUID)
        else { return nil }
        let size = (0..<4).reduce(0) { $0 | Int(template[header + 16 + $1]) << ($1 * 8) }
        guard size > 28, size <= template.count - header else { return nil }
        (bytes, position, end) = (template, header + 28, header + size)
        guard bytes[position] == 0xFF else { return nil }
    }

    /// Adds a global variable that the boot manager keeps: `Boot0001`, `BootOrder`.
    /// - Returns: whether there was room.
    package mutating func add(_ name: String, _ value: [UInt8]) -> Bool {
        guard let guid = GUID(Self.globalGUID), value.count <= 1 << 16, name.utf16.count <= 64 else { return false }
        let text = Self.wide(name)
        // VARIABLE_DATA, VAR_ADDED; attributes: non-volatile, boot service and runtime access.
        var record: [UInt8] = [0xAA, 0x55, 0x3F, 0x00, 0x07, 0, 0, 0]
        // Monotonic count, time stamp and key index, which only authenticated variables have.
        record += [UInt8](repeating: 0, count: 8 + 16 + 4)
        record += Self.little(UInt64(text.count), 4) + Self.little(UInt64(value.count), 4)
        record += guid.mixedEndianBytes + text + value
        while record.count % 4 != 0 { record.append(0xFF) }
        guard record.count <= end - position else { return false }
        bytes.replaceSubrange(position..<position + record.count, with: record)
        position += record.count
        return true
    }

    /// A load option for a file on a partition of a GPT (UEFI 2.10 §3.1.3, §10.3.5.1, §10.3.5.4).
    package static func loadOption(
        _ name: String, partition: GUID, number: UInt32, firstSector: UInt64, sectorCount: UInt64, file: String
    ) -> [UInt8] {
        var path: [UInt8] = [0x04, 0x01, 42, 0] + little(UInt64(number), 4) + little(firstSector, 8)
        path += little(sectorCount, 8) + partition.mixedEndianBytes + [0x02, 0x02]
        let place = wide(String(file.prefix(256)))
        path += [0x04, 0x04] + little(UInt64(place.count + 4), 2) + place + [0x7F, 0xFF, 0x04, 0x00]
        return little(1, 4) + little(UInt64(path.count), 2) + wide(String(name.prefix(64))) + path
    }

    private static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<UInt64(count)).map { UInt8(value >> ($0 * 8) & 0xFF) }
    }

    /// UCS-2 with a zero at the end.
    private static func wide(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for unit in text.utf16 { bytes += little(UInt64(unit), 2) }
        return bytes + [0, 0]
    }
}
