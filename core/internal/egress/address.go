package egress

import "net/netip"

// special is a block of addresses that no outbound call may reach.
type special struct {
	prefix netip.Prefix
	reason string
}

// The IANA special-purpose address registries (RFC 6890 as updated by RFC 8190), multicast (RFC 5771, RFC 4291 §2.7),
// and the addresses at which clouds serve credentials to whoever asks. Where several match, the first names the reason.
var specials = parseSpecials([][2]string{
	// Cloud metadata that would otherwise pass as something else, or as public.
	{"169.254.169.254/32", "a cloud metadata address"},
	{"fd00:ec2::254/128", "a cloud metadata address"}, // AWS
	{"168.63.129.16/32", "a cloud metadata address"},  // Azure, a public address
	{"100.100.100.200/32", "a cloud metadata address"},
	{"192.0.0.192/32", "a cloud metadata address"}, // Oracle

	{"0.0.0.0/8", "an unspecified address"},           // RFC 791 §3.2
	{"10.0.0.0/8", "a private address"},               // RFC 1918
	{"100.64.0.0/10", "a carrier's shared address"},   // RFC 6598
	{"127.0.0.0/8", "a loopback address"},             // RFC 1122 §3.2.1.3
	{"169.254.0.0/16", "a link-local address"},        // RFC 3927
	{"172.16.0.0/12", "a private address"},            // RFC 1918
	{"192.0.0.0/24", "a protocol assignment address"}, // RFC 6890 §2.1
	{"192.0.2.0/24", "a documentation address"},       // RFC 5737
	{"192.88.99.0/24", "a 6to4 relay address"},        // RFC 7526
	{"192.168.0.0/16", "a private address"},           // RFC 1918
	{"198.18.0.0/15", "a benchmarking address"},       // RFC 2544
	{"198.51.100.0/24", "a documentation address"},    // RFC 5737
	{"203.0.113.0/24", "a documentation address"},     // RFC 5737
	{"224.0.0.0/4", "a multicast address"},            // RFC 5771
	{"255.255.255.255/32", "a broadcast address"},     // RFC 8190
	{"240.0.0.0/4", "a reserved address"},             // RFC 1112 §4

	{"::/128", "an unspecified address"},              // RFC 4291 §2.5.2
	{"::1/128", "a loopback address"},                 // RFC 4291 §2.5.3
	{"::/96", "an IPv4-compatible address"},           // RFC 4291 §2.5.5.1
	{"::ffff:0:0:0/96", "an IPv4-translated address"}, // RFC 2765 §2.1
	{"64:ff9b::/96", "a NAT64 address"},               // RFC 6052 §2.1
	{"64:ff9b:1::/48", "a NAT64 address"},             // RFC 8215
	{"100::/64", "a discard-only address"},            // RFC 6666
	{"2001::/32", "a Teredo address"},                 // RFC 4380
	{"2001::/23", "a protocol assignment address"},    // RFC 2928
	{"2001:db8::/32", "a documentation address"},      // RFC 3849
	{"2002::/16", "a 6to4 address"},                   // RFC 3056
	{"3fff::/20", "a documentation address"},          // RFC 9637
	{"fc00::/7", "a private address"},                 // RFC 4193
	{"fe80::/10", "a link-local address"},             // RFC 4291 §2.5.6
	{"fec0::/10", "a site-local address"},             // RFC 3879
	{"ff00::/8", "a multicast address"},               // RFC 4291 §2.7
})

// globalUnicast is all of IPv6 that IANA has given out (RFC 4291 §2.4); what is outside and has no line above may get
// any meaning yet.
var globalUnicast = netip.MustParsePrefix("2000::/3")

func parseSpecials(lines [][2]string) []special {
	table := make([]special, len(lines))
	for i, line := range lines {
		table[i] = special{netip.MustParsePrefix(line[0]), line[1]}
	}
	return table
}

// whyBlocked returns what makes ip an address that may not be called, "" when it is public. An IPv4-mapped address
// (RFC 4291 §2.5.5.2) is judged as the IPv4 address that the system would connect to.
func whyBlocked(ip netip.Addr) string {
	if !ip.IsValid() {
		return "not an address"
	}
	if ip.Zone() != "" {
		return "an address with a zone" // a scope within this machine, RFC 4007 §11
	}
	ip = ip.Unmap()
	for _, s := range specials {
		if s.prefix.Contains(ip) {
			return s.reason
		}
	}
	if ip.Is6() && !globalUnicast.Contains(ip) {
		return "an unassigned address"
	}
	return ""
}
