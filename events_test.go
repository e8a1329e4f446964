package polycred_test

import (
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

// TestEventsDocumented holds docs/events.md to core/event.go and core/message.go: every kind of event has its row, with
// each word that the comment of its constant puts in quotes and no other; so have the fields of an event, the types of
// actors and the codes of results.
func TestEventsDocumented(t *testing.T) {
	t.Parallel()
	rows := tableRows(read(t, filepath.Join("docs", "events.md")))
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
	maps.Copy(want, codes)
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

var coded = regexp.MustCompile("`([^`]+)`")

// tableRows returns, by the code in its first cell, the words in code quotes of each other cell of a Markdown table's row.
func tableRows(text string) map[string][]string {
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		first, rest, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		name := coded.FindStringSubmatch(first)
		if !ok || name == nil || !strings.HasPrefix(line, "| `") {
			continue
		}
		words := []string{}
		for _, m := range coded.FindAllStringSubmatch(rest, -1) {
			words = append(words, m[1])
		}
		rows[name[1]] = words
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
