// SPDX-License-Identifier: GPL-3.0-or-later

/// The virtual machine that an image is booted in.
public struct MachineOptions: Codable, Equatable, Sendable {
    /// The memory in bytes; `nil` for the default.
    public var memoryByteCount: UInt64?
    /// `bios` or `uefi`; `nil` for what the image needs.
    public var firmware: String?
    /// The disk's controller: `nvme`, `sata`, `virtio`, `ide` or `scsi`; `nil` for that of the captured disk.
    public var diskBus: String?
    /// Whether KVM is used where this machine has it.
    public var usesKVM = true

    /// Creates the default machine.
    public init() {}
}

/// Boots an image in a virtual machine.
public struct VirtualMachineJob: Codable, Equatable, Sendable {
    /// The image, snapshot or kept overlay, as given by the user.
    public var image: String
    /// The machine.
    public var machine = MachineOptions()
    /// `none` or `user`.
    public var network = "none"
    /// `none`, `gtk`, `vnc` or `vnc:N`; `nil` for a window where there is a desktop, else VNC.
    public var display: String?
    /// The new file that keeps what the guest writes; `nil` to drop it.
    public var keep: String?
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for an image.
    public init(image: String) { self.image = image }
}

/// Proves that an image boots.
public struct ProveJob: Codable, Equatable, Sendable {
    /// The image or snapshot, as given by the user.
    public var image: String
    /// The machine.
    public var machine = MachineOptions()
    /// The text that must appear.
    public var expectedText: String?
    /// The time limit in seconds; `nil` for the default.
    public var timeoutSeconds: Double?
    /// Whether the system is asked for a login on the serial line.
    public var asksForSerialLogin = false
    /// The folder for the verdict, the screen and the serial log.
    public var output: String?
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for an image.
    public init(image: String) { self.image = image }
}
