// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// What can be wrong with how a disk starts: the stable code of a finding, and its entry in docs/boot.md.
///
/// A loader declares its codes in its own file (`BootLoader.codes`); those of no loader are in `FindingCode.common`.
/// A code is never renamed or used for something else: scripts act on it.
package struct FindingCode: Hashable, Sendable {
    /// The stages of a start, in order. Findings are reported in this order.
    package enum Stage: String, Codable, CaseIterable, Comparable, Sendable {
        case firmware, table
        /// Boot code in block 0, or the EFI system partition.
        case bootCode = "boot-code"
        case loader, configuration, kernel, initramfs
        /// The driver of the target's controller.
        case driver
        case root
        /// fstab, crypttab, resume.
        case references
        case windows

        package static func < (one: Stage, other: Stage) -> Bool {
            (allCases.firstIndex(of: one) ?? 0) < (allCases.firstIndex(of: other) ?? 0)
        }
    }

    /// Lower case words and hyphens: `fstab-elsewhere`.
    package let name: String
    package let stage: Stage
    /// The severity of a finding with this code, unless the finding itself says otherwise.
    package let severity: Finding.Severity
    /// What it means, a sentence without a period at its end.
    package let meaning: String
    /// What repairs it, a sentence without a period at its end.
    package let fix: String

    package init(_ name: String, _ stage: Stage, _ severity: Finding.Severity, _ meaning: String, fix: String) {
        self.name = name
        self.stage = stage
        self.severity = severity
        self.meaning = meaning
        self.fix = fix
    }

    /// The codes of all rows of the table and the common ones, in the order of the stages.
    package static var all: [FindingCode] {
        inOrder(common + BootLoaders.table.rows.flatMap(\.codes)) { $0.stage }
    }

    /// The code of this name.
    package static func named(_ name: String) -> FindingCode? { all.first { $0.name == name } }

    /// Sorts by stage; elements of one stage keep their order.
    static func inOrder<Element>(_ elements: [Element], _ stage: (Element) -> Stage) -> [Element] {
        Stage.allCases.flatMap { wanted in elements.filter { stage($0) == wanted } }
    }

    /// The row of the code in docs/boot.md.
    package var documentation: String { "| `\(name)` | \(severity.text) | \(meaning) | \(fix) |" }
}
