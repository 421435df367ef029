// SPDX-License-Identifier: GPL-3.0-or-later

/// A device of a machine on the way from a disk to the processor, and its driver in the running kernel.
package struct DeviceDriver: Codable, Hashable, Sendable {
    /// The kernel's description of the device, by which every kernel finds its own driver (`pci:v00008086d…`).
    package var modalias: String?
    /// The name of the running kernel's driver: `ahci`, `virtio-pci`.
    package var driver: String?
    /// The module of that driver; `nil` if it is built in.
    package var module: String?

    package init(modalias: String? = nil, driver: String? = nil, module: String? = nil) {
        self.modalias = modalias
        self.driver = driver
        self.module = module
    }

    /// Its name for the user.
    package var name: String { module ?? driver ?? modalias ?? "unknown device" }
}
