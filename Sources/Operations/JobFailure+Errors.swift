// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import DiskModel
import Emulator
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

extension Cancellation {
    /// The exit status of the ended work: the loss of a disk is a failure.
    package var exitStatus: ExitStatus { isLoss ? .ioError : .interrupted }
}

extension JobFailure {
    /// From any error of the modules below.
    /// - Parameter cancellation: has the cause of an interruption.
    package init(_ error: any Error, cancellation: Cancellation) {
        let interruption = JobFailure(cancellation.exitStatus, cancellation.name)
        switch error {
        case let failure as JobFailure: self = failure
        case let error as ImagingError:
            switch error {
            case .interrupted: self = interruption
            case .block(let error): self.init(.ioError, "\(error)")
            case .image(let error): self.init(error, cancellation: cancellation)
            case .output(let error): self.init(.ioError, "\(error)")
            case .refused(let why): self.init(.refused, why)
            case .noRoom(let why): self.init(.cannotCreate, why)
            case .failed(let why): self.init(.ioError, why)
            }
        case let error as ImageError:
            switch error {
            case .system(let error): self.init(error, cancellation: cancellation)
            case .missing: self.init(.notFound, "\(error)")
            case .ambiguous: self.init(.ambiguous, "\(error)")
            case .key, .refused: self.init(.refused, "\(error)")
            case .busy: self.init(.interrupted, "\(error)")
            case .foreign, .unsupported, .damaged, .truncated, .changed: self.init(.badImage, "\(error)")
            }
        case let error as EmulatorError:
            switch error {
            case .cancelled: self = interruption
            case .missing: self.init(.cannotCreate, "\(error)")
            case .system(let error): self.init(error, cancellation: cancellation)
            case .failed: self.init(.ioError, "\(error)")
            }
        case let error as BlockIOError:
            let isInterrupted = error.errorNumber == Errno.interrupted.rawValue && cancellation.isRequested
            self = isInterrupted ? interruption : JobFailure(.ioError, "\(error)")
        case let error as SystemCallError:
            if error.errno == .interrupted, cancellation.isRequested {
                self = interruption
                return
            }
            let isMissing = [
                .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice, .notDirectory,
            ]
            .contains(error.errno)
            let isBusy = error.errno == .resourceBusy
            self.init(isMissing ? .notFound : isBusy ? .refused : .ioError, "\(error)")
        case let error as ApplianceError:
            switch error {
            case .cancelled, .emulator(.cancelled): self = interruption
            case .system(let error), .emulator(.system(let error)): self.init(error, cancellation: cancellation)
            case .noMedium, .notFound, .emulator(.missing): self.init(.notFound, "\(error)")
            case .refused: self.init(.refused, "\(error)")
            case .untrusted, .failed: self.init(.badImage, "\(error)")
            case .machine, .emulator: self.init(.ioError, "\(error)")
            }
        default: self.init(.ioError, "\(error)")
        }
    }
}
