// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Emulator
import JobModel

/// The virtual machine of `vm` and `prove`.
struct MachineArguments: ParsableArguments {
    enum Firmware: String, ExpressibleByArgument, CaseIterable { case bios, uefi }

    @Option(help: "The memory of the machine (default: 2G, or half of what is free).") var memory: ByteSize?
    @Option(help: "The firmware (default: what the image boots with).") var firmware: Firmware?
    @Option(
        name: .customLong("disk"),
        help: "The controller of its disk (default: that of the captured disk where it is NVMe or virtio, else sata).")
    var diskBus: MachineSettings.DiskBus?
    @Flag(
        name: .customLong("no-kvm"),
        help: "Emulate the processor although this machine has KVM: slower, but independent of it.")
    var noKVM = false

    var options: MachineOptions {
        var options = MachineOptions()
        (options.memoryByteCount, options.firmware) = (memory?.byteCount, firmware?.rawValue)
        (options.diskBus, options.usesKVM) = (diskBus?.rawValue, !noKVM)
        return options
    }
}

extension MachineSettings.DiskBus: ExpressibleByArgument {}
extension MachineSettings.Network: ExpressibleByArgument {}
