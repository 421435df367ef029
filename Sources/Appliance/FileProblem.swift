// SPDX-License-Identifier: GPL-3.0-or-later

/// A file that was not delivered as the image has it.
package struct FileProblem: Equatable, Sendable {
    package enum Cause: Equatable, Sendable {
        /// The image: it is damaged there, was unreadable at the capture, or cannot be read by the kernel.
        case image
        /// The destination: it exists already, or the filesystem there cannot hold it.
        case destination
    }

    /// As shown to a user.
    package var path: String
    package var why: String
    package var cause: Cause

    package init(path: [UInt8], why: String, cause: Cause) {
        // Of the start of a walk, which has no name in it.
        self.path = path.isEmpty ? "." : AgentText.shown(path)
        self.why = why
        self.cause = cause
    }
}

/// Collects what was delivered and what was not, in bounded memory.
package struct DeliveryCounts: Equatable, Sendable {
    package var fileCount: UInt64 = 0
    package var folderCount: UInt64 = 0
    package var otherCount: UInt64 = 0
    /// The bytes of file contents, without holes.
    package var byteCount: UInt64 = 0
    package var imageProblemCount: UInt64 = 0
    package var destinationProblemCount: UInt64 = 0
    /// The first problems; all of them were passed on when they occurred.
    package var problems: [FileProblem] = []
    private static let mostKept = 1000

    package init() {}

    mutating func add(_ problem: FileProblem) {
        if problem.cause == .image { imageProblemCount += 1 } else { destinationProblemCount += 1 }
        if problems.count < Self.mostKept { problems.append(problem) }
    }
}

/// Where the files of a walk go.
package protocol FileReceiver: AnyObject {
    var counts: DeliveryCounts { get }
    /// The next answer of a walk with contents, of which the first entry gets `name`; without a name, the contents of
    /// the first entry go to the top.
    func take(_ reply: AgentReply, name: [UInt8]?) throws
    /// The walk is over.
    func endWalk() throws
    /// Everything is over: makes it durable.
    func finish() throws
}

/// Sentences for the user, from a receiver.
package struct ReceiverNotices {
    /// A problem with one file.
    package var problem: (FileProblem) -> Void
    /// A warning that concerns many files, said once.
    package var warning: (_ code: String, _ text: String) -> Void

    package init(
        problem: @escaping (FileProblem) -> Void, warning: @escaping (_ code: String, _ text: String) -> Void
    ) {
        self.problem = problem
        self.warning = warning
    }
}
