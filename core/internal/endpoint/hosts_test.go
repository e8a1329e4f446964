package endpoint_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/endpoint"
)

var hostVars = map[string]endpoint.Variable{
	"x": {}, "any": anything, "shop": {PrivateSuffix: true}, "instance_url": {Origin: sent("*.salesforce.com")},
}

func TestSecurity19_HostsCompareSchemeHostPort(t *testing.T) {
	t.Parallel()
	values := map[string]string{"x": "Acme", "shop": "acme", "instance_url": "https://acme.my.salesforce.com", "any": "evil.com#"}
	for _, tt := range []struct {
		pattern, url string
		want         bool
	}{
		{"api.example.com", "https://api.example.com/v1?q=..", true},
		{"api.example.com", "https://API.Example.COM:443/", true},
		{"https://api.example.com", "https://api.example.com", true},
		{"api.example.com", "http://api.example.com/", false},
		{"api.example.com", "https://api.example.com:8443/", false},
		{"api.example.com", "https://example.com/", false},
		{"api.example.com", "https://x.api.example.com/", false},
		{"api.example.com", "https://api.example.com.evil.com/", false},
		{"api.example.com", "https://evilapi.example.com/", false},
		{"api.example.com", "https://api.example.com./", false},
		{"api.example.com", "https://api.example.com@evil.com/", false},
		{"api.example.com", "https://evil.com/api.example.com", false},
		{"api.example.com", "https://evil.com#api.example.com", false},
		{"api.example.com:8443", "https://api.example.com:8443/", true},
		{"api.example.com:8443", "https://api.example.com/", false},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/x", true},
		{"http://127.0.0.1:8080", "https://127.0.0.1:8080/x", false},
		{"http://localhost:8080", "http://localhost:8080/x", true},
		{"https://[::1]:8443", "https://[0:0::1]:8443/", true},
		{"https://127.0.0.1:8443", "https://[::ffff:127.0.0.1]:8443/", false},
		{"xn--bcher-kva.example", "https://bücher.example/", true},
		{"bucher.example", "https://bücher.example/", false},
		{"example.com", "https://example。com/", true}, // the dot as net/http will read it

		{"*.example.com", "https://a.example.com/", true},
		{"*.example.com", "https://A.EXAMPLE.com/", true},
		{"*.example.com", "https://a.b.example.com/", false},
		{"*.example.com", "https://example.com/", false},
		{"*.example.com", "https://.example.com/", false},
		{"*.example.com", "https://aexample.com/", false},
		{"*.example.com", "http://a.example.com/", false},
		{"*.example.com", "https://a.example.com:444/", false},
		{"*.example.com:444", "https://a.example.com:444/", true},
		{"*.amazonaws.com", "https://s3.amazonaws.com/", false}, // a public suffix itself
		{"*.amazonaws.com", "https://sts.amazonaws.com/", true},

		{"{x}.zendesk.com", "https://acme.zendesk.com/api", true},
		{"{x}.zendesk.com", "https://ACME.zendesk.com/api", true},
		{"{x}.zendesk.com", "https://other.zendesk.com/api", false},
		{"{x}.zendesk.com:8443", "https://acme.zendesk.com:8443/api", true},
		{"{shop}.myshopify.com", "https://acme.myshopify.com/", true},
		{"{shop}.myshopify.com", "https://other.myshopify.com/", false},
		{"{any}.example.com", "https://evil.com/", false},

		{"{instance_url}", "https://acme.my.salesforce.com/services", true},
		{"{instance_url}", "https://other.my.salesforce.com/services", false},
		{"{instance_url}", "http://acme.my.salesforce.com/services", false},
		{"{instance_url}", "https://acme.my.salesforce.com:8443/services", false},
	} {
		hosts, err := endpoint.ParseHosts([]string{tt.pattern}, hostVars)
		if err != nil {
			t.Errorf("ParseHosts(%q) = %v", tt.pattern, err)
			continue
		}
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Errorf("url.Parse(%q) = %v", tt.url, err)
			continue
		}
		if got := hosts.Allows(u, values); got != tt.want {
			t.Errorf("%q allows %s = %t, want %t (%v)", tt.pattern, tt.url, got, tt.want, hosts.Check(u, values))
		}
		if hosts.Allows(u, nil) && strings.Contains(tt.pattern, "{") {
			t.Errorf("%q allows %s without values", tt.pattern, tt.url)
		}
	}
}

func TestSecurity19_HostPatternsRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		"", "*", "*.", "*.com", "*.co.uk", "*.github.io", "*.myshopify.com", "*.s3.amazonaws.com", "*.compute.amazonaws.com", "*.localhost",
		"a.*.example.com", "*.*.example.com", "a*.example.com", "*example.com", "example.*", "**.example.com", "*.{x}.example.com", "http://*.example.com", "*.0.0.1", "*.[::1]",
		"{x}", "{x}.com", "{x}.github.io", "{shop}.com", "{unknown}.example.com", "http://{x}.example.com", "{x}.example.com/", "{x", "x}.example.com",
		"{instance_url}.example.com", "https://{instance_url}", "{instance_url}:443", "{instance_url}{x}", "a{instance_url}", "{instance_url}/",
		"example.com/", "example.com/v1", "https://example.com/", "https://user@example.com", "user:pass@example.com", "example.com?x", "example.com#x",
		"ftp://example.com", "https://", "://example.com", "example.com:", "example.com:0", "example.com:70000", "example.com:https", "exa mple.com", "example.com.", ".example.com", "a..example.com",
		"bücher.example", "%65xample.com", `example.com\`, "127.1", "0x7f.1", "[::1", "::1", strings.Repeat("a", 254), strings.Repeat("a", 64) + ".example.com",
	} {
		if _, err := endpoint.ParseHosts([]string{"example.com", pattern}, hostVars); !errors.Is(err, endpoint.ErrPattern) {
			t.Errorf("ParseHosts(%q) = %v, want ErrPattern", pattern, err)
		}
	}
}

func TestSecurity19_HostErrors(t *testing.T) {
	t.Parallel()
	u := &url.URL{Scheme: "https", Host: "api.other.com", Path: "/canary", RawQuery: "key=canary"}
	hosts, err := endpoint.ParseHosts([]string{"api.example.com", "{x}.zendesk.com"}, hostVars)
	if err != nil {
		t.Fatal(err)
	}
	err = hosts.Check(u, map[string]string{"x": "canary"})
	if !errors.Is(err, endpoint.ErrNotAllowed) {
		t.Fatalf("Check() = %v, want ErrNotAllowed", err)
	}
	for _, want := range []string{"https://api.other.com", "api.example.com", "{x}.zendesk.com"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Check() = %v, want it to name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("Check() = %v, want no part of the URL but the host, and no value", err)
	}
	empty, err := endpoint.ParseHosts(nil, nil)
	if err != nil || empty.Allows(u, nil) {
		t.Errorf("an empty list: %v, allows = %t; want it to allow nothing", err, empty.Allows(u, nil))
	}
}

func TestSecurity19_RequestURLs(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://example.com", "https://example.com/", "https://example.com/a/b?c=d", "https://example.com//a//b", "https://example.com/a%2Fb", "https://example.com/a..b/...",
		"https://example.com/?q=../..", "https://example.com/%E2%82%AC", "http://127.0.0.1:8080/x", "https://example.com/100%25", "https://example.com/a/./b",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := endpoint.CheckRequestURL(u); err != nil {
			t.Errorf("CheckRequestURL(%q) = %v", raw, err)
		}
	}
	for _, raw := range []string{
		"", "/a", "//example.com/a", "https:", "https:example.com", "https:///a", "ftp://example.com", "file:///etc/passwd", "javascript:alert(1)",
		"https://user@example.com", "https://user:pass@example.com", "https://@example.com", "https://example.com:", "https://example.com:0", "https://example.com:99999", "https://example.com.", "https://exa_mple!.com",
		"https://example.com/..", "https://example.com/../a", "https://example.com/a/..", "https://example.com/%2e%2e/a", "https://example.com/.%2e/a", "https://example.com/%2E./a", "https://example.com/a%2f..%2fb",
		"https://example.com/..;/a", "https://example.com/%252e%252e/a", "https://example.com/..%255ca", `https://example.com/a\b`, "https://example.com/a%5cb", "https://example.com/%00", "https://example.com/a%0d%0ab",
		"https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://[fe80::1%25eth0]/",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("url.Parse(%q) = %v", raw, err)
		}
		if err := endpoint.CheckRequestURL(u); !errors.Is(err, endpoint.ErrURL) {
			t.Errorf("CheckRequestURL(%q) = %v, want ErrURL", raw, err)
		}
	}
	// What only a program can make.
	for _, u := range []*url.URL{
		nil, {},
		{Scheme: "https", Opaque: "//example.com/a"},
		{Scheme: "https", Host: "example.com", Path: "http://evil.com/"},
		{Scheme: "https", Host: "example.com", Path: "*"},
		{Scheme: "HTTPS", Host: "example.com"},
		{Scheme: "https", Host: "example.com/evil"},
		{Scheme: "https", Host: "example.com#"},
		{Scheme: "https", Host: "a@example.com"},
		{Scheme: "https", Host: "example.com\r\nX: y"},
		{Scheme: "https", Host: "example.com", RawQuery: "a=b HTTP/1.1\r\nX: y"},
		{Scheme: "https", Host: "example.com", Path: "/a\nb"},
		{Scheme: "https", Host: "example.com", Path: "/%2e%2e/a"},
		{Scheme: "https", Host: "example.com", User: url.User("")},
	} {
		if err := endpoint.CheckRequestURL(u); !errors.Is(err, endpoint.ErrURL) {
			t.Errorf("CheckRequestURL(%#v) = %v, want ErrURL", u, err)
		}
	}
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ scheme, authority, want string }{
		{"https", "Example.com", "example.com:443"}, {"http", "example.com", "example.com:80"}, {"", "127.0.0.1:9000", "127.0.0.1:9000"},
		{"https", "[0::1]", "[::1]:443"}, {"", "[::1]:9", "[::1]:9"}, {"https", "bücher.example:8443", "xn--bcher-kva.example:8443"},
		{"", "example.com", ""}, {"https", "", ""}, {"https", ":443", ""}, {"https", "a:b:c", ""}, {"https", "[::1]443", ""}, {"https", "[::1]:", ""}, {"https", "[127.0.0.1]", ""}, {"gopher", "a.b", ""}, {"https", "a.b:+1", ""},
	} {
		got, err := endpoint.HostPort(tt.scheme, tt.authority)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("HostPort(%q, %q) = %q, %v; want %q", tt.scheme, tt.authority, got, err, tt.want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	for _, value := range steering {
		f.Add("https://"+value+".example.com/", value)
		f.Add("https://example.com/"+value, value)
	}
	hosts, err := endpoint.ParseHosts([]string{"api.example.com", "*.wild.example.com", "{any}.zendesk.com", "{instance_url}"}, hostVars)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw, value string) {
		u, err := url.Parse(raw)
		if err != nil || !hosts.Allows(u, map[string]string{"any": value, "instance_url": "https://fixed.example.org"}) {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "443" {
			t.Fatalf("allows %q", raw)
		}
		host, err := endpoint.HostPort("https", u.Host)
		if err != nil {
			t.Fatalf("allows %q, whose host is malformed: %v", raw, err)
		}
		if host != "api.example.com:443" && !strings.HasSuffix(host, ".wild.example.com:443") && host != "fixed.example.org:443" && host != strings.ToLower(value)+".zendesk.com:443" {
			t.Fatalf("allows %q with value %q", raw, value)
		}
	})
}
