package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/usertoken"
)

var update = flag.Bool("update", false, "write what is answered into testdata")

// notes is an integration that uses everything: settings, setup, a picker.
const notes = "notes"

// newFullHouse is a house with workflows, options of inputs, and a third integration.
func newFullHouse(t testing.TB, change func(*core.Options, *httpapi.Options)) *house {
	t.Helper()
	h := newHouse(t, func(o *core.Options, p *httpapi.Options) {
		p.Workflows, p.Sources = newFlows(), map[string]map[string]httpapi.Source{calendar: {"folders": folders}}
		if change != nil {
			change(o, p)
		}
	})
	in := h.provider.Integration(notes)
	in.PickerTokens, in.ProviderInitiated, in.OAuth2.RequireIssuer = true, true, false
	in.Settings = []input.Input{
		{ID: "folder", Type: input.Text, Title: "Folder", Default: "inbox"},
		{ID: "webhook", Type: input.Password, Title: "Secret of the webhook"},
	}
	in.Setup = []input.Input{{ID: "team", Type: input.Text, Title: "Team", Required: true}}
	if _, err := h.engine.CreateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestConversations plays each file of testdata: requests, each with the answer that it has to get. A file is in the format
// of golang.org/x/tools/txtar. Its first section, "setup", connects accounts; each other section but "answer" is a request:
// its name is method and path, then lines of header, "as" with a user, and "keep" with a name for a value of the answer.
func TestConversations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			comment, sections := parseArchive(string(raw))
			c := &conversation{house: newFullHouse(t, nil), known: map[string]string{}, uuids: map[string]string{}}
			var out strings.Builder
			out.WriteString(comment)
			for _, s := range sections {
				switch s.name {
				case "answer":
					continue
				case "setup":
					c.setup(s.text)
					fmt.Fprintf(&out, "-- setup --\n%s", s.text)
				default:
					fmt.Fprintf(&out, "-- %s --\n%s-- answer --\n%s", s.name, s.text, c.ask(s.name, s.text))
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(raw), out.String()); diff != "" && !*update {
				t.Errorf("%s (-file +answers; -update writes them):\n%s", file, diff)
			}
		})
	}
}

type section struct{ name, text string }

// parseArchive takes a txtar file apart.
func parseArchive(text string) (comment string, sections []section) {
	at := -1
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "-- ")
		if name, ok = cutSuffix(name, " --", ok); ok {
			sections = append(sections, section{name: name})
			at++
		} else if at < 0 {
			comment += line
		} else {
			sections[at].text += line
		}
	}
	return comment, sections
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	rest, found := strings.CutSuffix(s, suffix)
	return rest, ok && found
}

// conversation is one file being played.
type conversation struct {
	*house
	known map[string]string // what stands for a value in the file, by its name
	uuids map[string]string // names of those that are in no file
}

// setup connects what lines like "connect ada acme ada calendar {}" say: name, user, login, integration, options.
func (c *conversation) setup(text string) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 6)
		if len(f) != 6 || f[0] != "connect" {
			c.Fatalf("setup: %q", line)
		}
		c.known[f[1]] = c.installAt(c.token(f[2], nil), f[4], f[3], f[5])
	}
}

// ask sends one request and returns its answer as the file shows it.
func (c *conversation) ask(name, text string) string {
	c.Helper()
	method, path, _ := strings.Cut(name, " ")
	head, body, _ := strings.Cut("\n"+text, "\n\n")
	token, keep := "", map[string]string{}
	var header []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		switch word, rest, _ := strings.Cut(line, " "); {
		case word == "as":
			token = c.tokenOf(rest)
		case word == "keep":
			name, path, _ := strings.Cut(rest, " ")
			keep[name] = path
		case line != "":
			name, value, _ := strings.Cut(line, ": ")
			header = append(header, name, c.fill(value))
		}
	}
	got := c.do(token, method, c.fill(path), c.fill(body), header...)
	for name, path := range keep {
		c.known[name] = fmt.Sprint(lookup(got.json(c), path))
	}
	return c.shown(got)
}

func (c *conversation) tokenOf(who string) string {
	user, claim, limited := strings.Cut(who, " may ")
	user, person, _ := strings.Cut(user, "/")
	switch {
	case user == "broken":
		return "not.a.token"
	case limited:
		return c.token(user, func(in *usertoken.MintInput) { in.Permissions, in.Person = json.RawMessage(c.fill(claim)), person })
	}
	return c.token(user, func(in *usertoken.MintInput) { in.Person = person })
}

// fill puts values in place of their names.
func (c *conversation) fill(text string) string {
	for name, value := range c.known {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	for _, in := range []string{calendar, keys, notes} {
		text = strings.ReplaceAll(text, "{"+in+"}", c.engine.IntegrationID(in))
	}
	return strings.NewReplacer("{flow}", flowID, "{server}", c.server.URL, "{project}", c.engine.Project()).Replace(text)
}

var (
	anyUUID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyETag   = regexp.MustCompile(`("etag": "|Etag: )(\\?"[0-9]+\\?")`)
	anyID     = regexp.MustCompile(`"requestId": "[0-9a-f]+"`)
	anyHandle = regexp.MustCompile(`/connect/hop/[A-Za-z0-9_-]{20,}`)
)

// shown is an answer with names in place of what is another thing each time.
func (c *conversation) shown(a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", a.Status)
	for _, name := range []string{
		"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Allow", "Etag", "Retry-After", "Www-Authenticate",
		"X-Polycred-Credential-Used", "Content-Security-Policy",
	} {
		if value := a.Header.Get(name); value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	kind := a.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "application/json") {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, bytes.TrimSpace(a.Body), "", "  "); err != nil {
			c.Errorf("%s: %s", err, a.Body)
		}
		fmt.Fprintf(&b, "\n%s\n", &pretty)
		if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			c.Errorf("the answer may be stored, or sniffed: %v", a.Header)
		}
	} else if len(a.Body) > 0 {
		fmt.Fprintf(&b, "Content-Type: %s\n", kind)
	}
	text := b.String()
	for name, value := range c.known {
		if value != "" && !strings.HasPrefix(name, "etag") {
			text = strings.ReplaceAll(text, value, "{"+name+"}")
		}
	}
	for _, in := range []string{calendar, keys, notes} {
		text = strings.ReplaceAll(text, c.engine.IntegrationID(in), "{"+in+"}")
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, flowID, "{flow}"), c.engine.Project(), "{project}")
	text = strings.ReplaceAll(strings.ReplaceAll(text, c.server.URL, "{server}"), c.provider.Host(), "{provider}")
	text = anyETag.ReplaceAllString(text, "${1}{etag}")
	text = anyID.ReplaceAllString(text, `"requestId": "{request}"`)
	text = anyHandle.ReplaceAllString(text, "/connect/hop/{handle}")
	return anyUUID.ReplaceAllStringFunc(text, func(id string) string {
		if c.uuids[id] == "" {
			c.uuids[id] = "{id" + strconv.Itoa(len(c.uuids)+1) + "}"
		}
		return c.uuids[id]
	})
}

// lookup returns what lies at a path with dots.
func lookup(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, _ := strconv.Atoi(name)
			if i >= len(in) {
				return nil
			}
			v = in[i]
		}
	}
	return v
}

// TestConversationsCoverRoutes holds testdata to the table of routes: each that answers JSON is spoken to.
func TestConversationsCoverRoutes(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	var spoken []string
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, sections := parseArchive(string(raw))
		for _, s := range sections {
			spoken = append(spoken, strings.ReplaceAll(s.name, "{P}", "/projects/x/sdk"))
		}
	}
	for _, route := range httpapi.Routes(h.handler) {
		if strings.Contains(route, "/proxy/") || httpapi.IsPage(h.handler, route) {
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		pattern := regexp.MustCompile("^" + method + " " + anyParam.ReplaceAllString(regexp.QuoteMeta(path), `[^/?]+`) + `(\?.*)?$`)
		if !slices.ContainsFunc(spoken, pattern.MatchString) {
			t.Errorf("%s is in no conversation of testdata", route)
		}
	}
}

var anyParam = regexp.MustCompile(`\\\{[a-z]+\\\}`)

// folders is a source of options: it asks the provider.
var folders httpapi.Source = func(_ context.Context, acct *core.Credential, client *http.Client, q httpapi.SourceQuery) (httpapi.SourcePage, error) {
	if q.Search == "broken" {
		_, err := client.Get("http://127.0.0.1:1/?api_key=canary-source")
		return httpapi.SourcePage{}, err
	}
	return httpapi.SourcePage{Records: []httpapi.SourceRecord{{Label: acct.Account.Display, Value: q.Search}}, Next: "2"}, nil
}
