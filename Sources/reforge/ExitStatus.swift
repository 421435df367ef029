// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import ImageModel
import Imaging
import LinuxSystem
import SystemPackage

/// The exit codes: a contract with scripts (sysexits.h where one fits).
enum ExitStatus: Int32 {
    case done = 0
    case usage = 64
    case badImage = 65
    case notFound = 66
    case incomplete = 70
    case cannotCreate = 73
    case ioError = 74
    case interrupted = 75
    case refused = 77
    case ambiguous = 78
}

/// A failure as a command reports it: a sentence and an exit code.
struct CommandFailure: Error {
    var status: ExitStatus
    var message: String

    init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }

    /// What an interruption comes to: a disk that is gone is no wish.
    static var interruption: ExitStatus { Interruption.isLoss ? .ioError : .interrupted }

    /// Its message with more sentences behind it.
    func followed(by sentences: String) -> CommandFailure {
        var message = message
        while message.hasSuffix(".") { message.removeLast() }
        return CommandFailure(status, "\(message). \(sentences)")
    }

    /// From any error of the modules below.
    init(_ error: any Error) {
        switch error {
        case let failure as CommandFailure: self = failure
        case let error as ImagingError:
            switch error {
            case .interrupted(let why): self.init(Self.interruption, why)
            case .block(let error): self.init(.ioError, "\(error)")
            case .image(let error): self.init(error)
            case .output(let error): self.init(.ioError, "\(error)")
            case .refused(let why): self.init(.refused, why)
            case .noRoom(let why): self.init(.cannotCreate, why)
            case .failed(let why): self.init(.ioError, why)
            }
        case let error as ImageError:
            switch error {
            case .system(let error): self.init(error)
            case .missing: self.init(.notFound, "\(error)")
            case .ambiguous: self.init(.ambiguous, "\(error)")
            case .key, .refused: self.init(.refused, "\(error)")
            case .busy: self.init(.interrupted, "\(error)")
            case .foreign, .unsupported, .damaged, .truncated: self.init(.badImage, "\(error)")
            }
        case let error as BlockIOError:
            let isInterrupted = error.errorNumber == Errno.interrupted.rawValue && Interruption.isRequested
            self.init(isInterrupted ? Self.interruption : .ioError, isInterrupted ? Interruption.name : "\(error)")
        case let error as SystemCallError:
            if error.errno == .interrupted, Interruption.isRequested {
                self.init(Self.interruption, Interruption.name)
                return
            }
            let isMissing = [
                .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice, .notDirectory,
            ]
            .contains(error.errno)
            let isBusy = error.errno == .resourceBusy
            self.init(isMissing ? .notFound : isBusy ? .refused : .ioError, "\(error)")
        default: self.init(.ioError, "\(error)")
        }
    }
}
