package catalog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/crypto"
)

var names = []string{"atlassian", "github", "google", "hubspot", "microsoft", "notion", "quickbooks", "salesforce", "slack", "zoho"}

// Every file can be read, by the strict rules of the loader, and is an entry.
func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("data/*.json")
	if err != nil || len(files) < len(names) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		want, err := catalog.Parse(name, raw)
		if err != nil {
			t.Errorf("Parse(%s): %v", name, err)
			continue
		}
		if got, ok := catalog.Lookup(name); !ok || !cmp.Equal(got, want) {
			t.Errorf("Lookup(%s) = %v, %t, want what its file says", name, got, ok)
		}
	}
	if got := catalog.Names(); !slices.Equal(got, names) {
		t.Errorf("Names() = %q, want %q", got, names)
	}
	for _, name := range []string{"", "Google", "google.json", "nobody", "../google"} {
		if p, ok := catalog.Lookup(name); ok || p.Name != "" {
			t.Errorf("Lookup(%q) = %v, %t, want nothing", name, p, ok)
		}
	}
}

// An integration needs no more than a name, a client and scopes.
func TestEntriesAreComplete(t *testing.T) {
	t.Parallel()
	for _, name := range names {
		p, _ := catalog.Lookup(name)
		in, err := core.Resolve(core.Integration{Name: "it", Provider: name, OAuth2: &core.OAuth2{
			ClientID: "id", ClientSecret: crypto.NewSecret("secret"), Scopes: []string{"own"},
		}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(in.OAuth2.Scopes, append(slices.Clone(p.Scopes), "own")) || !slices.Equal(in.AllowedHosts, p.AllowedHosts) ||
			in.OAuth2.TokenURL != p.TokenURL || in.Identity.SubjectPath != p.Identity.SubjectPath || in.DisplayName != p.DisplayName {
			t.Errorf("Resolve(%s) = %+v %+v, want the facts of %+v", name, in, *in.OAuth2, p)
		}
	}
}

// Together the entries set every field there is, so that none is without somebody who needs it.
func TestEveryFieldIsNeeded(t *testing.T) {
	t.Parallel()
	set := map[string]bool{}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		set[path] = set[path] || !v.IsZero()
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(path+"[]", v.Index(i))
			}
		case reflect.Map:
			for _, key := range v.MapKeys() {
				walk(path+"[]", v.MapIndex(key))
			}
		default:
		}
	}
	for _, name := range names {
		p, _ := catalog.Lookup(name)
		walk("Provider", reflect.ValueOf(p))
	}
	if len(set) < 40 {
		t.Errorf("only %d fields were looked at", len(set))
	}
	for field, ok := range set {
		if !ok {
			t.Errorf("no entry sets %s", field)
		}
	}
}

// What a caller does to an entry stays with the caller.
func TestLookupReturnsCopies(t *testing.T) {
	t.Parallel()
	for _, name := range names {
		before, _ := catalog.Lookup(name)
		text, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		damaged, _ := catalog.Lookup(name)
		damage(reflect.ValueOf(&damaged).Elem())
		after, _ := catalog.Lookup(name)
		if again, err := json.Marshal(after); err != nil || string(again) != string(text) {
			t.Errorf("Lookup(%s) changed after its value was:\n%s", name, cmp.Diff(string(text), string(again)))
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("Lookup(%s) differs (-first +second):\n%s", name, diff)
		}
	}
}

// damage overwrites whatever can be reached.
func damage(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			damage(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			damage(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, reflect.Zero(v.Type().Elem()))
		}
	case reflect.String:
		v.SetString("damaged")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(-1)
	default:
		panic(v.Kind())
	}
}

// An entry that nobody verified says so, in its file, its value and its text.
func TestTrustIsSaid(t *testing.T) {
	t.Parallel()
	for _, name := range names {
		p, _ := catalog.Lookup(name)
		raw, err := os.ReadFile(filepath.Join("data", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if verified := p.Verified != (catalog.Verified{}); strings.Contains(p.String(), "not verified") == verified || strings.Contains(string(raw), `"date": "", "sourceUrl": ""`) == verified {
			t.Errorf("%s: String() = %q, verified %t", name, p, verified)
		}
		if host := "https://"; p.Verified.SourceURL != "" && !strings.HasPrefix(p.Verified.SourceURL, host) {
			t.Errorf("%s: source %q", name, p.Verified.SourceURL)
		}
	}
	got, _ := catalog.Lookup("zoho")
	if want := "zoho (not verified, 3 fields uncertain)"; got.String() != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	got, _ = catalog.Lookup("github")
	if want := "github (verified 2026-11-22, 6 fields uncertain)"; got.String() != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

// What HubSpot is about to end is not what the entry uses.
func TestDeprecations(t *testing.T) {
	t.Parallel()
	for _, name := range names {
		p, _ := catalog.Lookup(name)
		for _, d := range p.Deprecations {
			if d.URL == p.TokenURL || d.URL == p.AuthorizationURL || d.URL == p.Revoke.URL || d.URL == p.Identity.URL {
				t.Errorf("%s uses %s, which ends on %s", name, d.URL, d.Date)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const good = `{"name":"x","displayName":"X","docs":"https://x.example/docs","authorizationUrl":"https://x.example/a","tokenUrl":"https://x.example/t",
		"clientAuth":"body","allowedHosts":["x.example"],"identity":{"source":"token","subjectPath":"id"},
		"refresh":{"rotates":true,"singleUse":true,"grace":"1m"},"revoke":{"style":"none"},"verified":{"date":"","sourceUrl":""},"unverified":["refresh.grace"]}`
	if _, err := catalog.Parse("x", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"an unknown field", `"clientAuth"`, `"colour":"red","clientAuth"`, "colour"},
		{"an unknown field further in", `"source":"token"`, `"source":"token","color":1`, "color"},
		{"another name", `"name":"x"`, `"name":"y"`, "calls itself"},
		{"no name", `"displayName":"X"`, `"displayName":""`, "displayName"},
		{"an unknown way", `"clientAuth":"body"`, `"clientAuth":"Body"`, "clientAuth"},
		{"no way", `"clientAuth":"body",`, ``, "clientAuth"},
		{"an unknown PKCE", `"clientAuth"`, `"pkce":"plain","clientAuth"`, "pkce"},
		{"an unknown encoding", `"clientAuth"`, `"tokenEncoding":"xml","clientAuth"`, "tokenEncoding"},
		{"an unknown source", `"source":"token"`, `"source":"test"`, "identity.source"},
		{"a URL that is not called", `"source":"token"`, `"source":"token","url":"https://x.example/me"`, "identity.url"},
		{"no URL to call", `"source":"token"`, `"source":"url"`, "identity.url"},
		{"no subject", `"subjectPath":"id"`, `"subjectPath":""`, "subjectPath"},
		{"no path", `"subjectPath":"id"`, `"subjectPath":"a..b"`, "subjectPath"},
		{"an unknown style", `"style":"none"`, `"style":"soap","url":"https://x.example/r","scope":"token"`, "revoke.style"},
		{"an unknown scope", `"style":"none"`, `"style":"rfc7009","url":"https://x.example/r","scope":"all"`, "revoke.scope"},
		{"a style without a URL", `"style":"none"`, `"style":"rfc7009","scope":"token"`, "revoke"},
		{"a URL without a style", `"style":"none"`, `"style":"none","url":"https://x.example/r"`, "revoke"},
		{"plain http", `https://x.example/t`, `http://x.example/t`, "not https"},
		{"no token URL", `"tokenUrl":"https://x.example/t"`, `"tokenUrl":""`, "tokenUrl"},
		{"no hosts", `["x.example"]`, `[]`, "allowedHosts"},
		{"single use that does not rotate", `"rotates":true`, `"rotates":false`, "single use"},
		{"a number as duration", `"grace":"1m"`, `"grace":60`, "grace"},
		{"a negative duration", `"grace":"1m"`, `"grace":"-1m"`, "negative"},
		{"no duration", `"grace":"1m"`, `"grace":"1 month"`, "month"},
		{"a bad date", `"date":"","sourceUrl":""`, `"date":"2026-02-30","sourceUrl":"https://x.example"`, "verified"},
		{"a date without source", `"date":"","sourceUrl":""`, `"date":"2026-02-03","sourceUrl":""`, "verified"},
		{"silence about being verified", `"verified":{"date":"","sourceUrl":""},`, ``, "verified is missing"},
		{"a bad date of an end", `"unverified"`, `"deprecations":[{"date":"soon","url":"u","replacement":"r"}],"unverified"`, "deprecations.0"},
		{"an end without replacement", `"unverified"`, `"deprecations":[{"date":"2026-02-03","url":"u","replacement":""}],"unverified"`, "deprecations.0"},
		{"doubt about a field that is not there", `["refresh.grace"]`, `["refresh.idleTtl"]`, "unverified"},
		{"doubt about nothing", `["refresh.grace"]`, `[""]`, "unverified"},
		{"doubt twice", `["refresh.grace"]`, `["refresh.grace","refresh.grace"]`, "unverified"},
		{"a code with a quote", `"unverified"`, `"errors":{"permanent":["a\"b"]},"unverified"`, "no code"},
		{"a code in two classes", `"unverified"`, `"errors":{"permanent":["a"],"transient":["a"]},"unverified"`, "twice"},
		{"a code that is too long", `"unverified"`, `"errors":{"permanent":["` + strings.Repeat("a", 65) + `"]},"unverified"`, "no code"},
		{"a code path that is none", `"unverified"`, `"errors":{"codePath":"a b"},"unverified"`, "codePath"},
		{"a pattern that is none", `"unverified"`, `"variables":{"v":{"pattern":"("}},"unverified"`, "variables.v"},
		{"a default against the pattern", `"unverified"`, `"variables":{"v":{"pattern":"a|b","default":"c"}},"unverified"`, "variables.v"},
		{"an unknown place of a host", `"unverified"`, `"sentHosts":[{"field":"f","in":"header","hosts":["x.example"]}],"unverified"`, "sentHosts.0"},
		{"a host of nowhere", `"unverified"`, `"sentHosts":[{"field":"f","in":"token","hosts":[]}],"unverified"`, "sentHosts.0"},
		{"a negative limit", `"unverified"`, `"limits":{"tokensPerUser":-1},"unverified"`, "limits"},
		{"a second object", `"unverified":["refresh.grace"]}`, `"unverified":["refresh.grace"]} {}`, "follows"},
		{"half of it", `"unverified":["refresh.grace"]}`, ``, "EOF"},
	} {
		raw := strings.Replace(good, tt.old, tt.new, 1)
		if raw == good {
			t.Fatalf("%s: nothing was changed", tt.name)
		}
		if _, err := catalog.Parse("x", []byte(raw)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one about %q", tt.name, err, tt.want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want time.Duration
		out  string
	}{
		{"10m", 10 * time.Minute, "10m0s"}, {"180d", 180 * 24 * time.Hour, "180d"}, {"24h", 24 * time.Hour, "1d"}, {"1h30m", 90 * time.Minute, "1h30m0s"},
		{"0s", 0, "0s"}, {"0d", 0, "0s"}, {"65535d", 65535 * 24 * time.Hour, "65535d"},
	} {
		var d catalog.Duration
		if err := d.UnmarshalText([]byte(tt.text)); err != nil || d.Std() != tt.want || d.String() != tt.out {
			t.Errorf("UnmarshalText(%q) = %v, %v, want %v as %q", tt.text, d, err, tt.want, tt.out)
		}
		var again catalog.Duration
		if text, err := d.MarshalText(); err != nil || again.UnmarshalText(text) != nil || again != d {
			t.Errorf("%q does not survive: %q, %v", tt.text, text, again)
		}
	}
	for _, text := range []string{"", "d", "-1d", "+1d", "1.5d", "65536d", "1", "-1m", "1 m", "ten minutes", "1d2h", "\x00"} {
		var d catalog.Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("UnmarshalText(%q) = %v, want an error", text, d)
		}
	}
}
