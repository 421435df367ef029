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

/// Where a job's passwords come from: a file, a terminal, a page. Never from arguments: every user of a machine sees those.
package protocol PasswordSource {
    /// Whether it holds a password already, so that one password is for everything.
    var isGiven: Bool { get }
    /// How messages call the way to give one beside `--password-file`.
    var otherSource: String { get }
    /// The password of what `purpose` names ("the repository PATH").
    /// - Parameters:
    ///   - confirming: asks twice, as nothing else would tell a slip in a new password.
    ///   - cancellation: ends the question.
    func password(for purpose: String, confirming: Bool, cancellation: Cancellation) throws -> [UInt8]
}

/// Passwords and keys of one command: each repository and image is asked for once.
package final class KeyRing {
    /// Where passwords come from.
    private let passwords: any PasswordSource
    /// Where notices go.
    package let events: any EventSink
    /// Ends what is done with them: questions, waits, reads.
    package let cancellation: Cancellation
    private var password: [UInt8]?
    private var repositories: [String: MasterKeys] = [:]
    private var images: [String: MasterKeys] = [:]

    package init(_ passwords: any PasswordSource, _ events: any EventSink, _ cancellation: Cancellation) {
        self.passwords = passwords
        self.events = events
        self.cancellation = cancellation
    }

    /// The keys of a repository; `nil` where it is not encrypted.
    package func keys(_ path: FilePath) throws -> MasterKeys? {
        guard try Repository.configuration(in: LocalStore(path)).isEncrypted else { return nil }
        if let known = repositories[path.string] { return known }
        let keys = try KeyStore(LocalStore(path)).unlock(password: try givenPassword("the repository \(path)"))
        repositories[path.string] = keys
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

    /// Whether something was encrypted and opened.
    package var wasUsed: Bool { password != nil }

    /// Refuses a password that nothing took: whether a repository or image without encryption is the one that was meant,
    /// or was put in its place by somebody who can write there, nothing tells.
    /// - Parameter name: what is not encrypted.
    package func refuseUnused(_ name: String) throws {
        guard passwords.isGiven, password == nil else { return }
        throw JobFailure(
            .refused,
            "\(name) is not encrypted, but a password was given (--password-file, or \(passwords.otherSource)): if this is "
                + "right, leave the password out")
    }

    /// The password for something new.
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
