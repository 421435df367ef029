// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

extension ExitStatus {
    /// What a restore's status means for the disk, as sentences.
    package static func restoreOutcome(_ status: Int32, disk: String) -> String {
        switch ExitStatus(rawValue: status) {
        case .done: "The restore is done. \(disk) is complete."
        case .usage: "The restore was not started: its arguments were not understood (64). \(disk) is untouched."
        case .badImage:
            "The image is damaged or not one of Reforge's (65). If anything was written, \(disk) is partial and has no partition table: it boots nothing."
        case .notFound: "The image or the disk is not there (66). \(disk) is untouched."
        case .incomplete:
            "The data on \(disk) is complete, but growing or boot repair failed or is pending (70). `reforge boot-repair \(disk)` finishes it."
        case .cannotCreate:
            "There is no room for what does not fit while filesystems are made smaller or anew (73). \(disk) is untouched."
        case .ioError:
            "Reading or writing failed (74). \(disk) is partial unless nothing was written yet; the same restore goes on where it was."
        case .interrupted:
            "The restore was interrupted (75). \(disk) is partial; the same restore goes on where it was."
        case .refused: "The restore was refused for safety (77). \(disk) is untouched."
        case .ambiguous: "The settings match no disk or several (78). Nothing was written."
        default:
            "The restore ended with status \(status), which is not one of its own. Take \(disk) for partial; the same restore goes on where it was."
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
