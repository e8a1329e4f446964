package polycred_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// neverResults are codes that connect.failed cannot have: these errors come before a session is ended, or from elsewhere.
var neverResults = []string{
	"unfinished", "session_expired", "browser", "key_rejected", "reconnect", "pending", "not_connected", "host_not_allowed", "in_use",
	"exists", "conflict", "quarantined", "kek_in_store", "no_tokens", "cursor", "closed",
	"token", "token_issuer",
}

// TestEventsDocumented holds docs/events.md to core/event.go and core/message.go: every kind of event has its row, with
// each word that the comment of its constant puts in quotes and no other; so have the fields of an event, the types of
// actors and the codes of results.
func TestEventsDocumented(t *testing.T) {
	t.Parallel()
	cells := tableRows(read(t, filepath.Join("docs", "events.md")))
	events := parseGo(t, filepath.Join("core", "event.go"))
	want := map[string][]string{} // first cell → the words that its row must hold in code quotes
	groups := constants(t, events, "EventKind")
	maps.Copy(want, fields(t, events, "Event"))
	maps.Copy(want, fields(t, events, "Actor"))
	for _, group := range append(constants(t, events, "ActorType"), groups...) {
		for _, value := range group.values {
			want[value] = nil
		}
	}
	codes := outcomes(t, parseGo(t, filepath.Join("core", "message.go")))
	for _, code := range neverResults {
		if codes[code] == nil {
			t.Errorf("`%s`, which is never a result, is no code", code)
		}
		delete(codes, code)
	}
	maps.Copy(want, codes)
	rows := map[string][]string{} // first cell → what the others have in code quotes
	for name, row := range cells {
		if len(row) == kindCells {
			row = row[2:] // not who did it to what: see TestEventsFields
		}
		rows[name] = slices.Concat(row...)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := rows[name]; !ok {
			t.Errorf("docs/events.md has no row for `%s`", name)
		}
		for _, word := range want[name] {
			if !slices.Contains(rows[name], word) {
				t.Errorf("docs/events.md: the row of `%s` does not name `%s`", name, word)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if _, ok := want[name]; !ok {
			t.Errorf("docs/events.md has a row for `%s`, which is nothing", name)
		}
	}
	for _, group := range groups {
		var told []string
		for _, value := range group.values {
			told = append(told, rows[value]...)
		}
		for _, word := range group.quoted {
			if !slices.Contains(told, word) {
				t.Errorf("docs/events.md: the rows of %q do not name `%s`, as core/event.go does", group.values, word)
			}
		}
		for _, word := range told {
			if !slices.Contains(group.quoted, word) {
				t.Errorf("docs/events.md: the rows of %q name `%s`, as core/event.go does not", group.values, word)
			}
		}
	}
	if len(groups) == 0 || len(codes) == 0 {
		t.Errorf("%d groups of kinds, %d codes: the test is blind", len(groups), len(codes))
	}
}

// TestEventsFields holds docs/events.md to core/testdata/events.jsonl, an event of each kind as the engine told it: its row
// names who did it, and exactly the fields that say what it is about.
func TestEventsFields(t *testing.T) {
	t.Parallel()
	rows := tableRows(read(t, filepath.Join("docs", "events.md")))
	about := []string{"user", "integration", "credential", "configuration", "revision"}
	told := 0
	for line := range strings.Lines(read(t, filepath.Join("core", "testdata", "events.jsonl"))) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		kind, _ := event["kind"].(string)
		actor, _ := event["actor"].(map[string]any)
		row := rows[kind]
		if len(row) != kindCells {
			t.Errorf("docs/events.md: the row of `%s` has %d cells, want %d", kind, len(row)+1, kindCells+1)
			continue
		}
		told++
		if want := []string{fmt.Sprint(actor["type"])}; !slices.Equal(row[0], want) {
			t.Errorf("docs/events.md: the actor of `%s` is %q, want %q", kind, row[0], want)
		}
		want := slices.DeleteFunc(slices.Clone(about), func(name string) bool { return event[name] == nil })
		if !slices.Equal(row[1], want) {
			t.Errorf("docs/events.md: `%s` is about %q, want %q", kind, row[1], want)
		}
	}
	if told == 0 {
		t.Error("no events: the test is blind")
	}
}

// kindCells is how many cells follow the first one in the table of kinds: actor, about, what happened, cause, result.
const kindCells = 5

var coded = regexp.MustCompile("`([^`]+)`")

// tableRows returns, by the code in its first cell, the words in code quotes of each other cell of a Markdown table's row.
func tableRows(text string) map[string][][]string {
	rows := map[string][][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		name := coded.FindStringSubmatch(cells[0])
		if name == nil || !strings.HasPrefix(line, "| `") {
			continue
		}
		rest := make([][]string, len(cells)-1)
		for i, cell := range cells[1:] {
			for _, m := range coded.FindAllStringSubmatch(cell, -1) {
				rest[i] = append(rest[i], m[1])
			}
		}
		rows[name[1]] = rest
	}
	return rows
}

func parseGo(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// group is constants that share a comment.
type group struct {
	values []string
	quoted []string // what the comment has in quotes
}

var inQuotes = regexp.MustCompile(`"([^"]+)"`)

// constants returns those of a string type. One without a comment of its own belongs to those above it.
func constants(t *testing.T, file *ast.File, typeName string) []group {
	t.Helper()
	var groups []group
	for _, decl := range file.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			if name, ok := v.Type.(*ast.Ident); !ok || name.Name != typeName {
				continue
			}
			if v.Doc != nil || len(groups) == 0 {
				g := group{}
				for _, m := range inQuotes.FindAllStringSubmatch(v.Doc.Text(), -1) {
					g.quoted = append(g.quoted, m[1])
				}
				groups = append(groups, g)
			}
			last := &groups[len(groups)-1]
			last.values = append(last.values, text(t, v.Values[0]))
		}
	}
	if len(groups) == 0 {
		t.Errorf("no constants of type %s found", typeName)
	}
	return groups
}

// fields returns the JSON names of a struct's fields.
func fields(t *testing.T, file *ast.File, typeName string) map[string][]string {
	t.Helper()
	names := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != typeName {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			name, _, _ := strings.Cut(reflect.StructTag(text(t, field.Tag)).Get("json"), ",")
			if typeName == "Actor" {
				name = "actor." + name
			}
			names[name] = nil
		}
		return false
	})
	if len(names) == 0 {
		t.Errorf("no fields of %s found", typeName)
	}
	return names
}

// outcomes returns the codes of message.go, each with the name of its error.
func outcomes(t *testing.T, file *ast.File) map[string][]string {
	t.Helper()
	codes := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "outcomes" {
			return true
		}
		for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
			parts := element.(*ast.CompositeLit).Elts
			var name string
			switch e := parts[0].(type) {
			case *ast.Ident:
				name = e.Name
			case *ast.SelectorExpr:
				name = e.X.(*ast.Ident).Name + "." + e.Sel.Name
			}
			codes[text(t, parts[1])] = []string{name}
		}
		return false
	})
	return codes
}

func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	s, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
