// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// A boot loader: a row of `BootLoaders.table`. Its survey and its plan know the loader; the verbs of the plan do not.
package protocol BootLoader: Sendable {
    associatedtype Finding: LoaderFinding

    /// Its name in the table, which no other row has.
    var name: String { get }
    /// Programs of an installed system that it runs. The first one that is there tells for which processor the system is.
    var programs: [String] { get }
    /// The names of its configuration files that may lie beside a loader on the EFI system partition.
    var configurations: [String] { get }

    /// Looks for itself on the disk and in the installed system. Nothing is written, and no program of the system runs.
    /// - Returns: `nil` where there is nothing to say.
    func survey(_ scene: BootScene) throws(BootRepairError) -> Finding?

    /// Plans what is missing, by the findings of all rows. Pure: it looks at nothing but its parameters. The rules hold
    /// whatever it asks for: the firmware's entries change in the recovery environment only, and a foreign fallback loader
    /// stays.
    /// - Parameter steps: what the rows before this one have planned.
    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan

    /// Judges a configuration file of its own that a program of the installed system has written.
    /// - Parameters:
    ///   - configuration: the file's bytes; `nil` where there is none.
    ///   - volumes: what the disk holds.
    ///   - rootPartition: where the installed system has its root.
    func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict

    /// Looks once more at a disk on which its steps were done, with everything unmounted.
    /// - Returns: why it does not start, as a sentence; `nil` where it does, as far as that can be seen.
    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String?
}

extension BootLoader {
    package var programs: [String] { [] }
    package var configurations: [String] { [] }
    package func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict {
        ConfigurationVerdict(problems: configuration == nil ? ["there is none"] : [])
    }
    package func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? { nil }
}

/// The assessment of a loader's configuration file.
package struct ConfigurationVerdict: Equatable, Sendable {
    /// Something else that it starts.
    package struct OtherSystem: Equatable, Sendable {
        /// The words in the menu.
        package var title: String
        /// What tells it from others.
        package var place: String

        package init(title: String, place: String) {
            self.title = title
            self.place = place
        }
    }

    /// Why the installed system does not start by it, a sentence part each.
    package var problems: [String]
    /// What it starts besides the installed system.
    package var otherSystems: [OtherSystem]

    package init(problems: [String] = [], otherSystems: [OtherSystem] = []) {
        self.problems = problems
        self.otherSystems = otherSystems
    }
}
