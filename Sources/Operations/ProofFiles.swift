// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// A proof in files: its signed facts, the screenshot, and the serial log.
package struct ProofFiles {
    package let facts: FilePath
    package let screenshot: FilePath
    package let serialLog: FilePath

    /// Beside an image file: `IMAGE.proof.json`, `IMAGE.proof.png`, `IMAGE.proof.log`.
    package init(beside image: FilePath) {
        func sibling(_ suffix: String) -> FilePath { FilePath("\(image.string).proof.\(suffix)") }
        (facts, screenshot, serialLog) = (sibling("json"), sibling("png"), sibling("log"))
    }

    /// In a folder: `verdict.json`, `screen.png`, `serial.log`.
    package init(in folder: FilePath) {
        facts = folder.appending("verdict.json")
        screenshot = folder.appending("screen.png")
        serialLog = folder.appending("serial.log")
    }

    private var all: [FilePath] { [facts, screenshot, serialLog] }

    /// The first file that exists already; `nil` if there is none.
    package var existing: FilePath? { all.first { Files.exists($0) } }

    /// Removes an older proof: it must not be taken for the next one.
    package func remove() throws(SystemCallError) {
        // The facts vouch for the other two.
        for path in all where Files.exists(path) { try Files.remove(path) }
    }

    /// Writes a proof in place of an older one.
    /// - Returns: the written files.
    @discardableResult
    package func write(_ proof: RestoreProof, _ identity: ChunkIdentity) throws -> [FilePath] {
        let json = try JSONText.encode(try proof.signed(identity), pretty: true)
        try remove()
        return try write(screenshot: proof.screenshot, serialLog: proof.serialLog, facts: json)
    }

    /// Writes a picture and a log; the facts last, as they vouch for the other two. Without facts they are of a trial
    /// that gave no verdict.
    /// - Returns: the written files.
    @discardableResult
    package func write(
        screenshot picture: [UInt8]?, serialLog log: [UInt8]?, facts json: [UInt8]? = nil
    ) throws(SystemCallError) -> [FilePath] {
        var written: [FilePath] = []
        for (bytes, path) in [(picture, screenshot), (log, serialLog), (json, facts)] {
            guard let bytes else { continue }
            // As images are: a picture and a log show what is in the system.
            try Files.write(bytes, to: path, permissions: [.ownerReadWrite, .groupRead])
            written.append(path)
        }
        return written
    }

    /// Reads a proof; `nil` if there is none.
    /// - Throws: `ImageError.damaged` if it is of another image, or was changed.
    package func read(of imageID: ContentHash, _ identity: ChunkIdentity) throws(ImageError) -> RestoreProof? {
        guard let json = try Self.bytes(facts, RestoreProof.largestFacts) else { return nil }
        let signed = try RestoreProof.Signed(json: json, name: facts.string)
        return try RestoreProof(
            signed,
            screenshot: signed.proof.screenshot == nil
                ? nil : try Self.bytes(screenshot, RestoreProof.largestScreenshot),
            serialLog: signed.proof.serialLog == nil ? nil : try Self.bytes(serialLog, RestoreProof.largestLog),
            of: imageID, identity, name: facts.string)
    }

    /// The bytes of a file, and one more of a longer one; `nil` if it is missing.
    private static func bytes(_ path: FilePath, _ limit: Int) throws(ImageError) -> [UInt8]? {
        do { return try Files.read(path, limit: limit + 1) } catch {
            guard error.errno == .noSuchFileOrDirectory else { throw .system(error) }
            return nil
        }
    }
}
