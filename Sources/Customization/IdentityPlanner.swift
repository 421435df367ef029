// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// Makes a plan from a survey. Pure: equal surveys and requests give equal plans.
struct IdentityPlanner {
    let survey: IdentitySurvey
    let request: IdentityRequest
    var draft: IdentityPlan

    init(_ survey: IdentitySurvey, _ request: IdentityRequest) {
        self.survey = survey
        self.request = request
        draft = IdentityPlan(survey)
    }

    mutating func plan() -> IdentityPlan {
        guard survey.system != nil else {
            draft.pending.append(
                (survey.systemProblem ?? "no installed Linux system was found")
                    + ": there is no identity to renew")
            noteWindows()
            return draft
        }
        for problem in survey.mountProblems {
            let matters =
                ["/etc", "/boot", "/efi", "/var", "/usr"].contains { problem.path == $0 }
                || problem.path.hasPrefix("/boot/")
            let sentence = "\(problem.path) could not be mounted, and keeps what it holds: \(problem.reason)"
            if matters { draft.pending.append(sentence) } else { draft.warnings.append(sentence) }
        }
        // fstab names it by its old identifier until this run has followed that.
        if draft.keepsRecord {
            draft.pending.append(
                "an interrupted change of identifiers is not finished: run the same command again, which then finds what "
                    + "/etc/fstab names")
        }
        let parts = request.parts
        // The volumes first: their references are in files that other parts rewrite, too.
        if parts.contains(.uuids) || !draft.unfinished.isEmpty { planVolumes(renews: parts.contains(.uuids)) }
        if parts.contains(.lvm) { planGroups() }
        if parts.contains(.uuids) || parts.contains(.lvm) { planLoader() }
        if parts.contains(.hostname), let name = request.hostname { planHostname(name) }
        if parts.contains(.machineID) { planMachineID() }
        if parts.contains(.sshKeys) { planSSHKeys() }
        if parts.contains(.randomSeed) { planSeeds() }
        if parts.contains(.network) { planNetwork() }
        noteWindows()
        for (path, sentence) in IdentityFiles.byHand where survey.kinds[path] != nil {
            draft.byHand.append(sentence)
        }
        return draft
    }

    mutating func add(_ part: IdentityPart, _ description: String, _ verb: IdentityVerb) {
        draft.steps.append(IdentityStep(part, description, verb))
    }

    private mutating func noteWindows() {
        let windows = survey.volumes.filter { $0.kind == .ntfs }
        guard let first = windows.first else { return }
        draft.byHand.append(
            "a Windows on \(first.place) keeps its SID, its name and its activation: only sysprep in the started Windows "
                + "renews them")
    }

    // MARK: Files

    private mutating func planHostname(_ name: String) {
        let path = "/etc/hostname"
        let bytes = survey.bytes(path)
        let old = survey.text(path).flatMap(HostNames.name) ?? ""
        if old == name {
            draft.alreadyRight.append("the host name is \(name)")
        } else if survey.kinds[path] != nil, bytes == nil {
            draft.pending.append("\(path) cannot be read, and is not changed")
        } else {
            add(
                .hostname, "set the host name to \(name)\(old.isEmpty ? "" : " (it is \(old))")",
                .writeFile(.init(path, from: bytes, to: Array("\(name)\n".utf8))))
        }
        guard !old.isEmpty, old != name else { return }
        let names = HostNames(old: old, new: name)
        if let text = survey.text("/etc/hosts") {
            let new = names.replaced(inHosts: text)
            if new != text {
                add(
                    .hostname, "name the machine's own addresses in /etc/hosts \(name)",
                    .writeFile(.init("/etc/hosts", from: Array(text.utf8), to: Array(new.utf8))))
            }
            for address in names.otherAddresses(inHosts: text).prefix(8) {
                draft.warnings.append("/etc/hosts: \(address) keeps the name \(old)")
            }
        } else if survey.kinds["/etc/hosts"] != nil {
            draft.warnings.append("/etc/hosts cannot be read as text: it keeps the name \(old)")
        }
        if let mail = survey.text("/etc/mailname"), let mailName = HostNames.name(in: mail),
            let new = names.renamed(mailName)
        {
            add(
                .hostname, "set /etc/mailname to \(new)",
                .writeFile(.init("/etc/mailname", from: Array(mail.utf8), to: Array("\(new)\n".utf8))))
        }
    }

    private mutating func planMachineID() {
        let path = "/etc/machine-id"
        let old = survey.text(path).flatMap { $0.split(whereSeparator: \.isNewline).first.map(String.init) } ?? ""
        let isID = old.utf8.count == 32 && old.allSatisfy(\.isHexDigit)
        switch survey.kinds[path] {
        case nil: draft.alreadyRight.append("there is no \(path)")
        case .file?, .link?:
            // machine-id(5): an empty file is filled at the next start, without the presets of a first boot.
            if survey.text(path) == nil {
                draft.pending.append("\(path) cannot be read, and is not changed")
            } else if old.isEmpty || old == "uninitialized" {
                draft.alreadyRight.append("\(path) is empty: the next start makes a new id")
            } else {
                keepEntryToken(old, isID: isID)
                add(
                    .machineID, "empty \(path), so that the next start makes a new id",
                    .writeFile(
                        .init(
                            path, from: survey.bytes(path), to: [],
                            permissions: [.ownerRead, .groupRead, .otherRead])))
                if isID {
                    draft.warnings.append("the journal of the captured machine stays in /var/log/journal/\(old)")
                }
            }
        case .folder?, .other?: draft.pending.append("\(path) is no file, and is not changed")
        }
        // A link leads to /etc/machine-id.
        if survey.kinds["/var/lib/dbus/machine-id"] == .file {
            add(.machineID, "remove /var/lib/dbus/machine-id", .removeFiles(["/var/lib/dbus/machine-id"]))
        }
    }

    /// kernel-install(8) names its folders and entries after the machine id unless there is a token: installed kernels
    /// would no longer be found, and new ones would go beside them.
    private mutating func keepEntryToken(_ old: String, isID: Bool) {
        let token = "/etc/kernel/entry-token"
        guard isID, survey.kinds[token] == nil else { return }
        let tops = ["/boot"] + [survey.espFolder].compactMap(\.self)
        let isUsed =
            tops.contains { survey.kinds["\($0)/\(old)"] == .folder }
            || survey.texts.contains { $0.path.contains("/loader/entries/\(old)-") }
        guard isUsed else { return }
        add(
            .machineID, "write \(token), as the kernels' boot entries are named after the old id",
            .writeFile(.init(token, from: nil, to: Array("\(old)\n".utf8))))
    }

    private mutating func planSSHKeys() {
        let all = survey.kinds.keys.filter { $0.hasPrefix("/etc/ssh/") }.sorted()
        let keys = all.filter { Self.isHostKey($0) }
        let leftovers = all.filter { $0.hasPrefix("/etc/ssh/\(IdentityFiles.setAside)") }
        // They are removed only once there are new keys: after an interruption they may be the only ones.
        if keys.isEmpty, leftovers.isEmpty {
            draft.alreadyRight.append("there are no SSH host keys")
        } else if let obstacle = survey.obstacleToTools {
            draft.pending.append("the SSH host keys are kept, as new ones cannot be made here: \(obstacle)")
        } else if !survey.tools.contains("ssh-keygen") {
            draft.pending.append("the SSH host keys are kept, as the system has no ssh-keygen to make new ones")
        } else {
            add(
                .sshKeys,
                "replace \(keys.count) files of SSH host keys, with the system's `ssh-keygen -A`"
                    + (leftovers.isEmpty ? "" : ", and \(leftovers.count) that an interrupted run set aside"),
                .renewSSHKeys(leftovers + keys))
            if keys.contains(where: { $0.hasSuffix("-cert.pub") }) {
                draft.warnings.append("the certificates of the SSH host keys are removed with them: sign the new keys")
            }
        }
        for key in survey.kinds.keys.filter({ $0.hasPrefix("/etc/dropbear/dropbear_") }).sorted() {
            let type = key.dropFirst("/etc/dropbear/dropbear_".count).dropLast("_host_key".count)
            guard survey.tools.contains("dropbearkey"), survey.obstacleToTools == nil,
                ["rsa", "ecdsa", "ed25519"].contains(type)
            else {
                draft.pending.append("\(key) is kept, as the system cannot make a new one here")
                continue
            }
            add(.sshKeys, "remove \(key)", .removeFiles([key]))
            add(
                .sshKeys, "make a new \(key) with the system's dropbearkey",
                .runTool(
                    ToolRun(
                        ["dropbearkey", "-t", String(type), "-f", key],
                        success: .needed(consequence: "there is no \(key)"))))
        }
    }

    /// sshd_config(5), `HostKey`: `ssh_host_TYPE_key`, with `.pub` and `-cert.pub` beside it.
    private static func isHostKey(_ path: String) -> Bool {
        let name = path.dropFirst("/etc/ssh/".count)
        return name.hasPrefix("ssh_host_") && ["_key", "_key.pub", "_key-cert.pub"].contains { name.hasSuffix($0) }
    }

    private mutating func planSeeds() {
        var seeds = IdentityFiles.seeds
        if let esp = survey.espFolder { seeds.append("\(esp)/loader/random-seed") }
        // systemd-creds(1): without it, credentials that are encrypted with it are lost.
        if survey.kinds[IdentityFiles.credentialSecret] != nil, survey.kinds[IdentityFiles.credentials] != nil {
            seeds.removeAll { $0 == IdentityFiles.credentialSecret }
            draft.byHand.append(
                "\(IdentityFiles.credentialSecret) is the captured machine's, and is kept for the credentials in "
                    + "\(IdentityFiles.credentials): encrypt them again with another one")
        }
        let present = seeds.filter { [.file, .link].contains(survey.kinds[$0]) }
        guard !present.isEmpty else {
            draft.alreadyRight.append("there are no saved random seeds")
            return
        }
        add(.randomSeed, "remove \(present.joined(separator: ", "))", .removeFiles(present))
    }
}
