// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

struct IdentityRequestTests {
    @Test func parses() throws {
        #expect(try IdentityRequest(parsing: "") == IdentityRequest())
        #expect(try IdentityRequest(parsing: "standard").parts == IdentityRequest.standard)
        let all = try IdentityRequest(parsing: "lvm,hostname:web-2.example.org,uuids,standard")
        #expect(all.parts == Set(IdentityPart.allCases))
        #expect(all.hostname == "web-2.example.org")
        #expect(try IdentityRequest(parsing: "ssh-keys").parts == [.sshKeys])
    }

    @Test func isWithoutUUIDsAndGroupsUnlessAsked() throws {
        let parts = try IdentityRequest(parsing: "").parts
        #expect(parts.isDisjoint(with: [.uuids, .lvm, .hostname]))
    }

    @Test(arguments: ["", "hostname:a,machine-id,uuids", "ssh-keys,lvm", "standard,hostname:x.y"])
    func descriptionParsesToItself(_ text: String) throws {
        let request = try IdentityRequest(parsing: text)
        #expect(try IdentityRequest(parsing: request.description) == request)
    }

    @Test(arguments: [
        "hostname", "hostname:", "hostname:a b", "hostname:-a", "hostname:a..b", "hostname:a/../b",
        "hostname:localhost",
        "uuid", "ssh-keys,", ",", "hostname:a,hostname:b", "hostname:\(String(repeating: "a", count: 65))", "UUIDS",
        "hostname:ä", "hostname:a\n",
    ])
    func refuses(_ text: String) {
        #expect(throws: IdentityRequestError.self) { try IdentityRequest(parsing: text) }
    }
}
