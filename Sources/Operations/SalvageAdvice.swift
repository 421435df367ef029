// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

extension OpenedImage {
    /// Reads the whole image, and collects its losses.
    package func losses(_ events: any EventSink, _ cancellation: Cancellation) throws -> Salvage {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        let salvage = try reading {
            try CaptureVerifier.losses(of: $0, progress: progress, cancellation: cancellation)
        }
        try noteMissing(in: salvage)
        return salvage
    }

    /// Reads and checks all of it.
    package func verified(_ events: any EventSink, _ cancellation: Cancellation) throws -> CaptureVerifier.Outcome {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        return try reading { try CaptureVerifier.verify($0, progress: progress, cancellation: cancellation) }
    }
}

/// The advice to use `--salvage`, for commands that read a damaged capture.
package enum SalvageAdvice {
    /// A failure of a command, followed by `advice` if salvage could read the image.
    /// - Parameter image: the image as given by the user; it is opened once more, with the same keys.
    package static func followed(
        _ error: any Error, by advice: String, image: String, _ keys: KeyRing
    ) -> JobFailure {
        let failure = JobFailure(error, cancellation: keys.cancellation)
        return isUseful(error, image: image, keys) ? failure.followed(by: advice) : failure
    }

    /// Whether an error is damage after the header and the maps of an image. For standard input any damage counts.
    package static func isUseful(_ error: any Error, image: String, _ keys: KeyRing) -> Bool {
        guard isDamage(error) else { return false }
        return image == "-" || (try? OpenedImage.open(image, keys, salvages: true)) != nil
    }

    package static func isDamage(_ error: any Error) -> Bool {
        if case .image(let error) = error as? ImagingError { return Salvage.isDamage(error) }
        return Salvage.isDamage(error)
    }
}
