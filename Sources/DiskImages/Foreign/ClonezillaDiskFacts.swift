// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// The length, the sector sizes and the names of a disk, as a Clonezilla folder has them.
struct ClonezillaDiskFacts {
    /// In bytes; `nil` where no list has it.
    var byteCount: UInt64?
    var logicalSectorSize: Int?
    var physicalSectorSize: Int?
    var model: String?
    var serial: String?
    var wwn: String?

    /// - Parameters:
    ///   - disk: the kernel's name.
    ///   - file: the disk's name in names of files.
    init(_ disk: String, file: String, in folder: ForeignFolder) throws(ImageError) {
        if let text = try folder.text("\(file)-pt.parted") { try take(parted: text, folder) }
        if let bytes = try folder.bytes("blkdev.json") { try take(json: bytes, disk, folder) }
        guard (byteCount ?? 0) <= 1 << 60 else { throw folder.refusal("the length of \(disk) is too large to be true") }
    }

    /// `parted unit s print`: the length is in logical sectors.
    private mutating func take(parted text: String, _ folder: ForeignFolder) throws(ImageError) {
        var sectors: UInt64?
        for line in text.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].drop(while: \.isWhitespace)
            switch parts[0] {
            case "Model":
                // "ATA QEMU HARDDISK (scsi)"
                model = value.lastIndex(of: "(").map { String(value[..<$0]) } ?? String(value)
                while model?.last?.isWhitespace == true { model?.removeLast() }
            case "Sector size (logical/physical)":
                let sizes = value.split(separator: "/").map { Int($0.prefix(while: \.isNumber)) }
                (logicalSectorSize, physicalSectorSize) = (sizes.first ?? nil, sizes.count > 1 ? sizes[1] : nil)
            case let key where key.hasPrefix("Disk /dev/"):
                sectors = UInt64(value.prefix(while: \.isNumber))
            default: continue
            }
        }
        try checkSectorSizes(folder)
        guard let sectors else { return }
        let (length, overflow) = sectors.multipliedReportingOverflow(by: UInt64(logicalSectorSize ?? 512))
        byteCount = overflow ? .max : length
    }

    private func checkSectorSizes(_ folder: ForeignFolder) throws(ImageError) {
        guard [512, 1024, 2048, 4096].contains(logicalSectorSize ?? 512),
            (512...65536).contains(physicalSectorSize ?? 512)
        else { throw folder.refusal("the sector size of its disk is not valid") }
    }

    private mutating func take(
        json bytes: [UInt8], _ disk: String, _ folder: ForeignFolder
    ) throws(ImageError) {
        // A remark only: a list that cannot be read is as good as none.
        guard let list = try? JSONText.decode(BlockDeviceList.self, bytes),
            let device = list.blockdevices.first(where: { $0.name == disk || $0.kname == disk })
        else { return }
        byteCount = byteCount ?? device.size?.number
        logicalSectorSize = logicalSectorSize ?? device.logicalSectorSize?.number.flatMap { Int(exactly: $0) }
        physicalSectorSize = physicalSectorSize ?? device.physicalSectorSize?.number.flatMap { Int(exactly: $0) }
        (model, serial, wwn) = (device.model ?? model, device.serial, device.wwn)
        try checkSectorSizes(folder)
    }
}

/// `lsblk -JOb`.
private struct BlockDeviceList: Decodable {
    /// A number, which older programs write as a text.
    struct Count: Decodable {
        var number: UInt64?

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            number =
                if let text = try? value.decode(String.self) { UInt64(text) } else { try? value.decode(UInt64.self) }
        }
    }

    struct Device: Decodable {
        var name: String
        var kname: String?
        var size: Count?
        var logicalSectorSize: Count?
        var physicalSectorSize: Count?
        var model: String?
        var serial: String?
        var wwn: String?

        enum CodingKeys: String, CodingKey {
            case name, kname, size, model, serial, wwn
            case logicalSectorSize = "log-sec"
            case physicalSectorSize = "phy-sec"
        }
    }

    var blockdevices: [Device]
}
