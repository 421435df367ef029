// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// The references to devices in files of the installed system that are no loader's own: crypttab, the kernel command
/// lines for GRUB and kernel-install, and the names of network cards. No loader: a row, so that its steps come before
/// those that read these files.
struct SystemReferences: BootLoader {
    let name = "references"
    var codes: [FindingCode] { [.crypttabLost, .commandLineLost, .networkNameLost] }

    static let grubDefaults = "/etc/default/grub"
    private static let largestFile = 1 << 18

    func survey(_ scene: BootScene) throws(BootRepairError) -> SystemReferencesFinding? {
        guard scene.system != nil else { return nil }
        let anchor = try scene.anchored()
        var finding = SystemReferencesFinding()
        var paths = ["/etc/crypttab", Self.grubDefaults, "/etc/kernel/cmdline"]
        paths += anchor.names(in: "\(Self.grubDefaults).d").filter { $0.hasSuffix(".cfg") }.prefix(32)
            .map { "\(Self.grubDefaults).d/\($0)" }
        for path in paths {
            guard let bytes = try? anchor.read(path, limit: Self.largestFile) else { continue }
            let file = Self.file(String(decoding: bytes, as: UTF8.self), path: path)
            if !file.words.isEmpty { finding.files.append(file) }
            if path == "/etc/crypttab" { finding.mappings = Self.mappings(String(decoding: bytes, as: UTF8.self)) }
        }
        finding.networkNames = NetworkNames.all(in: anchor)
        if !finding.networkNames.isEmpty { finding.cards = NetworkCard.all() }
        return finding.files.isEmpty && finding.mappings.isEmpty && finding.networkNames.isEmpty ? nil : finding
    }

    /// The names of mappings in crypttab(5), with the devices that they are of.
    static func mappings(_ text: String) -> [SystemReferencesFinding.Mapping] {
        text.split(whereSeparator: \.isNewline).compactMap { line in
            let fields = line.split(whereSeparator: WordChange.isBlank).map(String.init)
            guard fields.count > 1, !fields[0].hasPrefix("#") else { return nil }
            return .init(name: fields[0], device: fields[1])
        }
    }

    /// The references in a file.
    static func file(_ text: String, path: String) -> SystemReferencesFinding.File {
        var file = SystemReferencesFinding.File(path: path, isEditable: !text.unicodeScalars.contains("\r"))
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            guard line.first(where: { !WordChange.isBlank($0) }) != "#" else { continue }
            if path == "/etc/crypttab" {
                // crypttab(5): name, device, key, options.
                let fields = line.split(whereSeparator: WordChange.isBlank).map(String.init)
                let options = fields.count < 4 ? [] : fields[3].split(separator: ",")
                guard fields.count > 1, !options.contains("noauto") else { continue }
                // Encrypted anew at each start: no LUKS is there.
                let isPlain = options.contains { ["swap", "tmp", "plain"].contains($0) }
                file.words.append(
                    DeviceWord(
                        line: number, word: 1, text: fields[1], use: isPlain ? .other : .encrypted, value: fields[1]))
            } else if path == "/etc/kernel/cmdline" || line.hasPrefix("GRUB_CMDLINE_LINUX") {
                file.words += KernelArguments.words(in: line, line: number)
            }
        }
        return file
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var plan = LoaderPlan()
        guard let finding = target.survey.findings[self], let system = target.system else { return plan }
        let obstacle: BootObstacle? =
            target.survey.access == .none
            ? BootObstacle(target.survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true) : nil
        let judge = DeviceJudge(
            volumes: target.survey.volumes, rootPartition: system.rootPartition, fstab: system.fstab,
            capturedDiskName: target.options.capturedDiskName,
            capturedPartUUIDs: target.options.capturedPartUUIDs, words: finding.files.flatMap(\.words))
        for file in finding.files {
            plan.judge(file, judge, obstacle: obstacle, by: name)
        }
        judgeNetwork(finding, target, &plan)
        return plan
    }

    /// Names and addresses of network cards that this machine lacks: only on the machine that will start the disk.
    private func judgeNetwork(_ finding: SystemReferencesFinding, _ target: BootTarget, _ plan: inout LoaderPlan) {
        guard target.options.inRecoveryEnvironment, target.options.machine == nil, !finding.cards.isEmpty else {
            return
        }
        let cards = finding.cards
        let known = Set(cards.flatMap { [$0.name] + $0.likelyNames })
        // A name that a rule gives to an address exists where the address does.
        let given = Set(
            finding.networkNames.compactMap { entry in
                cards.contains { $0.address == entry.address } ? entry.name : nil
            })
        var lost: [(old: String, file: String)] = []
        for entry in finding.networkNames {
            let old = entry.name ?? entry.address ?? ""
            if let address = entry.address, cards.contains(where: { $0.address == address }) { continue }
            if entry.address == nil, let name = entry.name, known.contains(name) || given.contains(name) { continue }
            if !lost.contains(where: { $0.old == old && $0.file == entry.file }) { lost.append((old, entry.file)) }
        }
        let used = Set(finding.networkNames.compactMap(\.name))
        let free = cards.filter { card in
            !used.contains(card.name) && card.likelyNames.allSatisfy { !used.contains($0) }
        }
        let news = free.compactMap { $0.likelyNames.first ?? $0.name }
        let olds = GrubConfiguration.unique(lost.map(\.old))
        for (old, file) in lost {
            let new = olds.count == 1 && news.count == 1 ? news[0] : news.joined(separator: " or ")
            let place = new.isEmpty ? "this machine has no other card" : "\(old) → \(new)"
            plan.find(
                .networkNameLost, "\(file) names the network card \(old), which this machine does not have",
                at: .file(file),
                unfixed: "not changed: \(place)")
        }
    }
}

/// The references in the files of a system.
package struct SystemReferencesFinding: LoaderFinding {
    /// A file with references.
    package struct File: Codable, Equatable, Sendable {
        package var path: String
        package var words: [DeviceWord] = []
        /// Whether lines end as in Unix: only then, words are replaced.
        package var isEditable: Bool

        package init(path: String, isEditable: Bool = true) {
            self.path = path
            self.isEditable = isEditable
        }
    }

    /// An entry of crypttab.
    package struct Mapping: Codable, Equatable, Sendable {
        package var name: String
        package var device: String

        package init(name: String, device: String) {
            self.name = name
            self.device = device
        }
    }

    package var files: [File] = []
    package var mappings: [Mapping] = []
    package var networkNames: [NetworkName] = []
    /// The network cards of the running machine.
    package var cards: [NetworkCard] = []

    package init() {}
}

extension LoaderPlan {
    /// Plans the rewriting of names that another machine does not have, and records what is lost. A lost identifier is
    /// not replaced: a file for all kernels may name another disk on purpose.
    fileprivate mutating func judge(
        _ file: SystemReferencesFinding.File, _ judge: DeviceJudge, obstacle: BootObstacle?, by loader: String
    ) {
        let code: FindingCode = file.path == "/etc/crypttab" ? .crypttabLost : .commandLineLost
        var changes: [WordChange] = []
        var named: [DeviceWord] = []
        for (word, verdict, replacement) in judge.problems(in: file.words) {
            // The root of a command line is this system's: no other disk's.
            let isClear = if case .moved = verdict { true } else { word.use == .root }
            if isClear, file.isEditable, let replacement, let change = word.change(to: word.replacement(replacement)) {
                changes.append(change)
                named.append(word)
            } else {
                find(
                    code, "\(file.path): `\(word.text)` is not on this disk by that name",
                    at: .file(file.path, line: word.line + 1),
                    unfixed: "not changed: if that disk is missing, correct the line")
            }
        }
        guard let first = named.first else { return }
        let sentence =
            "\(file.path): \(named.map { "`\($0.text)`" }.joined(separator: ", ")) may be another device on this machine, or none"
        let evidence = Finding.Evidence.file(file.path, line: first.line + 1)
        if let obstacle {
            fail(code, sentence, at: evidence, obstacle, matters: true)
        } else {
            find(
                code, sentence, at: evidence,
                fixedBy: [.fixReferences(in: TreePath(.system, file.path), changes, by: loader)])
        }
    }
}

extension BootRepairStep {
    /// Whether it changes what GRUB's menu is made from.
    var editsGrubDefaults: Bool {
        if case .editFile(let edit) = verb { edit.file.path.hasPrefix(SystemReferences.grubDefaults) } else { false }
    }
}

extension FindingCode {
    static let crypttabLost = FindingCode(
        "crypttab-lost", .references, .mayStop,
        "crypttab names a volume that is not on this disk by that name: the start waits for it",
        fix:
            "Boot repair writes the UUID of the LUKS volume in place of a device name; the initramfs must be made again"
    )
    static let commandLineLost = FindingCode(
        "command-line-lost", .references, .mayStop,
        "The kernel command line for new menus and images names a device that is not on this disk by that name",
        fix: "Boot repair writes its UUID in /etc/default/grub and /etc/kernel/cmdline")
    static let networkNameLost = FindingCode(
        "network-name-lost", .references, .note,
        "The network configuration names a card that this machine does not have: the system starts without that network",
        fix: "None: correct the named files; the finding says which card takes the place")
}
