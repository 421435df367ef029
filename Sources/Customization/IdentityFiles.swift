// SPDX-License-Identifier: GPL-3.0-or-later

/// The files of a Linux system that belong to its identity.
enum IdentityFiles {
    /// Files that hold names, identifiers or references to volumes.
    static let texts = [
        "/etc/fstab", "/etc/crypttab", "/etc/crypttab.initramfs", "/etc/kernel/cmdline", "/etc/default/grub",
        "/etc/dracut.conf", "/etc/mkinitcpio.conf", "/etc/hostname", "/etc/hosts", "/etc/mailname", "/etc/machine-id",
        "/etc/timeshift/timeshift.json", "/etc/timeshift.json", "/etc/iscsi/initiatorname.iscsi", "/etc/nvme/hostnqn",
        "/etc/nvme/hostid", "/etc/lvm/devices/system.devices", "/boot/extlinux/extlinux.conf",
        "/boot/syslinux/syslinux.cfg",
    ]
    /// Folders with such files, and the endings of their names; an empty ending takes all.
    static let folders: [(path: String, endings: [String])] = [
        ("/etc/default/grub.d", [".cfg"]), ("/etc/initramfs-tools/conf.d", [""]), ("/etc/dracut.conf.d", [".conf"]),
        ("/etc/cmdline.d", [".conf"]), ("/etc/kernel/cmdline.d", [".conf"]), ("/etc/grub.d", [""]),
        ("/etc/systemd/system", [".mount", ".swap", ".automount", ".service"]), ("/boot/loader/entries", [".conf"]),
        ("/boot/grub", [".cfg", "grubenv"]), ("/boot/grub2", [".cfg", "grubenv"]),
        ("/boot/grub/i386-pc", ["load.cfg"]), ("/boot/grub2/i386-pc", ["load.cfg"]),
    ]
    /// Files of GRUB's BIOS core image: they name what is embedded in it.
    static let embedded = ["/boot/grub/i386-pc/load.cfg", "/boot/grub2/i386-pc/load.cfg"]

    /// Upper bounds: a hostile tree may hold anything.
    static let longestText = 4 << 20
    static let longestProgram = 160 << 20
    static let mostBytes = 48 << 20
    static let mostNames = 512

    /// Seeds of the random number generator, and the key of encrypted credentials.
    static let seeds = [
        "/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/var/lib/misc/random-seed",
        "/var/lib/random-seed", "/var/lib/systemd/credential.secret",
    ]
    /// The key of this system's encrypted credentials, and their folder.
    static let credentialSecret = "/var/lib/systemd/credential.secret"
    static let credentials = "/etc/credstore.encrypted"
    /// Names bound to network cards, and keys of network programs.
    static let network = [
        "/etc/udev/rules.d/70-persistent-net.rules", "/etc/udev/rules.d/75-persistent-net-generator.rules",
        "/var/lib/NetworkManager/secret_key", "/var/lib/NetworkManager/seen-bssids", "/var/lib/dhcpcd/duid",
        "/var/lib/dhcpcd/secret", "/etc/dhcpcd.duid", "/etc/dhcpcd.secret", "/var/lib/dhcpv6/client6.leases",
    ]
    /// Folders of leases, and the endings of their names.
    static let leases: [(path: String, endings: [String])] = [
        ("/var/lib/dhcp", [".lease", ".leases", ".leases~"]), ("/var/lib/dhclient", [".lease", ".leases"]),
        ("/var/lib/dhcpcd", [".lease", ".lease6"]), ("/var/lib/NetworkManager", [".lease", ".leases"]),
    ]
    /// Prefix of old SSH host keys while new ones are made.
    static let setAside = ".reforge-old-"
    /// The record of a change of identifiers that is under way.
    static let record = "/.reforge-new-identity"

    /// Programs of the system that renew something.
    static let tools = [
        "ssh-keygen", "dropbearkey", "update-initramfs", "dracut", "mkinitcpio", "grub-install", "grub2-install",
    ]

    /// Identities that cannot be renewed offline: a file that shows one, and what to do in the started system.
    static let byHand: [(path: String, sentence: String)] = [
        (
            "/var/lib/cloud/instance",
            "cloud-init keeps the state of the captured machine: run `cloud-init clean` in the started system"
        ),
        (
            "/var/lib/tailscale/tailscaled.state",
            "tailscale has the captured machine's key: run `tailscale logout` and `tailscale up`"
        ),
        (
            "/etc/puppetlabs/puppet/ssl",
            "Puppet has the captured machine's certificate: remove /etc/puppetlabs/puppet/ssl and sign a new one"
        ),
        (
            "/var/lib/puppet/ssl",
            "Puppet has the captured machine's certificate: remove /var/lib/puppet/ssl and sign a new one"
        ),
        (
            "/etc/salt/minion_id",
            "Salt has the captured machine's minion id and key: /etc/salt/minion_id, /etc/salt/pki"
        ),
        ("/etc/chef/client.pem", "Chef has the captured machine's key: register the node again"),
        (
            "/etc/pki/consumer/cert.pem",
            "Red Hat's subscription has the captured machine's identity: run `subscription-manager clean` and register"
        ),
        (
            "/etc/krb5.keytab",
            "the Kerberos keytab is of the captured machine (a domain's member too): join the domain again"
        ),
        (
            "/var/lib/samba/private/secrets.tdb",
            "Samba has the captured machine's SID and machine account: join the domain again"
        ),
        ("/etc/wireguard", "WireGuard's private keys in /etc/wireguard are the captured machine's"),
        ("/var/lib/zerotier-one/identity.secret", "ZeroTier has the captured machine's identity: remove its files"),
        ("/etc/kubernetes/kubelet.conf", "Kubernetes has the captured node's identity: reset and join it again"),
        ("/var/lib/docker/swarm/docker-state.json", "Docker's swarm has the captured node's identity"),
        ("/etc/letsencrypt/live", "certificates in /etc/letsencrypt are the captured machine's"),
        (
            "/etc/dropbear/initramfs",
            "the SSH host keys of dropbear in the initramfs (/etc/dropbear/initramfs) are the captured machine's"
        ),
        (
            "/etc/postfix/main.cf",
            "Postfix may have the captured machine's name: check myhostname in /etc/postfix/main.cf"
        ),
    ]
}
