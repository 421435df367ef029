// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// The source of a job's passwords: a file, a terminal, a page. Never an argument: every user of a machine can see
/// those.
package protocol PasswordSource {
    /// Whether it holds a password already, so that one password serves every question.
    var isGiven: Bool { get }
    /// The name in messages of the alternative to `--password-file`.
    var otherSource: String { get }
    /// The password of what `purpose` names ("the repository PATH").
    /// - Parameters:
    ///   - confirming: asks twice, as nothing else would tell a slip in a new password.
    ///   - cancellation: ends the question.
    func password(for purpose: String, confirming: Bool, cancellation: Cancellation) throws -> [UInt8]
}

/// Passwords and keys of one command; each repository and image is unlocked once.
package final class KeyRing {
    private let passwords: any PasswordSource
    /// Receives notices.
    package let events: any EventSink
    /// Ends what is done with them: questions, waits, reads.
    package let cancellation: Cancellation
    /// Whether the disk image of a virtual machine may name files outside its folder.
    package var allowsBacking = false
    private var password: [UInt8]?
    private var repositories: [String: MasterKeys] = [:]
    private var images: [String: MasterKeys] = [:]

    package init(_ passwords: any PasswordSource, _ events: any EventSink, _ cancellation: Cancellation) {
        self.passwords = passwords
        self.events = events
        self.cancellation = cancellation
    }

    /// The keys of a repository; `nil` if it is not encrypted.
    package func keys(_ store: any PrunableStore) throws -> MasterKeys? {
        guard try Repository.configuration(in: store).isEncrypted else { return nil }
        if let known = repositories[store.name] { return known }
        let keys = try KeyStore(store).unlock(password: try givenPassword("the repository \(store.name)"))
        repositories[store.name] = keys
        return keys
    }

    /// The keys of an encrypted image, from the wrapped ones at its front.
    package func imageKeys(_ name: String, _ wrapped: [WrappedKey]) throws(ImageError) -> MasterKeys {
        if let known = images[name] { return known }
        let password: [UInt8]
        do { password = try givenPassword("the image \(name)") } catch let error as ImageError { throw error } catch {
            throw .key("\((error as? JobFailure)?.message ?? "\(error)")")
        }
        let keys = try EncryptedImage.unlock(name, wrapped, password: password)
        images[name] = keys
        return keys
    }

    /// The identity that signs what is kept beside an image: an encrypted one names its contents by plain hashes, which
    /// anyone can compute.
    /// - Parameter path: the path of the image, opened before.
    /// - Throws: `ImageError.key` without the keys of an encrypted image: a signature without a key proves nothing.
    package func signingIdentity(_ path: FilePath, _ coding: ChunkCoding) throws(ImageError) -> ChunkIdentity {
        guard coding.isEncrypted, case .plain = coding.identity else { return coding.identity }
        // The name by which its reader has asked: a path has no doubled slashes.
        guard let known = images[path.string] else { throw .key("the keys of the image \(path) are not known") }
        return .keyed(known.id)
    }

    /// Whether something was encrypted and opened.
    package var wasUsed: Bool { password != nil }

    /// Refuses a password that was not needed: a repository or image without encryption may be the intended one, or may
    /// have been put in its place by an attacker with write access.
    /// - Parameter name: what is not encrypted.
    package func refuseUnused(_ name: String) throws {
        guard passwords.isGiven, password == nil else { return }
        throw JobFailure(
            .refused,
            "\(name) is not encrypted, but a password was given (--password-file, or \(passwords.otherSource)): if this is "
                + "right, leave the password out")
    }

    /// The password for a new image.
    package func newPassword(_ purpose: String) throws -> [UInt8] {
        if let password { return password }
        let new = try passwords.password(for: purpose, confirming: true, cancellation: cancellation)
        password = new
        return new
    }

    private func givenPassword(_ purpose: String) throws -> [UInt8] {
        if passwords.isGiven, let password { return password }
        let given = try passwords.password(for: purpose, confirming: false, cancellation: cancellation)
        password = given
        return given
    }
}
