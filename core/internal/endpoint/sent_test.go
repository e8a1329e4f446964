package endpoint_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/endpoint"
)

var sentList = []string{"accounts.zoho.eu", "https://accounts.zoho.in:8443", "http://127.0.0.1:9000", "*.salesforce.com", "*.amazonaws.com"}

// sent is a list that has to be good.
func sent(hosts ...string) *endpoint.Sent {
	list, err := endpoint.ParseSentHosts(hosts, false)
	if err != nil {
		panic(err)
	}
	return list
}

func TestSecurity4_SentHosts(t *testing.T) {
	t.Parallel()
	list := sent(sentList...)
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
		got, err := list.Parse(tt.raw)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", tt.raw, got, err, tt.want)
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
		got, err := list.Parse(raw)
		if err == nil {
			t.Errorf("Parse(%.60q) = %q, want an error", raw, got)
			continue
		}
		if !errors.Is(err, endpoint.ErrURL) && !errors.Is(err, endpoint.ErrNotAllowed) {
			t.Errorf("Parse(%.60q) = %v, want ErrURL or ErrNotAllowed", raw, err)
		}
		if len(raw) > 8 && strings.Contains(err.Error(), raw) {
			t.Errorf("Parse(%.60q) = %v, want an error without it", raw, err)
		}
	}
}

// Hosts that receive client credentials come from a list of exact hosts (security 3).
func TestSecurity3_SentExact(t *testing.T) {
	t.Parallel()
	list := []string{"accounts.zoho.eu", "accounts.zoho.com"}
	exact, err := endpoint.ParseSentHosts(list, true)
	if err != nil {
		t.Fatalf("ParseSentHosts(%q, true) = %v", list, err)
	}
	if got, err := exact.Parse("https://accounts.zoho.com/"); got != "https://accounts.zoho.com" || err != nil {
		t.Errorf("Parse() = %q, %v", got, err)
	}
	for name, sent := range map[string]*endpoint.Sent{"another list": exact, "an empty list": sent()} {
		if got, err := sent.Parse("https://accounts.zoho.com.cn"); !errors.Is(err, endpoint.ErrNotAllowed) {
			t.Errorf("Parse() with %s = %q, %v; want ErrNotAllowed", name, got, err)
		}
	}
	for _, tt := range []struct {
		list  []string
		exact bool
		ok    bool
	}{
		{list, true, true}, {sentList, false, true}, {sentList, true, false}, {nil, true, true},
		{[]string{"*.com"}, false, false}, {[]string{"*.github.io"}, false, false}, {[]string{"a.com/x"}, false, false}, {[]string{"{x}.example.com"}, false, false}, {[]string{"*"}, false, false},
	} {
		_, err := endpoint.ParseSentHosts(tt.list, tt.exact)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, endpoint.ErrPattern) {
			t.Errorf("ParseSentHosts(%q, %t) = %v, want ok = %t", tt.list, tt.exact, err, tt.ok)
		}
	}
}

func FuzzSent(f *testing.F) {
	for _, value := range steering {
		f.Add(value)
		f.Add("https://" + value + ".salesforce.com/")
		f.Add("https://accounts.zoho.eu" + value)
	}
	list := sent(sentList...)
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := list.Parse(raw)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.String() != got || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("Parse(%q) = %q, which is no origin (%v)", raw, got, err)
		}
		switch {
		case got == "http://127.0.0.1:9000", u.Scheme == "https" && (u.Host == "accounts.zoho.eu" || u.Host == "accounts.zoho.in:8443" || strings.HasSuffix(u.Host, ".salesforce.com") || strings.HasSuffix(u.Host, ".amazonaws.com")):
		default:
			t.Fatalf("Parse(%q) = %q, which is not on the list", raw, got)
		}
		if again, err := list.Parse(got); err != nil || again != got {
			t.Fatalf("Parse(%q) = %q, %v; want the same again", got, again, err)
		}
	})
}

// A host that was taken off the list is worth nothing where it was kept (security 3 and 4).
func TestSecurity4_OriginLeftTheList(t *testing.T) {
	t.Parallel()
	values := map[string]string{"o": "https://old.example.com"}
	for _, tt := range []struct {
		list []string
		want bool
	}{
		{[]string{"old.example.com"}, true},
		{[]string{"*.example.com"}, true},
		{[]string{"new.example.com"}, false},
		{[]string{"old.example.com:8443"}, false},
		{nil, false},
	} {
		vars := map[string]endpoint.Variable{"o": {Origin: sent(tt.list...)}}
		if _, err := mustParse(t, "{o}/me", vars).Expand(values); errors.Is(err, endpoint.ErrValue) == tt.want {
			t.Errorf("Expand() with the list %q = %v, want ok = %t", tt.list, err, tt.want)
		}
		hosts, err := endpoint.ParseHosts([]string{"{o}"}, vars)
		if err != nil {
			t.Fatal(err)
		}
		err = hosts.Check(&url.URL{Scheme: "https", Host: "old.example.com", Path: "/me"}, values)
		if errors.Is(err, endpoint.ErrNotAllowed) == tt.want || err != nil && !strings.Contains(err.Error(), "does not have it any more") {
			t.Errorf("Check() with the list %q = %v, want ok = %t", tt.list, err, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{"site": {Pattern: "[a-z]+", Default: "login"}, "bad": {Pattern: "[a-z]+", Default: "1"}}
	template := mustParse(t, "https://{site}.example.com/token", vars)
	for value, want := range map[string]string{"": "https://login.example.com/token", "test": "https://test.example.com/token", "1": ""} {
		u, err := template.Expand(map[string]string{"site": value})
		if want == "" && !errors.Is(err, endpoint.ErrValue) || want != "" && (err != nil || u.String() != want) {
			t.Errorf("Expand(site=%q) = %v, %v, want %q", value, u, err, want)
		}
	}
	if u, err := mustParse(t, "https://{bad}.example.com/", vars).Expand(nil); !errors.Is(err, endpoint.ErrValue) {
		t.Errorf("Expand() with a default that does not match = %v, %v, want ErrValue", u, err)
	}
	hosts, err := endpoint.ParseHosts([]string{"{site}.example.com"}, vars)
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts.Check(&url.URL{Scheme: "https", Host: "login.example.com"}, nil); err != nil {
		t.Errorf("Check() of the default = %v", err)
	}
}
