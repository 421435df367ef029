// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// Plans unified kernel images: whether they find this system, and what starts them.
struct UnifiedKernelsPlanner {
    let target: BootTarget
    var plan = LoaderPlan()

    private let loader = UnifiedKernels()
    private var finding: UnifiedKernelsFinding { target.survey.findings[loader] ?? UnifiedKernelsFinding() }

    init(_ target: BootTarget) { self.target = target }

    mutating func planImages() {
        guard target.survey.findings[loader] != nil else { return }
        if target.startsUnifiedKernel {
            plan.firmware = [.uefi]
            planStart()
        }
        judgeImages()
    }

    /// The image that firmware starts itself, where no boot menu does.
    private mutating func planStart() {
        guard !target.usesSystemdBoot else { return }
        if finding.fallback != nil {
            plan.alreadyRight.append("UEFI: the fallback loader \(ESPSurvey.fallbackPath) is a unified kernel image")
        }
        guard let image = newest, image.place == .esp else { return }
        var start = PlannedLoader(
            folder: "Linux", name: image.name, isNew: false, label: target.system?.identifier ?? "Linux")
        // All images may fill the partition; a copy is made in memory.
        let used = finding.images.reduce(0 as UInt64) { $0 + $1.byteCount }
        let room = target.survey.volume(image.partition).map { UInt64($0.range.count) } ?? 0
        start.mayBeFallback = image.byteCount <= Self.largestCopy && used + image.byteCount + Self.reserve <= room
        plan.start = start
        // Otherwise the rule of all loaders applies: a fallback loader is made where there is none.
        if finding.fallback == nil { plan.alreadyRight.append("UEFI: \(image.path) is a unified kernel image") }
    }

    /// The longest copy in bytes, and the room for the FAT itself and other files.
    private static let largestCopy: UInt64 = 60 << 20
    private static let reserve: UInt64 = 4 << 20

    /// Versions are compared as by their numbers: 6.10 is newer than 6.9.
    private var newest: UnifiedKernel? {
        let usable = finding.images.filter { $0.isOwn != false && $0.problem == nil }
        return usable.max { Self.numbers($0).lexicographicallyPrecedes(Self.numbers($1)) }
    }

    private static func numbers(_ image: UnifiedKernel) -> [UInt64] {
        (image.version ?? image.name).split { !($0.isASCII && $0.isNumber) }.map { UInt64($0) ?? .max }
    }

    private mutating func judgeImages() {
        guard let system = target.system else { return }
        let own = finding.own + [finding.fallback].compactMap { $0 }.filter { $0.isOwn == true }
        let judge = DeviceJudge(
            volumes: target.survey.volumes, rootPartition: system.rootPartition, fstab: system.fstab,
            capturedDiskName: target.options.capturedDiskName,
            capturedPartUUIDs: target.options.capturedPartUUIDs, words: own.flatMap(\.words))
        var isRight = !own.isEmpty
        for image in own {
            let problems = judge.problems(in: image.words, hasInitramfs: image.hasInitramfs)
            guard problems.isEmpty else {
                isRight = false
                let texts = problems.map { "`\($0.word.text)`" }.joined(separator: ", ")
                let stops = problems.contains { $0.word.use == .root }
                rebuild(
                    image, "the command line of \(image.path) names what is not on this disk by that name (\(texts))",
                    .ukiReferenceLost, severity: stops ? .stops : .mayStop)
                continue
            }
            if image.commandLine?.isEmpty == false, !image.words.contains(where: { $0.use == .root }),
                let root = target.survey.volume(system.rootPartition), !target.findsByType(root)
            {
                isRight = false
                rebuild(
                    image,
                    "the command line of \(image.path) names no root, and \(root.place) is not of the type by "
                        + "which systemd finds one", .ukiReferenceLost, severity: .stops)
            }
        }
        for image in finding.images where image.problem != nil {
            plan.find(
                .ukiDamaged, "\(image.path) could not be read: \(image.problem ?? "")", at: evidence(image),
                unfixed: "other images or entries may start the system")
        }
        if isRight {
            plan.alreadyRight.append("\(own[0].path) names this system's root by an identifier that a restore keeps")
        }
    }

    /// A command line inside of an image changes only with the image.
    private mutating func rebuild(
        _ image: UnifiedKernel, _ sentence: String, _ code: FindingCode, severity: Finding.Severity
    ) {
        func leave(_ reason: String) {
            plan.find(code, sentence, severity: severity, at: evidence(image), unfixed: reason)
        }
        guard image.name.lowercased() != "bootx64.efi" else {
            return leave("build the image again in the started system, and copy it there")
        }
        guard !image.isSigned || finding.hasSigning else {
            return leave(
                "it is signed, and the system has no signing of its own: a new one would not start with Secure Boot")
        }
        guard finding.hasKernelInstall, let version = image.version, let file = finding.kernelFiles[version] else {
            return leave("the installed system cannot build it (kernel-install and the kernel \(image.version ?? ""))")
        }
        guard finding.commandLineFile == "/etc/kernel/cmdline" else {
            return leave("the system has no /etc/kernel/cmdline: a new image would get the command line of this start")
        }
        if let obstacle = target.obstacleToPrograms ?? target.obstacleToESP {
            plan.fail(code, sentence, at: evidence(image), obstacle, matters: severity == .stops)
            return
        }
        plan.find(
            code, sentence, severity: severity, at: evidence(image),
            fixedBy: [.installKernel(version, file: file, by: loader.name)])
    }

    private func evidence(_ image: UnifiedKernel) -> Finding.Evidence {
        Finding.Evidence(partition: image.partition, file: image.path)
    }
}

extension BootTarget {
    /// Whether firmware itself starts a unified kernel image: there is no other loader of this system.
    var startsUnifiedKernel: Bool {
        guard let finding = survey.findings[UnifiedKernels()], let esp = survey.esp else { return false }
        if finding.fallback != nil, finding.fallback?.isOwn != false { return true }
        return !finding.images.isEmpty && !usesSystemdBoot && esp.loader(forDistribution: system?.identifier) == nil
    }
}

extension UnifiedKernels {
    var codes: [FindingCode] { [.ukiReferenceLost, .ukiDamaged] }
}

extension FindingCode {
    static let ukiReferenceLost = FindingCode(
        "uki-reference-lost", .configuration, .stops,
        "The command line inside of a unified kernel image names what is not on this disk by that name, or no root",
        fix:
            "Boot repair rewrites /etc/kernel/cmdline and runs the system's `kernel-install`, if the image is unsigned or the system signs itself"
    )
    static let ukiDamaged = FindingCode(
        "uki-damaged", .kernel, .mayStop, "A unified kernel image cannot be read",
        fix: "Build it again in the system (`kernel-install add`)")
}
