// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// A boot loader: a row of `BootLoaders.table`. Survey and plan are specific to the loader; the verbs of the plan are
/// not.
package protocol BootLoader: Sendable {
    associatedtype Finding: LoaderFinding

    /// Its name in the table, unique in it.
    var name: String { get }
    /// Programs of an installed system that it runs. The first existing one determines the processor of the system.
    var programs: [String] { get }
    /// The names of its configuration files that may be beside a loader on the EFI system partition.
    var configurations: [String] { get }
    /// The codes of its findings, with their entries in docs/boot.md. Declared in the row's own file.
    var codes: [FindingCode] { get }

    /// Looks for itself on the disk and in the installed system. Nothing is written, and no program of the system runs.
    /// - Returns: `nil` if there is nothing to report.
    func survey(_ scene: BootScene) throws(BootRepairError) -> Finding?

    /// Plans the missing steps from the findings of all rows. Pure: the result depends only on the parameters. The
    /// general rules still apply: the firmware's entries change only in the recovery environment, and a foreign
    /// fallback loader is kept.
    /// - Parameter steps: the steps planned by the previous rows.
    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan

    /// Judges its configuration file written by a program of the installed system.
    /// - Parameters:
    ///   - configuration: the file's bytes; `nil` if there is none.
    ///   - volumes: the partitions and volumes of the disk.
    ///   - rootPartition: the number of the installed system's root partition.
    func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict

    /// Verifies a disk after its steps, with everything unmounted.
    /// - Returns: the reason it does not start, as a sentence; `nil` if no problem is visible.
    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String?
}

extension BootLoader {
    package var programs: [String] { [] }
    package var configurations: [String] { [] }
    package var codes: [FindingCode] { [] }
    package func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict {
        ConfigurationVerdict(problems: configuration == nil ? ["there is none"] : [])
    }
    package func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? { nil }
}

/// The assessment of a loader's configuration file.
package struct ConfigurationVerdict: Equatable, Sendable {
    /// Another system that it starts.
    package struct OtherSystem: Equatable, Sendable {
        /// The title in the menu.
        package var title: String
        /// Its identity, to distinguish it from others.
        package var place: String

        package init(title: String, place: String) {
            self.title = title
            self.place = place
        }
    }

    /// The reasons it does not start the installed system, a sentence part each.
    package var problems: [String]
    /// The other systems that it starts.
    package var otherSystems: [OtherSystem]

    package init(problems: [String] = [], otherSystems: [OtherSystem] = []) {
        self.problems = problems
        self.otherSystems = otherSystems
    }
}
