// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Emulator
import JobModel
import SystemPackage

/// A format of disk images that virtual machines start from.
package enum ExportFormat: String, CaseIterable, Sendable {
    case qcow2, vmdk, vhdx, vhd, vdi, raw

    /// QEMU's name of the format.
    package var driver: String { self == .vhd ? "vpc" : rawValue }

    /// The options for `qemu-img`.
    package var options: [String] {
        switch self {
        // Without force_size, the length is rounded up to one that the geometry of cylinders can express.
        case .vhd: ["subformat=dynamic", "force_size=on"]
        case .vmdk: ["subformat=monolithicSparse"]
        case .vhdx: ["subformat=dynamic"]
        case .qcow2, .vdi, .raw: []
        }
    }

    /// The options for `qemu-img`, for a hypervisor. VMware's programs take a VMDK for an IDE disk unless it says otherwise,
    /// and ESXi imports none of these.
    package func options(for hypervisor: Hypervisor?) -> [String] {
        options + (self == .vmdk && hypervisor == .vmware ? ["adapter_type=lsilogic"] : [])
    }

    /// The longest disk that the format can hold; `nil` without a limit that matters.
    private var longestByteCount: UInt64? {
        switch self {
        // Both tried with qemu-img: one GiB more is refused.
        case .vhd: 2040 << 30
        case .vhdx: 64 << 40
        case .qcow2, .vmdk, .vdi, .raw: nil
        }
    }

    /// What `KnownImage` calls a file of this format; `nil` for a raw disk, which has no mark.
    package var knownName: String? {
        switch self {
        case .qcow2: "a qcow2 image"
        case .vmdk: "a VMDK image"
        case .vhdx: "a VHDX image"
        case .vhd: "a VHD image"
        case .vdi: "a VDI image"
        case .raw: nil
        }
    }

    private static func named(_ text: String) -> ExportFormat? {
        switch text.lowercased() {
        case "vpc": .vhd
        case "img", "dd": .raw
        case let name: ExportFormat(rawValue: name)
        }
    }

    /// The format that an option names, or else the suffix of the output, or else the usual one of the hypervisor.
    package static func chosen(
        _ name: String?, for output: FilePath, _ hypervisor: Hypervisor? = nil
    ) throws(JobFailure) -> ExportFormat {
        let format = try chosen(name, output, usual: hypervisor?.formats.first)
        try hypervisor?.refuse(format)
        return format
    }

    private static func chosen(
        _ name: String?, _ output: FilePath, usual: ExportFormat?
    ) throws(JobFailure) -> ExportFormat {
        let names = allCases.map(\.rawValue).joined(separator: ", ")
        if let name {
            guard let format = named(name) else {
                throw JobFailure(.usage, "\(name) is no format of disk images: \(names)")
            }
            return format
        }
        let suffix = output.extension ?? ""
        let isImage = ["zst", "enc", "xz"].contains(suffix.lowercased())
        guard let format = named(suffix) ?? (isImage ? nil : usual) else {
            let advice = isImage ? " (`reforge copy` makes images)" : ""
            throw JobFailure(
                .usage,
                "the name \(output) does not say which format to write\(advice): let it end in .qcow2, .vmdk, .vhdx, "
                    + ".vhd, .vdi or .img, or name the format with --format (\(names))")
        }
        return format
    }

    /// Refuses a disk that is too long for the format.
    package func refuse(_ byteCount: UInt64) throws(JobFailure) {
        guard let longestByteCount, byteCount > longestByteCount else { return }
        throw JobFailure(
            .usage,
            "the disk has \(ByteText.rounded(byteCount)), and \(rawValue) holds at most "
                + "\(ByteText.rounded(longestByteCount)): choose qcow2, or a smaller --size")
    }

    /// The nodes of a storage daemon that writes to a file of this format. Zeros become holes.
    func writableNodes(_ path: FilePath) -> [String] {
        [
            #"{"driver":"file","node-name":"file","filename":\#(QemuText.json(path.string)),"discard":"unmap"}"#,
            #"{"driver":"\#(driver)","node-name":"disk","file":"file","discard":"unmap","detect-zeroes":"unmap"}"#,
        ]
    }
}
