// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A file format that holds a capture: a row of `RecordingFormat.table`.
package struct RecordingFormat: Sendable {
    /// The name in messages.
    package let name: String
    package let recognize: @Sendable (FileHead) throws(ImageError) -> Recognition
    package let open: @Sendable (RecordingRequest) throws(ImageError) -> OpenedRecording
    /// Opens a capture for random access; `nil` if the format has none.
    package let index: (@Sendable (RecordingRequest) throws(ImageError) -> any CaptureIndex)?

    package init(
        name: String, recognize: @escaping @Sendable (FileHead) throws(ImageError) -> Recognition,
        open: @escaping @Sendable (RecordingRequest) throws(ImageError) -> OpenedRecording,
        index: (@Sendable (RecordingRequest) throws(ImageError) -> any CaptureIndex)? = nil
    ) {
        self.index = index
        self.name = name
        self.recognize = recognize
        self.open = open
    }

    /// All formats, in the order of detection.
    package static let table = Registry<RecordingFormat>([encryptedImage, image, xzImage])
}

/// The parameters of `RecordingFormat.open`.
package struct RecordingRequest {
    package var path: FilePath
    /// Whether a damaged or missing end is accepted, for a `SalvageReader`.
    package var salvages: Bool
    package var cancellation: Cancellation
    /// Unwraps the keys of an encrypted image.
    package var unlock: (String, [WrappedKey]) throws(ImageError) -> MasterKeys

    package init(
        _ path: FilePath, salvages: Bool = false, cancellation: Cancellation = Cancellation(),
        unlock: @escaping (String, [WrappedKey]) throws(ImageError) -> MasterKeys
    ) {
        self.path = path
        self.salvages = salvages
        self.cancellation = cancellation
        self.unlock = unlock
    }
}

/// An opened capture.
package struct OpenedRecording {
    package var reader: any ImageReader
    /// The ending, if it is known before everything is read.
    package var ending: ImageEnding?
    /// Objects that must live as long as the reader.
    package var held: [AnyObject]

    package init(_ reader: any ImageReader, ending: ImageEnding? = nil, held: [AnyObject] = []) {
        self.reader = reader
        self.ending = ending
        self.held = held
    }
}

extension RecordingFormat {
    /// A descriptor with the lifetime of an object.
    private final class HeldFile {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    static let encryptedImage = RecordingFormat(
        name: "encrypted Reforge image",
        recognize: { head throws(ImageError) in
            head.holds("RFIMGENC", at: 0) || isSkippable(head) && head.holds("RFIMGENC", at: 8) ? .byContent : .no
        }, open: openImage, index: indexImage)

    /// A pipe always carries an image. The skippable frame also identifies an image whose first bytes are damaged.
    static let image = RecordingFormat(
        name: "Reforge image",
        recognize: { head throws(ImageError) in
            head.file == nil || head.holds("RFIMGHDR", at: 8) || isSkippable(head) ? .byContent : .no
        }, open: openImage, index: indexImage)

    /// By the metadata file beside it, so that an archive with a damaged start is recognized too.
    static let xzImage = RecordingFormat(
        name: "Reforge .img.xz archive",
        recognize: { head throws(ImageError) in
            Files.exists(XZImageReader.metadataPath(of: head.path)) ? .byContent : .no
        },
        open: { request throws(ImageError) in
            let archive = try XZImageReader(request.path, salvages: request.salvages)
            return OpenedRecording(archive, ending: archive.knownEnding)
        }, index: { request throws(ImageError) in try XZImageReader(request.path).indexed() })

    /// An image from standard input.
    package static func openStandardInput(
        cancellation: Cancellation,
        unlock: @escaping (String, [WrappedKey]) throws(ImageError) -> MasterKeys
    ) throws(ImageError) -> OpenedRecording {
        let file = HeldFile(try ImageFile.openForStreaming("-"))
        let reader = try ImageStreamReader(
            file.descriptor.raw, name: "standard input", cancellation: cancellation, unlock: unlock)
        return OpenedRecording(reader, held: [file])
    }

    /// Whether it starts with a skippable frame (RFC 8878 §3.1.2), as every Reforge image does.
    private static func isSkippable(_ head: FileHead) -> Bool { head.magic & 0xFFFF_FFF0 == 0x184D_2A50 }

    @Sendable private static func indexImage(_ request: RecordingRequest) throws(ImageError) -> any CaptureIndex {
        try IndexedImage(request.path, cancellation: request.cancellation, unlock: request.unlock)
    }

    @Sendable private static func openImage(_ request: RecordingRequest) throws(ImageError) -> OpenedRecording {
        let text = request.path.string
        let file = HeldFile(try ImageFile.openForStreaming(text))
        let image = try ends(request)
        let stream = try ImageStreamReader(
            file.descriptor.raw, name: text, cancellation: request.cancellation, unlock: request.unlock)
        // The data is read from the descriptor opened here: the file may have been replaced since its end was checked.
        guard image.map({ $0.header == stream.header }) ?? true else {
            throw .changed(name: text)
        }
        if request.salvages, let image { stream.useIndex(of: image) }
        return OpenedRecording(
            stream, ending: image.map { ImageEnding(id: $0.footer.imageID, lateFacts: $0.lateFacts) }, held: [file])
    }

    /// Reads header and footer of an image; `nil` if the footer is damaged or missing and the request accepts that.
    private static func ends(_ request: RecordingRequest) throws(ImageError) -> ImageFile? {
        do throws(ImageError) {
            return try ImageFile(request.path, cancellation: request.cancellation, unlock: request.unlock)
        } catch {
            guard request.salvages, Salvage.isDamage(error) else { throw error }
            return nil
        }
    }
}
