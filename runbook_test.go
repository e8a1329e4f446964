package polycred_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// alsoExplained are errors that an operator asks about although their message sends nobody to him.
var alsoExplained = []string{"ErrReconnect", "ErrPending", "ErrDisabled", "ErrProvider"}

// TestRunbook holds docs/runbook.md to the code, in both directions: each class and code of a failure, each status, each
// error that sends a person to the operator and each line of the log has its row, each problem of core.Health its section,
// and nothing else has.
func TestRunbook(t *testing.T) {
	t.Parallel()
	text := read(t, filepath.Join("docs", "runbook.md"))
	want := map[string]string{} // first cell of a row → a word in code quotes that the row must hold, if any
	for _, group := range constants(t, parseGo(t, filepath.Join("core", "errors.go")), "FailureClass") {
		for _, class := range group.values {
			if class != "" {
				want[class] = ""
			}
		}
	}
	for _, group := range constants(t, parseGo(t, filepath.Join("core", "credential.go")), "Status") {
		for _, status := range group.values {
			want[status] = ""
		}
	}
	files := sources(t, "core", "storage", "crypto")
	codes := failureCodes(t, files)
	lines := logLines(t, files)
	asked := operatorErrors(t, parseGo(t, filepath.Join("core", "message.go")))
	for _, name := range append(codes, asked...) {
		want[name] = ""
	}
	maps.Copy(want, lines)
	if len(codes) < 2 || len(lines) < 20 || len(asked) < 5 {
		t.Errorf("%d codes, %d lines of the log, %d errors: the test is blind", len(codes), len(lines), len(asked))
	}
	for _, complaint := range differences(want, tableRows(text)) {
		t.Error("docs/runbook.md " + complaint)
	}

	sections := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "### `"); ok {
			sections[strings.TrimSuffix(name, "`")] = true
		}
	}
	for _, group := range constants(t, parseGo(t, filepath.Join("core", "health.go")), "ProblemCode") {
		for _, code := range group.values {
			if !sections[code] {
				t.Errorf("docs/runbook.md has no section for the problem `%s`", code)
			}
			delete(sections, code)
		}
	}
	for code := range sections {
		t.Errorf("docs/runbook.md has a section for `%s`, which is no problem", code)
	}
}

// TestRunbookComplains proves that TestRunbook can fail.
func TestRunbookComplains(t *testing.T) {
	t.Parallel()
	want := map[string]string{"here": "Warn", "absent": "", "of another level": "Error"}
	rows := tableRows("| `here` | `Warn` | x |\n| `of another level` | `Warn` | x |\n| `nothing` | | x |\n")
	got := differences(want, rows)
	if want := []string{
		"has no row for `absent`", "has a row for `nothing`, which is nothing", "does not call `of another level` `Error`",
	}; !slices.Equal(got, want) {
		t.Errorf("differences = %q, want %q", got, want)
	}
	file := parseGo(t, writeGo(t, `package p

func f() {
	log.Warn("one")
	e.log.ErrorContext(ctx, "two; "+
		"goes on", "key", 1)
	t.Error("of no log")
	err.Error()
	_ = &ProviderError{Code: other}
	_ = &ProviderError{Code: "literal"}
}

const other, CodeEnded, unused = "another", "ended", "x"
`))
	if got, want := logLines(t, []*ast.File{file}), map[string]string{"one": "Warn", "two; goes on": "Error"}; !maps.Equal(got, want) {
		t.Errorf("logLines = %q, want %q", got, want)
	}
	if got, want := failureCodes(t, []*ast.File{file}), []string{"another", "ended", "literal"}; !slices.Equal(got, want) {
		t.Errorf("failureCodes = %q, want %q", got, want)
	}
}

func writeGo(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.go")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// differences compares what has to have a row with what has one.
func differences(want map[string]string, rows map[string][][]string) (complaints []string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := rows[name]; !ok {
			complaints = append(complaints, "has no row for `"+name+"`")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if _, ok := want[name]; !ok {
			complaints = append(complaints, "has a row for `"+name+"`, which is nothing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if row, ok := rows[name]; ok && want[name] != "" && !slices.Contains(slices.Concat(row...), want[name]) {
			complaints = append(complaints, "does not call `"+name+"` `"+want[name]+"`")
		}
	}
	return complaints
}

// sources parses what a program runs of these directories: no tests, and nothing that is for tests.
func sources(t *testing.T, dirs ...string) (files []*ast.File) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"coretest", "oidcpeer", "storagetest", "pgtest", "testdata"}, d.Name()):
				return fs.SkipDir
			case !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				files = append(files, parseGo(t, path))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// logLines returns the messages of what is logged at the levels of trouble, each with its level.
func logLines(t *testing.T, files []*ast.File) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			to, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !isLogger(to.X) {
				return true
			}
			level, context := strings.CutSuffix(to.Sel.Name, "Context")
			if level != "Warn" && level != "Error" {
				return true
			}
			args := call.Args
			if context {
				args = args[1:]
			}
			message, ok := joined(t, args[0])
			if !ok {
				t.Errorf("%s: a message of the log that is no constant text cannot be looked up", file.Name.Name)
			}
			lines[message] = level
			return true
		})
	}
	return lines
}

// isLogger reports whether an expression is called like a logger.
func isLogger(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name == "log"
	case *ast.SelectorExpr:
		return x.Sel.Name == "log" || x.Sel.Name == "Logger"
	case *ast.CallExpr: // k.Log()
		to, ok := x.Fun.(*ast.SelectorExpr)
		return ok && to.Sel.Name == "Log"
	}
	return false
}

// joined returns the text of a literal, or of several that are added.
func joined(t *testing.T, e ast.Expr) (string, bool) {
	t.Helper()
	switch x := e.(type) {
	case *ast.BasicLit:
		return text(t, x), x.Kind == token.STRING
	case *ast.BinaryExpr:
		left, ok := joined(t, x.X)
		right, also := joined(t, x.Y)
		return left + right, ok && also && x.Op == token.ADD
	}
	return "", false
}

// failureCodes returns the codes of failures that polycred itself gives: those of a ProviderError in a literal, and the
// constants whose names begin with Failure and that have no type.
func failureCodes(t *testing.T, files []*ast.File) (codes []string) {
	t.Helper()
	values := map[string]string{} // of constants, by name
	var names []string
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.GenDecl:
				if x.Tok == token.CONST {
					for _, spec := range x.Specs {
						v := spec.(*ast.ValueSpec)
						for i := range min(len(v.Names), len(v.Values)) {
							if value, ok := v.Values[i].(*ast.BasicLit); ok && v.Type == nil && value.Kind == token.STRING {
								values[v.Names[i].Name] = text(t, value)
							}
						}
					}
				}
			case *ast.CompositeLit:
				if name, ok := x.Type.(*ast.Ident); ok && name.Name == "ProviderError" {
					for _, element := range x.Elts {
						field, ok := element.(*ast.KeyValueExpr)
						if !ok || field.Key.(*ast.Ident).Name != "Code" {
							continue
						}
						switch value := field.Value.(type) {
						case *ast.Ident:
							names = append(names, value.Name)
						case *ast.BasicLit:
							codes = append(codes, text(t, value))
						}
					}
				}
			}
			return true
		})
	}
	for name, value := range values {
		if strings.HasPrefix(name, "Code") || slices.Contains(names, name) {
			codes = append(codes, value)
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// operatorErrors returns the errors whose message sends the person to the operator, and those in alsoExplained.
func operatorErrors(t *testing.T, file *ast.File) []string {
	t.Helper()
	names := slices.Clone(alsoExplained)
	known := slices.Concat(slices.Collect(maps.Values(outcomes(t, file)))...)
	for _, name := range alsoExplained {
		if !slices.Contains(known, name) {
			t.Errorf("%s, which is to be explained, is no error of core/message.go", name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "outcomes" {
			return true
		}
		for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
			parts := element.(*ast.CompositeLit).Elts
			name := outcomes(t, file)[text(t, parts[1])][0]
			if strings.Contains(text(t, parts[2]), "operator") && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return false
	})
	return names
}
