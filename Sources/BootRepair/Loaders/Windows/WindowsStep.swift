// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import WindowsFiles

/// The `--json` form of the steps for Windows.
enum WindowsStep: StepRecord {
    /// A device element that gets another partition.
    struct Element: Encodable, Equatable, Sendable {
        var object: GUID
        /// Eight hexadecimal digits.
        var element: String
        var from: BCDPartition
        var to: BCDPartition
        /// The number of the new partition.
        var partition: Int

        var name: String {
            switch element {
            case "11000001": "device"
            case "21000001": "osdevice"
            default: element
            }
        }
    }

    /// A driver that shall start with the system.
    struct Driver: Encodable, Equatable, Sendable {
        var service: String
        var controlSet: UInt32
    }

    /// Device elements of a boot configuration store are rewritten in place.
    case pointStore(path: String, partition: Int, elements: [Element])
    /// `Start` and `StartOverride` of drivers are set to 0 in place.
    case startDrivers(partition: Int, controller: String, drivers: [Driver])

    /// A line for the user.
    var description: String {
        switch self {
        case .pointStore(let path, let partition, let elements):
            "point \(path) on partition \(partition) to this disk's partitions ("
                + elements.map { "\($0.name) of {\($0.object)}: partition \($0.partition)" }.joined(separator: ", ")
                + ")"
        case .startDrivers(let partition, let controller, let drivers):
            "let Windows on partition \(partition) start its driver for this machine's disk controller (\(controller)): "
                + drivers.map(\.service).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
                .joined(separator: ", ")
        }
    }
}
