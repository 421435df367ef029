// SPDX-License-Identifier: GPL-3.0-or-later

extension BootRepairStep {
    /// Replaces references to devices in a configuration file.
    static func fixReferences(in file: TreePath, _ changes: [WordChange], by loader: String) -> BootRepairStep {
        let text = changes.map { "\($0.from) → \($0.to)" }.joined(separator: "; ")
        let name = "\(file.path)\(file.place == .system ? "" : " on \(file.place.name)")"
        return BootRepairStep(
            "rewrite \(name) (\(text))", .editFile(FileEdit(file, changes, done: "rewrote \(name) (\(text))")),
            by: loader)
    }

    /// Has the system's kernel-install(8) write kernel, initramfs and entry of a version again.
    static func installKernel(_ version: String, file: String, by loader: String) -> BootRepairStep {
        let command = ["kernel-install", "add", version, file]
        return BootRepairStep(
            "run the installed system's `\(command.joined(separator: " "))`",
            .runTool(
                ToolRun(
                    command, needsESP: true, success: .needed(consequence: "the kernel \(version) has no whole entry")),
                otherwise: nil), by: loader)
    }
}

extension LoaderPlan {
    /// Plans the rewriting of wrong references in a file, and records those that cannot be rewritten.
    /// - Parameters:
    ///   - hasInitramfs: whether user space finds the root.
    ///   - obstacle: why the file cannot be written.
    mutating func judgeReferences(
        _ words: [DeviceWord], in file: TreePath, _ judge: DeviceJudge, hasInitramfs: Bool = true,
        isEditable: Bool = true,
        obstacle: BootObstacle?, matters: Bool, by loader: String
    ) {
        var changes: [WordChange] = []
        var named: [DeviceWord] = []
        for (word, verdict, replacement) in judge.problems(in: words, hasInitramfs: hasInitramfs) {
            if isEditable, let replacement, let change = word.change(to: word.replacement(replacement)) {
                changes.append(change)
                named.append(word)
                continue
            }
            let isMoved = if case .moved = verdict { true } else { false }
            find(
                code(word),
                "\(file.path): `\(word.text)` names "
                    + (isMoved
                        ? "a device that has another name on this machine" : "a device that is not on this disk"),
                severity: matters ? nil : .note, at: .file(file.path, line: word.line + 1),
                unfixed: isEditable
                    ? "nothing on this disk clearly replaces it: correct it"
                    : "its lines do not end as in Unix: correct it")
        }
        guard let first = named.first else { return }
        let texts = named.map { "`\($0.text)`" }.joined(separator: ", ")
        let sentence = "\(file.path): \(texts) \(named.count == 1 ? "is" : "are") not on this disk by that name"
        let evidence = Finding.Evidence.file(file.path, line: first.line + 1)
        if let obstacle {
            fail(code(first), sentence, at: evidence, obstacle, matters: matters)
        } else {
            find(
                code(first), sentence, severity: matters ? nil : .note, at: evidence,
                fixedBy: [.fixReferences(in: file, changes, by: loader)])
        }
    }

    private func code(_ word: DeviceWord) -> FindingCode {
        switch word.use {
        case .root: .loaderRootLost
        case .encrypted: .loaderLUKSLost
        case .resume: .loaderResumeLost
        case .logicalVolume, .array, .other: .loaderDeviceLost
        }
    }
}

extension DeviceWord {
    /// A replacement in the form that the word takes: `rd.luks.uuid=` takes no tag.
    func replacement(_ reference: String) -> String {
        let isBare = use == .encrypted && !value.hasPrefix("/") && !value.contains("=")
        return isBare && reference.hasPrefix("UUID=") ? String(reference.dropFirst(5)) : reference
    }
}

extension FindingCode {
    /// The references in the loaders' configurations.
    static let ofReferences: [FindingCode] = [.loaderRootLost, .loaderLUKSLost, .loaderResumeLost, .loaderDeviceLost]

    static let loaderRootLost = FindingCode(
        "entry-root-lost", .configuration, .stops,
        "An entry of the loader, or the command line of a kernel image, names a root that is not on this disk by that name",
        fix: "Boot repair writes the UUID of the system's root")
    static let loaderLUKSLost = FindingCode(
        "entry-luks-lost", .configuration, .mayStop,
        "An entry of the loader names a LUKS volume that is not on this disk by that name",
        fix: "Boot repair writes the UUID where the volume is clear; else correct the entry")
    static let loaderResumeLost = FindingCode(
        "entry-resume-lost", .configuration, .mayStop,
        "An entry of the loader resumes from a device that is not on this disk by that name: each start may wait for it",
        fix: "Boot repair writes the UUID of the only swap; else correct the entry")
    static let loaderDeviceLost = FindingCode(
        "entry-device-lost", .configuration, .mayStop,
        "An entry of the loader names another device that is not on this disk by that name",
        fix: "Correct the entry")
}
