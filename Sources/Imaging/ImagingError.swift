// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskEditing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// The error that ended a capture, a restore or a verification.
package enum ImagingError: Error, CustomStringConvertible {
    /// The end was requested; the `Cancellation` has the cause.
    case interrupted
    /// A disk could not be read or written.
    case block(BlockIOError)
    /// The image is damaged or foreign, or could not be read.
    case image(ImageError)
    /// The output could not be written.
    case output(SystemCallError)
    /// Refused as dangerous: the reason and the way out.
    case refused(String)
    /// No space for temporary data: how much is needed, and the way out. Nothing was written.
    case noRoom(String)
    /// Another failure.
    case failed(String)

    /// The message, as one sentence.
    package var description: String {
        switch self {
        case .interrupted: "interrupted"
        case .block(let error): error.description
        case .image(let error): error.description
        case .output(let error): error.description
        case .refused(let why): why
        case .noRoom(let why): why
        case .failed(let why): why
        }
    }

    /// Converts any error of the modules below.
    init(_ error: any Error) {
        switch error {
        case let error as ImagingError: self = error
        case let error as BlockIOError:
            self = error.errorNumber == Errno.interrupted.rawValue ? .interrupted : .block(error)
        case let error as ImageError:
            if case .system(let error) = error, error.errno == .interrupted {
                self = .interrupted
            } else {
                self = .image(error)
            }
        case let error as SystemCallError:
            self = error.errno == .interrupted ? .interrupted : .output(error)
        default: self = .failed("\(error)")
        }
    }
}

extension Cancellation {
    /// Fails if the work is to end.
    package func check() throws(ImagingError) {
        if isRequested { throw .interrupted }
    }
}
