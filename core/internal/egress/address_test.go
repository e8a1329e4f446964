package egress_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core/internal/egress"
)

// blocked has an address or two of every block, at its edges where it has neighbours.
var blocked = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.127.255.255", "100.100.100.200", "127.0.0.1", "127.255.255.255",
	"169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
	"::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
	"64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:ffff::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:2::1", "2001:10::1", "2001:db8::1",
	"2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1",
}

func TestSecurity18_Addresses(t *testing.T) {
	t.Parallel()
	for _, ip := range blocked {
		if egress.WhyBlocked(netip.MustParseAddr(ip)) == "" {
			t.Errorf("%s counts as public", ip)
		}
	}
	for _, ip := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17",
		"::ffff:8.8.8.8", "2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2003::1", "2606:4700:4700::1111", "2a00:1450::1", "3ffe:ffff::1",
	} {
		if reason := egress.WhyBlocked(netip.MustParseAddr(ip)); reason != "" {
			t.Errorf("%s is blocked as %s", ip, reason)
		}
	}
	for _, ip := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1%eth0")} {
		if egress.WhyBlocked(ip) == "" {
			t.Errorf("%v counts as public", ip)
		}
	}
}

// Neither a URL nor a DNS answer reaches a blocked address.
func TestSecurity18_BlockedWhenDialled(t *testing.T) {
	t.Parallel()
	for _, ip := range blocked {
		t.Run(ip, func(t *testing.T) {
			t.Parallel()
			transport := newTransport(t, egress.Options{Resolver: resolver(func(string) []string { return []string{ip} })})
			_, err := transport.Do(t.Context(), newRequest(t, "https://"+net.JoinHostPort(ip, "443")))
			checkError(t, err, egress.Blocked, false)
			if netip.MustParseAddr(ip).Is4In6() {
				return // no DNS answer makes one: it is an AAAA record that the resolver hands on as IPv4
			}
			_, err = transport.Do(t.Context(), newRequest(t, "https://named.example.com"))
			checkError(t, err, egress.Blocked, false)
		})
	}
}

// A name that resolves anew for every connection never gets through, and the server behind it sees nothing.
func TestSecurity18_Rebinding(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	hostPort := serveRaw(t, func(conn net.Conn) {
		connections.Add(1)
		_ = conn.Close()
	})
	_, port, _ := net.SplitHostPort(hostPort)
	answers := []string{"10.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"}
	var asked atomic.Int32
	transport := newTransport(t, egress.Options{
		Allow:    []string{hostPort, "other.example.com:" + port}, // as good as nothing for this name
		Resolver: resolver(func(string) []string { return answers[int(asked.Add(1))%len(answers):] }),
	})
	for i := range 20 {
		_, err := transport.Do(t.Context(), newRequest(t, fmt.Sprintf("https://rebind%d.example.com:%s", i, port)))
		checkError(t, err, egress.Blocked, false)
	}
	if asked.Load() == 0 || connections.Load() != 0 {
		t.Errorf("%d questions, %d connections; want some and none", asked.Load(), connections.Load())
	}
}

// Allow names one host and port, as it is written.
func TestSecurity18_AllowIsExact(t *testing.T) {
	t.Parallel()
	hostPort, roots := newTLSServer(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(hostPort)
	loopback := resolver(func(string) []string { return []string{"127.0.0.1"} })

	byAddress := newTransport(t, egress.Options{Allow: []string{hostPort}, RootCAs: roots, Resolver: loopback})
	if _, err := byAddress.Do(t.Context(), newRequest(t, "https://"+hostPort)); err != nil {
		t.Errorf("Do to an allowed address = %v", err)
	}
	for _, base := range []string{"https://example.com:" + port, "https://localhost:" + port, "https://127.0.0.2:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://127.0.0.1"} {
		_, err := byAddress.Do(t.Context(), newRequest(t, base))
		checkError(t, err, egress.Blocked, false)
	}
	for _, base := range []string{"https://127.1:" + port, "https://2130706433:" + port, "https://0x7f.1:" + port, "https://0177.0.0.1:" + port} {
		_, err := byAddress.Do(t.Context(), newRequest(t, base))
		checkError(t, err, egress.Blocked, false)
	}

	byName := newTransport(t, egress.Options{Allow: []string{"Example.com:" + port}, RootCAs: roots, Resolver: loopback})
	if _, err := byName.Do(t.Context(), newRequest(t, "https://EXAMPLE.com:"+port)); err != nil {
		t.Errorf("Do to an allowed name = %v", err)
	}
	_, err := byName.Do(t.Context(), newRequest(t, "https://"+hostPort))
	checkError(t, err, egress.Blocked, false)

	for _, entry := range []string{"", "example.com", "127.0.0.1", ":80", "http://127.0.0.1:80", "*.example.com:80", "10.0.0.0/8:80", "example.com:80/x", "example.com:http"} {
		if _, err := egress.New(egress.Options{Allow: []string{entry}}); err == nil {
			t.Errorf("New with %q in Allow succeeded", entry)
		}
	}
}

// Names that no public DNS knows are refused before anybody is asked, since a proxy would resolve them.
func TestSecurity18_PrivateNames(t *testing.T) {
	t.Parallel()
	transport := newTransport(t, egress.Options{Resolver: resolver(func(name string) []string {
		t.Errorf("%s was looked up", name)
		return nil
	})})
	for _, host := range []string{"localhost", "metadata", "a.localhost", "metadata.google.internal", "printer.local", "kubernetes.default.svc.cluster.local", "router.home.arpa"} {
		_, err := transport.Do(t.Context(), newRequest(t, "https://"+host))
		checkError(t, err, egress.Blocked, false)
	}
}
