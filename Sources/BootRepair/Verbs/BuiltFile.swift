// SPDX-License-Identifier: GPL-3.0-or-later

/// A file made from a folder by a program of the running machine.
package struct BuiltFile: Codable, Equatable, Sendable {
    /// The folder that the program reads.
    package enum Inputs: Codable, Equatable, Sendable {
        /// A folder of the running machine.
        case own(String)
        /// A folder of the installed system, from which files with these endings are copied, as the program would
        /// follow the tree's links out of it. `name` describes them as the object of a sentence.
        case system(String, endings: [String], name: String)
    }

    /// An argument.
    package enum Word: Codable, Equatable, Sendable, ExpressibleByStringLiteral {
        case text(String)
        /// The path of the folder that it reads.
        case inputs
        /// The path of the file that it makes.
        case result

        package init(stringLiteral text: String) { self = .text(text) }
    }

    /// The file's name.
    package var name: String
    package var inputs: Inputs
    /// The program's name, and its arguments.
    package var program: String
    package var arguments: [Word]

    package init(_ name: String, from inputs: Inputs, by program: String, _ arguments: [Word]) {
        self.name = name
        self.inputs = inputs
        self.program = program
        self.arguments = arguments
    }

    /// The command, with the folder and the file in place.
    func command(inputs: String, result: String) -> [String] {
        [program]
            + arguments.map { word in
                switch word {
                case .text(let text): text
                case .inputs: inputs
                case .result: result
                }
            }
    }
}
