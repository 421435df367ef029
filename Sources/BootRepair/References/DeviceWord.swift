// SPDX-License-Identifier: GPL-3.0-or-later

/// A word of a configuration file with a reference to a device: `root=UUID=…`, or a whole field of crypttab.
package struct DeviceWord: Codable, Equatable, Sendable {
    /// The use of the device.
    package enum Use: String, Codable, Sendable {
        /// The root filesystem: `root=`.
        case root
        /// The device with the image of hibernation: `resume=`.
        case resume
        /// A LUKS volume to be opened: `rd.luks.uuid=`, `cryptdevice=`, crypttab.
        case encrypted
        /// A logical volume to be activated: `rd.lvm.lv=`.
        case logicalVolume
        /// An array to be assembled: `rd.md.uuid=`.
        case array
        /// Another filesystem: `mount.usr=`.
        case other
    }

    /// Its line, from 0.
    package var line: Int
    /// The word in the line, from 0.
    package var word: Int
    /// The whole word as written, without quotes around it.
    package var text: String
    package var use: Use
    /// The reference in it, as written.
    package var value: String

    package init(line: Int, word: Int, text: String, use: Use, value: String) {
        self.line = line
        self.word = word
        self.text = text
        self.use = use
        self.value = value
    }

    /// The change that replaces the reference and keeps the rest of the word; `nil` if the value occurs more than once
    /// in it.
    func change(to new: String) -> WordChange? {
        let parts = text.split(separator: value, omittingEmptySubsequences: false)
        guard !value.isEmpty, parts.count == 2 else { return nil }
        return WordChange(line: line, word: word, from: text, to: parts.joined(separator: new))
    }
}
