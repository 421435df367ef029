// SPDX-License-Identifier: GPL-3.0-or-later

/// Makes a disk image for virtual machines from an image, a snapshot or a disk.
public struct ExportJob: Codable, Equatable, Sendable {
    /// The image, snapshot or disk, as given by the user.
    public var image: String
    /// The file to make.
    public var output: String
    /// The format: `qcow2`, `vmdk`, `vhdx`, `vhd`, `vdi` or `raw`; `nil` for the one that the output's name says.
    public var format: String?
    /// The length of the new disk in bytes; `nil` for that of the captured disk.
    public var byteCount: UInt64?
    /// How partitions are laid out: `keep`, `grow` or `proportional`; `nil` for the default.
    public var layout: String?
    /// The sizes of single partitions, as `N=SIZE`.
    public var partitions: [String] = []
    /// The folder for data that does not fit while filesystems shrink, and for a decompressed disk.
    public var scratch: String?
    /// Whether an existing disk image is replaced.
    public var overwrites = false
    /// Whether the intact data of a damaged image is exported.
    public var salvages = false
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false
    /// The hypervisor that the disk is adapted to: `vmware`, `hyperv`, `kvm` or `virtualbox`; `nil` for none.
    public var hypervisor: String?
    /// With a hypervisor: the folder with the kernel and the initramfs of the medium; `nil` for the usual places.
    public var media: String?
    /// With a hypervisor: whether KVM is used where it works.
    public var allowsKVM = true
    /// Whether nothing is written.
    public var isDryRun = false

    /// Creates a job with its source and its output.
    public init(image: String, output: String) {
        self.image = image
        self.output = output
    }

    /// Whether the disk is laid out again, as a restore does it; otherwise it is copied byte for byte.
    public var isRestored: Bool { byteCount != nil || layout != nil || !partitions.isEmpty || salvages }

    /// Why the options contradict each other; `nil` if they do not.
    public var contradiction: String? {
        if image == "-" {
            return "an image from a pipe cannot be read in any order: save it as a file first, and export that"
        }
        if output == "-" { return "a disk image cannot be written to a pipe: give a file" }
        if let byteCount, byteCount == 0 || byteCount % 512 != 0 {
            return "--size takes a multiple of 512 bytes, the sector size of virtual machines' disks"
        }
        if !luksKeyFiles.isEmpty, !isRestored, hypervisor == nil {
            return "--luks-key-file needs --for, --size, --layout or --partition"
        }
        if hypervisor == nil, media != nil || !allowsKVM { return "--media and --no-kvm need --for" }
        return nil
    }
}
