package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/polycred/polycred/core/internal/endpoint"
	"golang.org/x/net/http/httpproxy"
)

// blockedError is a refusal to connect. It names what was dialled as it was written, never what it resolved to: the
// answer would map the host's network for whoever may choose names.
type blockedError struct {
	hostPort string
	reason   string
}

func (e *blockedError) Error() string {
	return fmt.Sprintf("%s is %s; list it in Options.PrivateHosts if this is meant", e.hostPort, e.reason)
}

// dial connects to a server, or to a proxy.
func (t *Transport) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	hostPort, err := endpoint.HostPort("", addr)
	if err != nil {
		return nil, &blockedError{"the address", "malformed"}
	}
	if t.allow[hostPort] {
		return t.plain.DialContext(ctx, network, addr)
	}
	conn, err := t.guarded.DialContext(ctx, network, addr)
	var blocked *blockedError
	if errors.As(err, &blocked) {
		return nil, &blockedError{hostPort, blocked.reason}
	}
	return conn, err
}

// refusePrivate runs between the resolution of a name and connect(2), with the very address that will be connected
// to. A check any earlier could be undone by a second, different DNS answer.
func refusePrivate(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return &blockedError{address, "not a TCP address"}
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return &blockedError{address, "not an IP address"}
	}
	if reason := whyBlocked(target.Addr()); reason != "" {
		return &blockedError{address, reason}
	}
	return nil
}

// checkName refuses a host:port that is private as it is written. The dialler would refuse most of them too; a proxy
// would not.
func checkName(hostPort string) error {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return &blockedError{hostPort, "malformed"}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if reason := whyBlocked(ip); reason != "" {
			return &blockedError{hostPort, reason}
		}
		return nil
	}
	if !strings.Contains(host, ".") {
		return &blockedError{hostPort, "a name without a dot, which only a private network knows"}
	}
	for _, suffix := range privateNames {
		if strings.HasSuffix(host, suffix) {
			return &blockedError{hostPort, "under " + suffix + ", which is private by registration"}
		}
	}
	return nil
}

// privateNames never resolve on the public internet: IANA Special-Use Domain Names (RFC 6761, 6762, 8375), and
// .internal by decision of ICANN.
var privateNames = []string{".localhost", ".local", ".internal", ".home.arpa"}

// environmentProxy reads the proxy variables once.
func environmentProxy() (func(*url.URL) (*url.URL, error), error) {
	config := httpproxy.FromEnvironment()
	// httpproxy ignores what it cannot parse, and traffic would silently go out directly.
	for name, value := range map[string]string{"HTTP_PROXY": config.HTTPProxy, "HTTPS_PROXY": config.HTTPSProxy} {
		if value != "" && !isProxyURL(value) {
			return nil, fmt.Errorf("egress: %s in the environment is not the URL of a proxy; write http://host:port", name)
		}
	}
	return config.ProxyFunc(), nil
}

func isProxyURL(value string) bool {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		_, err = endpoint.HostPort(u.Scheme, u.Host)
	case "socks5", "socks5h":
		if u.Port() == "" {
			return true
		}
		_, err = endpoint.HostPort("", u.Host)
	default:
		return false
	}
	return err == nil
}
