// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

extension JobFailure {
    /// The exit status of an interruption: an I/O error if a lost disk caused it.
    package static var interruption: ExitStatus { Interruption.isLoss ? .ioError : .interrupted }

    /// Converts any error of the modules below.
    package init(_ error: any Error) {
        switch error {
        case let failure as JobFailure: self = failure
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
