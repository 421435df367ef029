// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

extension BootRepairExecutor {
    /// Changes the firmware's boot entries.
    mutating func changeFirmware(_ change: NVRAMChange, _ step: BootRepairStep) {
        var isNeeded = false
        let done: String
        do throws(SystemCallError) {
            let output: ChildProcess.Output
            switch change {
            case .add(let label, let partition, let guid, let path, let needed):
                isNeeded = needed
                guard let name = plan.disk.kernelName else { return }
                output = try FirmwareEntries.add(label: label, disk: name, partition: partition, path: path)
                done = "added the firmware boot entry \"\(label)\" for \(path)"
                if output.succeeded, FirmwareEntries.survey().entry(for: path, on: guid) == nil {
                    outcome.warnings.append("the firmware did not keep the boot entry \"\(label)\"")
                    return
                }
            case .putFirst(let number, let label):
                output = try FirmwareEntries.putFirst(number)
                done = "put the firmware boot entry \(number) \"\(label)\" first"
            case .remove(let number, let label):
                output = try FirmwareEntries.remove(number)
                done = "removed the firmware boot entry \(number) \"\(label)\""
            }
            if output.succeeded {
                outcome.changed.append(done)
                return
            }
            note("could not \(step): efibootmgr: \(output.lastWords)", isNeeded)
        } catch {
            note("could not \(step): \(error)", isNeeded)
        }
    }

    /// A full or read-only NVRAM is only a warning if the fallback loader starts the machine.
    private mutating func note(_ sentence: String, _ isNeeded: Bool) {
        if isNeeded {
            pending.append("\(sentence). Add the entry in the firmware's setup")
        } else {
            outcome.warnings.append("\(sentence). The machine starts by the fallback loader")
        }
    }
}
