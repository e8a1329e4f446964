package endpoint_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/endpoint"
)

var sentList = []string{"accounts.zoho.eu", "https://accounts.zoho.in:8443", "http://127.0.0.1:9000", "*.salesforce.com", "*.amazonaws.com"}

func TestSecurity4_SentHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, want string }{
		{"https://accounts.zoho.eu", "https://accounts.zoho.eu"},
		{"accounts.zoho.eu", "https://accounts.zoho.eu"},
		{"HTTPS://Accounts.Zoho.EU:443/oauth/v2", "https://accounts.zoho.eu"},
		{"https://accounts.zoho.eu/%2e%2e/x", "https://accounts.zoho.eu"},
		{"accounts.zoho.in:8443", "https://accounts.zoho.in:8443"},
		{"http://127.0.0.1:9000/", "http://127.0.0.1:9000"},
		{"https://acme.my.salesforce.com", "https://acme.my.salesforce.com"},
		{"acme--dev.sandbox.my.salesforce.com", "https://acme--dev.sandbox.my.salesforce.com"},
		{"https://sts.amazonaws.com", "https://sts.amazonaws.com"},
	} {
		got, err := endpoint.ParseSent(tt.raw, sentList)
		if err != nil || got != tt.want {
			t.Errorf("ParseSent(%q) = %q, %v; want %q", tt.raw, got, err, tt.want)
		}
	}
	for _, raw := range append(steering,
		"http://accounts.zoho.eu", "accounts.zoho.eu:8443", "accounts.zoho.in", "https://127.0.0.1:9000", "127.0.0.1:9000", "http://127.0.0.1", "http://localhost:9000", "http://[::ffff:127.0.0.1]:9000",
		"https://salesforce.com", "https://.salesforce.com", "https://evilsalesforce.com", "https://salesforce.com.evil.com", "https://a.salesforce.com.", "http://a.salesforce.com", "a.salesforce.com:8443",
		"https://evil.com/a.salesforce.com", "https://evil.com#.salesforce.com", "https://evil.com?.salesforce.com", `https://evil.com\.salesforce.com`, "https://evil.com%2f.salesforce.com", "https://evil.com/@a.salesforce.com", "https://a.salesforce.com@evil.com", "https://x@a.salesforce.com",
		"//a.salesforce.com", "https:a.salesforce.com", "https:/a.salesforce.com", "https:///a.salesforce.com", "ftp://a.salesforce.com", "javascript://a.salesforce.com", "https://https://a.salesforce.com",
		"https://evil。a.salesforce.com", "https://evil\x00.salesforce.com", "https://a b.salesforce.com", "https://evil.s3.amazonaws.com", "https://x.compute.amazonaws.com", "https://s3.amazonaws.com",
		"https://zoho.eu", "https://x.accounts.zoho.eu", strings.Repeat("a.", 200)+"salesforce.com",
	) {
		got, err := endpoint.ParseSent(raw, sentList)
		if err == nil {
			t.Errorf("ParseSent(%.60q) = %q, want an error", raw, got)
			continue
		}
		if !errors.Is(err, endpoint.ErrURL) && !errors.Is(err, endpoint.ErrNotAllowed) {
			t.Errorf("ParseSent(%.60q) = %v, want ErrURL or ErrNotAllowed", raw, err)
		}
		if len(raw) > 8 && strings.Contains(err.Error(), raw) {
			t.Errorf("ParseSent(%.60q) = %v, want an error without it", raw, err)
		}
	}
}

// Hosts that receive client credentials come from a list of exact hosts (security 3).
func TestSecurity3_SentExact(t *testing.T) {
	t.Parallel()
	if _, err := endpoint.ParseSentExact("https://accounts.zoho.eu", sentList); !errors.Is(err, endpoint.ErrPattern) {
		t.Errorf("ParseSentExact with a suffix in the list = %v, want ErrPattern", err)
	}
	list := []string{"accounts.zoho.eu", "accounts.zoho.com"}
	if got, err := endpoint.ParseSentExact("https://accounts.zoho.com/", list); got != "https://accounts.zoho.com" || err != nil {
		t.Errorf("ParseSentExact() = %q, %v", got, err)
	}
	if got, err := endpoint.ParseSentExact("https://accounts.zoho.com.cn", list); !errors.Is(err, endpoint.ErrNotAllowed) {
		t.Errorf("ParseSentExact() = %q, %v; want ErrNotAllowed", got, err)
	}
	if got, err := endpoint.ParseSentExact("https://accounts.zoho.com", nil); !errors.Is(err, endpoint.ErrNotAllowed) {
		t.Errorf("ParseSentExact() with no list = %q, %v; want ErrNotAllowed", got, err)
	}
	for _, tt := range []struct {
		list  []string
		exact bool
		ok    bool
	}{
		{list, true, true}, {sentList, false, true}, {sentList, true, false}, {nil, true, true},
		{[]string{"*.com"}, false, false}, {[]string{"*.github.io"}, false, false}, {[]string{"a.com/x"}, false, false}, {[]string{"{x}.example.com"}, false, false}, {[]string{"*"}, false, false},
	} {
		if err := endpoint.CheckSent(tt.list, tt.exact); (err == nil) != tt.ok {
			t.Errorf("CheckSent(%q, %t) = %v, want ok = %t", tt.list, tt.exact, err, tt.ok)
		}
	}
}

func FuzzSent(f *testing.F) {
	for _, value := range steering {
		f.Add(value)
		f.Add("https://" + value + ".salesforce.com/")
		f.Add("https://accounts.zoho.eu" + value)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := endpoint.ParseSent(raw, sentList)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.String() != got || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("ParseSent(%q) = %q, which is no origin (%v)", raw, got, err)
		}
		switch {
		case got == "http://127.0.0.1:9000", u.Scheme == "https" && (u.Host == "accounts.zoho.eu" || u.Host == "accounts.zoho.in:8443" || strings.HasSuffix(u.Host, ".salesforce.com") || strings.HasSuffix(u.Host, ".amazonaws.com")):
		default:
			t.Fatalf("ParseSent(%q) = %q, which is not on the list", raw, got)
		}
		if again, err := endpoint.ParseSent(got, sentList); err != nil || again != got {
			t.Fatalf("ParseSent(%q) = %q, %v; want the same again", got, again, err)
		}
	})
}
