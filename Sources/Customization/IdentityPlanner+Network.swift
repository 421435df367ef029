// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import LinuxSystem

extension IdentityPlanner {
    mutating func planNetwork() {
        let known = IdentityFiles.network + survey.kinds.keys.filter(Self.isLease).sorted()
        let present = known.filter { [.file, .link].contains(survey.kinds[$0]) }
        if !present.isEmpty {
            add(.network, "remove \(present.joined(separator: ", "))", .removeFiles(present))
        }
        planInitiator()
        planNVMe()
        for path in Set(survey.cardNames.map(\.path)).sorted() {
            let names = survey.cardNames.filter { $0.path == path }.map(\.name)
            draft.byHand.append(
                "\(path) names network cards (\(names.joined(separator: ", "))): check that this machine has them")
        }
        if draft.steps.allSatisfy({ $0.part != .network }), survey.cardNames.isEmpty {
            draft.alreadyRight.append("there are no DHCP leases or names bound to network cards")
        }
    }

    private static func isLease(_ path: String) -> Bool {
        IdentityFiles.leases.contains { folder, endings in
            path.hasPrefix("\(folder)/") && endings.contains { path.hasSuffix($0) }
        }
    }

    /// RFC 7143 §4.2.7: an initiator's name is unique in the world; two machines with one name share sessions.
    private mutating func planInitiator() {
        let path = "/etc/iscsi/initiatorname.iscsi"
        guard let text = survey.text(path) else { return }
        var isChanged = false
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            guard line.hasPrefix("InitiatorName="), let colon = line.lastIndex(of: ":") else { return String(line) }
            isChanged = true
            return String(line[...colon]) + survey.freshNode.description.filter { $0 != "-" }.prefix(12)
        }
        guard isChanged else {
            if lines.contains(where: { $0.hasPrefix("InitiatorName=") }) {
                draft.byHand.append("\(path) has a name of another form: give the iSCSI initiator another one")
            }
            return
        }
        add(
            .network, "give the iSCSI initiator a new name in \(path)",
            .writeFile(.init(path, from: Array(text.utf8), to: Array(lines.joined(separator: "\n").utf8))))
        draft.warnings.append("the iSCSI initiator has a new name: a target that admits only the old one must admit it")
    }

    /// NVMe base specification 2.0 §4.5: a host NQN of a UUID, and the host identifier of the same UUID.
    private mutating func planNVMe() {
        let contents = [
            ("/etc/nvme/hostnqn", "nqn.2014-08.org.nvmexpress:uuid:\(survey.freshNode)\n"),
            ("/etc/nvme/hostid", "\(survey.freshNode)\n"),
        ]
        for (path, new) in contents {
            guard let old = survey.bytes(path), !old.isEmpty else { continue }
            add(
                .network, "give the NVMe host a new name in \(path)",
                .writeFile(.init(path, from: old, to: Array(new.utf8))))
        }
    }
}
