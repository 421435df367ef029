// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import JobModel
import LinuxSystem

extension FileCriteria {
    func match(_ entry: AgentEntry, name: [UInt8]) -> Bool {
        if let newerThan, entry.modified <= newerThan { return false }
        switch type {
        case "f": guard [.file, .hardLink].contains(entry.kind) else { return false }
        case "d": guard entry.kind == .folder else { return false }
        case "l": guard entry.kind == .link else { return false }
        default: break
        }
        guard let pattern = self.name else { return true }
        return NamePattern(pattern).matches(name)
    }
}
