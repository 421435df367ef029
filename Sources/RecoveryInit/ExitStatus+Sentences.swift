// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

extension ExitStatus {
    /// How a restore ended and how its disk is, as sentences.
    static func restoreOutcome(_ end: JobEnd, disk: String) -> String {
        guard let outcome = end.report?.outcome, outcome.status.rawValue == end.status else {
            return
                "The restore ended with status \(end.status) and did not say how. Take \(disk) for partial; the same restore goes on where it was."
        }
        let state =
            switch outcome.diskState {
            case .untouched, nil: "\(disk) is untouched."
            case .partial: "\(disk) is partial and boots nothing; the same restore goes on where it was."
            case .complete: "All data on \(disk) is complete."
            case .salvaged: "\(disk) has all data that the image still holds."
            }
        return switch outcome.status {
        case .done: "The restore is done. \(disk) is complete."
        case .usage: "The restore was not started: its job was not understood (64). \(state)"
        case .badImage where outcome.diskState == .partial:
            "The image is damaged or not one of Reforge's (65). \(disk) is partial and has no partition table: it boots nothing."
        case .badImage: "The image is damaged or not one of Reforge's (65). \(state)"
        case .notFound: "The image or the disk is not there (66). \(state)"
        case .incomplete:
            "The data on \(disk) is complete, but growing or boot repair failed or is pending (70). `reforge boot-repair \(disk)` finishes it."
        case .cannotCreate:
            "There is no room for what does not fit while filesystems are made smaller or made again (73). \(state)"
        case .ioError: "Reading or writing failed (74). \(state)"
        case .interrupted: "The restore was interrupted (75). \(state)"
        case .refused: "The restore was refused for safety (77). \(state)"
        case .ambiguous: "The settings match no disk or several (78). \(state)"
        }
    }

    /// What the status of a boot repair means, as a sentence.
    package static func bootRepairOutcome(_ status: Int32, disk: String) -> String {
        switch ExitStatus(rawValue: status) {
        case .done: "Boot repair is done: \(disk) should start on this machine."
        case .incomplete: "Boot repair of \(disk) is not finished (70): the lines above say what is left."
        case .refused: "Boot repair was refused for safety (77). \(disk) is as it was."
        default: "Boot repair failed with status \(status): the lines above say why. The data on \(disk) is as it was."
        }
    }

    /// What a capture's status means, as a sentence.
    package static func captureOutcome(_ status: Int32, disk: String) -> String {
        switch ExitStatus(rawValue: status) {
        case .done: "The capture is done."
        case .cannotCreate: "The image could not be created (73). \(disk) was only read."
        case .notFound: "\(disk) is not there (66)."
        case .ioError:
            "Reading \(disk) or writing the image failed (74). Nothing is left under the image's name; a repository keeps what it had."
        case .interrupted: "The capture was interrupted (75). Nothing is left under the image's name."
        case .refused: "The capture was refused for safety (77)."
        default: "The capture failed with status \(status). \(disk) was only read."
        }
    }
}
