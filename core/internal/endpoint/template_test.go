package endpoint_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/endpoint"
)

// anything is the widest pattern that a configuration can hold.
var anything = endpoint.Variable{Pattern: `(?s).*`}

func mustParse(t testing.TB, raw string, vars map[string]endpoint.Variable) *endpoint.Template {
	t.Helper()
	template, err := endpoint.Parse(raw, vars)
	if err != nil {
		t.Fatalf("Parse(%q) = %v", raw, err)
	}
	return template
}

func TestExpand(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{
		"x":      {},
		"y":      {},
		"tenant": {Pattern: `common|organizations|[0-9a-f-]{36}|[a-z0-9.-]+\.onmicrosoft\.com`},
		"shop":   {PrivateSuffix: true},
		"mine":   {Pattern: `[A-Za-z0-9.-]+`},
		"origin": {Origin: sent("eu.example.com:8443")},
	}
	values := map[string]string{
		"x": "acme", "y": "EU-1", "tenant": "contoso.onmicrosoft.com", "shop": "acme", "mine": "acme--dev.sandbox.my", "origin": "https://eu.example.com:8443",
	}
	for _, tt := range []struct{ template, want string }{
		{"https://api.example.com/token", "https://api.example.com/token"},
		{"https://API.example.com:443", "https://api.example.com"},
		{"https://{x}.zendesk.com/oauth/tokens", "https://acme.zendesk.com/oauth/tokens"},
		{"https://{x}.{y}.example.co.uk/", "https://acme.eu-1.example.co.uk/"},
		{"https://{x}-api.example.com/", "https://acme-api.example.com/"},
		{"https://api-{x}.example.com:8443/a", "https://api-acme.example.com:8443/a"},
		{"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"},
		{"https://{mine}.salesforce.com/services", "https://acme--dev.sandbox.my.salesforce.com/services"},
		{"https://{shop}.myshopify.com/admin/oauth/access_token", "https://acme.myshopify.com/admin/oauth/access_token"},
		{"https://graph.example.com/v{x}/{y}", "https://graph.example.com/vacme/EU-1"},
		{"{origin}/services/{x}", "https://eu.example.com:8443/services/acme"},
		{"{origin}", "https://eu.example.com:8443"},
		{"http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token"},
		{"https://[2001:DB8::1]:8443/{x}", "https://[2001:db8::1]:8443/acme"},
	} {
		t.Run(tt.template, func(t *testing.T) {
			t.Parallel()
			template := mustParse(t, tt.template, vars)
			got, err := template.Expand(values)
			if err != nil {
				t.Fatalf("Expand() = %v", err)
			}
			if got.String() != tt.want {
				t.Errorf("Expand() = %s, want %s", got, tt.want)
			}
			if template.String() != tt.template {
				t.Errorf("String() = %s, want %s", template, tt.template)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{"a": {}, "b": {}, "o": {Origin: sent("*.example.com")}}
	if got, want := mustParse(t, "https://{b}.example.com/{a}/{b}", vars).Variables(), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("Variables() = %q, want %q", got, want)
	}
	if got, want := mustParse(t, "{o}/{a}", vars).Variables(), []string{"a", "o"}; !slices.Equal(got, want) {
		t.Errorf("Variables() = %q, want %q", got, want)
	}
}

// Templates that would leave the host to the value, or that hold what no template may.
func TestSecurity4_TemplatesRefused(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{"x": {}, "y": {}, "o": {Origin: sent("*.example.com")}, "private": {PrivateSuffix: true}, "bad": {Pattern: "("}, "escape": {Pattern: "a)|(b"}}
	for _, raw := range []string{
		"", "https://", "https:///token", "/token", "{x}/token", "api.example.com/token", "//api.example.com",
		"https://{x}", "https://{x}/token", "https://{x}.com", "https://{x}.co.uk", "https://{x}.github.io", "https://{x}.myshopify.com",
		"https://{x}.kawasaki.jp", "https://{x}.compute.amazonaws.com", "https://{x}.example", "https://{x}example.com", "https://accounts.zoho.{x}",
		"https://{x}.{y}", "https://example.com.{x}/", "https://example.com:{x}/", "https://{x}:443/", "https://a.example.com:4{x}/",
		"https://{private}.com", "https://{private}.co.uk", "https://{private}.{x}.myshopify.com.{x}", "https://{x}{private}.myshopify.com",
		"http://{x}.example.com/", "ftp://example.com/", "HTTPS://example.com", "{x}://example.com", "https:api.example.com",
		"https://user@example.com/", "https://user:pass@example.com/", "https://{x}@example.com/", "https://{x}@evil.example.com/",
		"https://example.com/?a={x}", "https://example.com/?", "https://example.com/#{x}", "https://example.com/a#", "https://{x}?.example.com/",
		"https://{x.example.com/", "https://x}.example.com/", "https://{{x}}.example.com/", "https://{x/}.example.com", "https://{}.example.com",
		"https://{unknown}.example.com", "https://example.com/{unknown}", "https://{bad}.example.com", "https://{escape}.example.com",
		"https://{x}..example.com", "https://{x}.example.com.", "https://.example.com/", "https://{x}.-exa mple.com", "https://{x}.exa_mple!.com",
		"https://{x}.Example.com", "https://{x}.exämple.com", "https://{x}。example.com", "https://{x}.0.0.1/", "https://[{x}::1]/", "https://{x}.[::1].example.com",
		"https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://010.0.0.1/", "https://[::1%25eth0]/", "https://[fe80::1%eth0]/",
		"https://example.com:0/", "https://example.com:65536/", "https://example.com:/", "https://example.com:08/", "https://{x}.example.com:99999/", "https://{x}.example.com:/",
		"https://example.com/../{x}", "https://example.com/./{x}", "https://example.com//{x}", "https://example.com/%2e%2e/{x}", `https://example.com\{x}`, "https://example.com/a b", "https://example.com/\x00",
		"https://{o}/token", "{o}.example.com/token", "https://example.com/{o}", "{o}{x}/token", "{o}:443/",
		"https://example.com/" + strings.Repeat("a", 3000),
	} {
		template, err := endpoint.Parse(raw, vars)
		if err == nil {
			t.Errorf("Parse(%q) = %v, want an error", raw, template)
			continue
		}
		if !errors.Is(err, endpoint.ErrPattern) {
			t.Errorf("Parse(%q) = %v, want ErrPattern", raw, err)
		}
	}
	_, err := endpoint.Parse("https://canary:canary@example.com/?key=canary#canary", vars)
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("Parse with userinfo = %v, want an error without it", err)
	}
}

// steering holds values with which people try to leave the host or the path of a template.
var steering = []string{
	"", " ", ".", "..", "-x", "x-", "-", "a.b", "evil.com", "evil.com#", "evil.com/", "evil.com?", "evil.com:443", "evil.com:443#", `evil.com\`,
	"a@evil", "a:b@evil", "evil.com%2f", "%2f", "%2e%2e", "%00", "%23", "a/b", "../..", "a/../b", "..;", "a;b", "a?b", "a#b", `a\b`,
	"a\x00b", "a\nb", "a\r\nHost: evil.com", "a\tb", "a b", "é", "evil。com", "evil．com", "evil｡com", "ｅvil", "evil.com\u200b",
	"[::1]", "::1", "{x}", "}", "$(x)", "*", "<script>", `"`, "'", strings.Repeat("a", 64), strings.Repeat("a", 254), strings.Repeat("a.", 126) + "a", strings.Repeat("a", 100000),
}

// The default variable is one DNS label and nothing else.
func TestSecurity4_DefaultVariableIsOneLabel(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{"x": {}}
	for _, raw := range []string{"https://{x}.example.com/token", "https://api.example.com/{x}/token"} {
		template := mustParse(t, raw, vars)
		for _, value := range steering {
			u, err := template.Expand(map[string]string{"x": value})
			var typed *endpoint.Error
			if !errors.As(err, &typed) || !errors.Is(err, endpoint.ErrValue) || typed.Variable != "x" {
				t.Errorf("%s with %.40q = %v, %v; want an error about x", raw, value, u, err)
				continue
			}
			if len(value) > 3 && strings.Contains(err.Error(), value) {
				t.Errorf("%s with %.40q: the error %q repeats the value", raw, value, err)
			}
		}
		for _, value := range []string{"a", "A", "acme", "Acme-2", "0", "xn--bcher-kva", strings.Repeat("a", 63)} {
			if _, err := template.Expand(map[string]string{"x": value}); err != nil {
				t.Errorf("%s with %q = %v, want it to expand", raw, value, err)
			}
		}
		if _, err := template.Expand(nil); !errors.Is(err, endpoint.ErrValue) {
			t.Errorf("%s without values = %v, want ErrValue", raw, err)
		}
	}
}

// A custom pattern cannot widen what a value may do to a URL.
func TestSecurity4_CustomPatternCannotSteer(t *testing.T) {
	t.Parallel()
	vars := map[string]endpoint.Variable{"x": anything, "y": anything}
	host := mustParse(t, "https://{x}.example.com:8443/token", vars)
	path := mustParse(t, "https://api.example.com/a/{x}/b", vars)
	for _, value := range steering {
		if u, err := host.Expand(map[string]string{"x": value}); err == nil {
			checkExpanded(t, u, "https", ".example.com:8443")
			if u.EscapedPath() != "/token" {
				t.Errorf("%q moved the path to %s", value, u)
			}
		}
		if u, err := path.Expand(map[string]string{"x": value}); err == nil {
			checkExpanded(t, u, "https", "api.example.com")
			if strings.Count(u.EscapedPath(), "/") != 3 {
				t.Errorf("%q changed the segments of %s", value, u)
			}
		}
	}
	// Two variables that are harmless alone.
	both := mustParse(t, "https://api.example.com/{x}{y}/b", vars)
	if u, err := both.Expand(map[string]string{"x": ".", "y": "."}); err == nil {
		t.Errorf("two dots expand to %s, want an error", u)
	}
	// A name below the suffix that somebody else can register.
	cloud := mustParse(t, "https://{x}.amazonaws.com/", vars)
	if u, err := cloud.Expand(map[string]string{"x": "evil.s3"}); err == nil {
		t.Errorf("a bucket expands to %s, want an error", u)
	}
}

// The value of an Origin variable is held to the form in which Sent.Parse returned it.
func TestSecurity4_OriginValues(t *testing.T) {
	t.Parallel()
	template := mustParse(t, "{o}/token", map[string]endpoint.Variable{"o": {Origin: sent("*.example.com")}})
	for _, value := range append(steering, "https://", "https://a.example.com/", "https://A.example.com", "https://a.example.com:443", "https://a@b.example.com",
		"https://a.example.com?x", "https://a.example.com#x", `https://a.example.com\`, "ftp://a.example.com", "https:/a.example.com", "javascript://x", "https://a.example.com.", "https://a..example.com", "https://a.example.com:8443", "http://a.example.com", "https://evil.com", "https://example.com") {
		if u, err := template.Expand(map[string]string{"o": value}); !errors.Is(err, endpoint.ErrValue) {
			t.Errorf("Expand with %.40q = %v, %v; want ErrValue", value, u, err)
		}
	}
}

func checkExpanded(t *testing.T, u *url.URL, scheme, suffix string) {
	t.Helper()
	again, err := url.Parse(u.String())
	if err != nil {
		t.Fatalf("url.Parse(%q) = %v", u, err)
	}
	if again.Scheme != scheme || !strings.HasSuffix(again.Host, suffix) || again.User != nil || again.RawQuery != "" || again.ForceQuery || again.Fragment != "" || again.Opaque != "" {
		t.Fatalf("expanded to %q, want %s, a host that ends with %s and nothing added", again, scheme, suffix)
	}
	if err := endpoint.CheckRequestURL(again); err != nil {
		t.Fatalf("CheckRequestURL(%q) = %v", again, err)
	}
}

func FuzzExpand(f *testing.F) {
	for _, value := range steering {
		f.Add(value, "b")
		f.Add("a", value)
	}
	vars := map[string]endpoint.Variable{"x": anything, "y": anything}
	templates := []struct {
		template *endpoint.Template
		suffix   string
		slashes  int
	}{
		{mustParse(f, "https://{x}.example.com/{y}/token", vars), ".example.com", 2},
		{mustParse(f, "https://{x}{y}-api.example.co.uk:8443/a/{x}.{y}", vars), "-api.example.co.uk:8443", 2},
		{mustParse(f, "https://api.example.com/{x}{y}", vars), "api.example.com", 1},
	}
	f.Fuzz(func(t *testing.T, x, y string) {
		for _, tt := range templates {
			u, err := tt.template.Expand(map[string]string{"x": x, "y": y})
			if err != nil {
				continue
			}
			checkExpanded(t, u, "https", tt.suffix)
			if strings.Count(u.EscapedPath(), "/") != tt.slashes {
				t.Fatalf("expanded to %q, want %d segments", u, tt.slashes)
			}
		}
	})
}
