// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

extension ExitStatus {
    /// The end of a restore and the state of its disk, as sentences.
    static func restoreOutcome(_ end: JobEnd, disk: String) -> String {
        guard let outcome = end.report?.outcome, outcome.status.rawValue == end.status else {
            return
                "The restore ended with status \(end.status) and without a report. Treat \(disk) as partial; run the same restore again to resume it."
        }
        let state =
            switch outcome.diskState {
            case .untouched, nil: "\(disk) is untouched."
            case .partial: "\(disk) is partial and does not boot; run the same restore again to resume it."
            case .complete: "All data on \(disk) is complete."
            case .salvaged: "\(disk) has all data that the image still holds."
            }
        return switch outcome.status {
        case .done: "The restore is done. \(disk) is complete."
        case .usage: "The restore was not started: its job is invalid (64). \(state)"
        case .badImage where outcome.diskState == .partial:
            "The image is damaged or not one of Reforge's (65). \(disk) is partial and has no partition table: it does not boot."
        case .badImage: "The image is damaged or not one of Reforge's (65). \(state)"
        case .notFound: "The image or the disk was not found (66). \(state)"
        case .incomplete:
            "The data on \(disk) is complete, but growing, boot repair, a new identity or a hook failed or is pending (70): the lines above say what. `reforge boot-repair \(disk)` finishes boot repair."
        case .cannotCreate:
            "There is too little scratch space to shrink or rebuild the filesystems (73). \(state)"
        case .ioError: "Reading or writing failed (74). \(state)"
        case .interrupted: "The restore was interrupted (75). \(state)"
        case .refused: "The restore was refused for safety (77). \(state)"
        case .ambiguous: "The settings match no disk or several (78). \(state)"
        }
    }

    /// The meaning of a boot repair's status, as a sentence.
    package static func bootRepairOutcome(_ status: Int32, disk: String) -> String {
        switch ExitStatus(rawValue: status) {
        case .done: "Boot repair is done: \(disk) should start on this machine."
        case .incomplete: "Boot repair of \(disk) is not finished (70): the lines above list the remaining steps."
        case .refused: "Boot repair was refused for safety (77). \(disk) is unchanged."
        default: "Boot repair failed with status \(status): see the lines above. The data on \(disk) is unchanged."
        }
    }

    /// The meaning of a capture's status, as a sentence.
    package static func captureOutcome(_ status: Int32, disk: String) -> String {
        switch ExitStatus(rawValue: status) {
        case .done: "The capture is done."
        case .cannotCreate: "The image could not be created (73). \(disk) was only read."
        case .notFound: "\(disk) was not found (66)."
        case .ioError:
            "Reading \(disk) or writing the image failed (74). Nothing is left under the image's name; a repository keeps its contents."
        case .interrupted: "The capture was interrupted (75). Nothing is left under the image's name."
        case .refused: "The capture was refused for safety (77)."
        default: "The capture failed with status \(status). \(disk) was only read."
        }
    }
}
