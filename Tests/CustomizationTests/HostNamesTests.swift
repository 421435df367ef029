// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Customization

struct HostNamesTests {
    static let hosts = """
        127.0.0.1\tlocalhost
        127.0.1.1\told.example.org   old # old
        ::1 localhost ip6-localhost old
        10.0.0.9 old fileserver
        # 127.0.1.1 old
        127.0.1.2 older older.example.org

        """

    @Test func renamesOwnAddresses() {
        let names = HostNames(old: "old.example.org", new: "web2")
        #expect(
            names.replaced(inHosts: Self.hosts)
                == """
                127.0.0.1\tlocalhost
                127.0.1.1\tweb2.example.org   web2 # old
                ::1 localhost ip6-localhost web2
                10.0.0.9 old fileserver
                # 127.0.1.1 old
                127.0.1.2 older older.example.org

                """)
        #expect(names.otherAddresses(inHosts: Self.hosts) == ["10.0.0.9"])
    }

    @Test func takesANewDomain() {
        let names = HostNames(old: "old", new: "web2.lab.net")
        #expect(names.renamed("old.example.org") == "web2.lab.net")
        #expect(names.renamed("OLD") == "web2")
        #expect(names.renamed("older") == nil)
        #expect(names.renamed("localhost") == nil)
    }

    /// A machine that was called localhost must not lose that name.
    @Test func keepsLocalhost() {
        let names = HostNames(old: "localhost", new: "web2")
        #expect(names.replaced(inHosts: Self.hosts) == Self.hosts)
    }

    @Test func readsTheName() {
        #expect(HostNames.name(in: "# comment\n  web1 \n") == "web1")
        #expect(HostNames.name(in: "\n\n") == nil)
        #expect(HostNames.name(in: "web1") == "web1")
    }
}
