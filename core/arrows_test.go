package core_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/internal/need"
)

// ours is the path of the main module; the tables below name packages relative to it, and its root ".".
const ours = "github.com/polycred/polycred"

// maxLines is how long a production file may be.
const maxLines = 600

// arrows says which packages of ours each package may import in non-test code. What stands in no row is not allowed:
// a new package gets its row here first. "a/{b,c}" means a/b and a/c; "a/*" means every package below a, at any depth;
// "public" means every package that a program outside this module can import, examples left out.
var arrows = []arrow{
	{"storage  crypto  core/permission  core/usertoken", ""},
	{"core/catalog", ""},
	{"core/input", "crypto"},
	{"storage/{memory,badger,postgres}  storage/storagetest", "storage"},
	{"storage/postgres/pgtest", "storage storage/postgres internal/need"}, // for tests, like storagetest
	{"storage/sealed", "storage crypto"},
	{"core", "storage storage/sealed crypto core/{input,permission,usertoken,catalog,internal/*}"},
	{"core/internal/{due,egress,endpoint,eventlog,job,kernel,lease,oauth,recall,revocation,telemetry,telemetry/*,usage}", "storage storage/sealed crypto core/internal/*"},
	{"core/internal/access", "storage storage/sealed crypto core/{permission,usertoken,internal/*}"},
	{"core/workflow", "core core/{input,internal/*} storage storage/sealed"},
	{"core/httpapi", "crypto core core/{input,workflow,permission,usertoken,internal/*}"},
	{"core/admin", "core core/{input,workflow,permission,usertoken,catalog,internal/*}"},
	{"core/coretest", "core core/* storage storage/memory storage/sealed crypto"},
	{"core/coretest/*", "core/coretest"},
	{"provider", "core core/{input,admin,permission,catalog} crypto storage storage/{badger,postgres}"},
	{"provider/terraform-provider-polycred", "provider"},
	{"examples/*", "public"},
	{"internal/need  internal/benchtable  internal/proof  internal/sdktest", ""}, // need is for tests and what only they import
	{".", ""},
}

// arrow is one row: the packages it speaks of, and what each of them may import, separated by spaces.
type arrow struct{ packages, may string }

func TestArrows(t *testing.T) {
	t.Parallel()
	imports, err := importsOfOurs(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(imports["core"]) == 0 || !slices.Contains(imports["storage/sealed"], "storage") {
		t.Errorf("go list found no imports where there are some: the test is blind; it found %v", imports)
	}
	for _, complaint := range forbidden(arrows, imports) {
		t.Error(complaint)
	}
}

// TestArrowsComplain proves that TestArrows can fail.
func TestArrowsComplain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from, to string
		want           string // part of the one complaint; empty: none is expected
	}{
		{"nothing", "core/usertoken", "storage", "core/usertoken must not import storage"},
		{"backend under the kernel", "core", "storage/badger", "core must not import storage/badger"},
		{"allowed", "core", "storage/sealed", ""},
		{"braces", "core", "core/permission", ""},
		{"star in braces", "core", "core/internal/oauth", ""},
		{"star below a star", "core/internal/oauth", "core/internal/egress/dial", ""},
		{"upwards", "core/internal/kernel", "core", "core/internal/kernel must not import core"},
		{"sideways", "core/workflow", "core/httpapi", "core/workflow must not import core/httpapi"},
		{"anything under core", "core/coretest", "core/admin", ""},
		{"coretest and a backend", "core/coretest", "storage/postgres", "must not import storage/postgres"},
		{"below coretest", "core/coretest/oauthserver", "core", "core/coretest/oauthserver must not import core"},
		{"test helper in production", "storage/badger", "internal/need", "must not import internal/need"},
		{"example of the public", "examples/server", "core/coretest", ""},
		{"example of the hidden", "examples/server", "core/internal/kernel", "must not import core/internal/kernel"},
		{"example of the other hidden", "examples/server", "internal/need", "must not import internal/need"},
		{"example of an example", "examples/server", "examples/quickstart", "must not import examples/quickstart"},
		{"no row", "core/actions", "core", "core/actions stands in 0 rows"},
		{"a name that only begins like a row", "storage/memoryfs", "storage", "storage/memoryfs stands in 0 rows"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := forbidden(arrows, map[string][]string{test.from: {test.to}})
			switch {
			case test.want == "" && len(got) != 0:
				t.Errorf("%s imports %s: got %q, want no complaint", test.from, test.to, got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("%s imports %s: got %q, want one complaint with %q", test.from, test.to, got, test.want)
			}
		})
	}
	double := append(slices.Clone(arrows), arrow{"core/*", ""})
	if got := forbidden(double, map[string][]string{"core/workflow": nil}); len(got) != 1 {
		t.Errorf("a package in two rows: got %q, want one complaint", got)
	}
}

func TestSourceFiles(t *testing.T) {
	t.Parallel()
	complaints, files, err := checkSources(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no source file found: the test is blind")
	}
	for _, complaint := range complaints {
		t.Error(complaint)
	}
}

// TestSourceFilesComplain proves that TestSourceFiles can fail.
func TestSourceFilesComplain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := strings.Repeat("\n", maxLines-1)
	for name, text := range map[string]string{
		"a/full.go":           "package a\n" + long,
		"a/long.go":           "package a\n\n" + long,
		"a/long_test.go":      "package a\n\n" + long,
		"a/made.go":           "// Code generated by x. DO NOT EDIT.\n\npackage a\n" + long,
		"b/testdata/x.go":     "package util\n",
		"c/util/x.go":         "package util\n",
		"c/helpers/x_test.go": "package helpers_test\n",
		".hidden/x.go":        "package util\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := checkSources(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a/long.go has 601 lines; split it at 600",
		"c/helpers/x_test.go: a package named helpers says nothing; name what it is about",
		"c/util/x.go: a package named util says nothing; name what it is about",
	}
	if !slices.Equal(got, want) {
		t.Errorf("checkSources = %q, want %q", got, want)
	}
}

// importsOfOurs returns every package of the main module with the packages of ours that its non-test code imports,
// for all systems that polycred is built for.
func importsOfOurs(t *testing.T) (map[string][]string, error) {
	t.Helper()
	goCommand := need.Program(t, "go")
	found := make(map[string]map[string]bool)
	for _, system := range []string{"linux", "darwin", "windows"} {
		cmd := exec.Command(goCommand, "list", "-e", "-json=ImportPath,Imports", "./...")
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "GOWORK=off", "CGO_ENABLED=0")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w\n%s", system, err, &stderr)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				ImportPath string
				Imports    []string
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("go list for %s: %w", system, err)
			}
			from, _ := relative(p.ImportPath)
			if found[from] == nil {
				found[from] = make(map[string]bool)
			}
			for _, path := range p.Imports {
				if to, ok := relative(path); ok {
					found[from][to] = true
				}
			}
		}
	}
	imports := make(map[string][]string, len(found))
	for from, to := range found {
		imports[from] = slices.Sorted(maps.Keys(to))
	}
	return imports, nil
}

// relative turns an import path into the name that the tables use; ok tells whether it is ours at all.
func relative(path string) (name string, ok bool) {
	if path == ours {
		return ".", true
	}
	return strings.CutPrefix(path, ours+"/")
}

// forbidden returns a complaint for every import that table does not allow and every package that does not stand in
// exactly one row.
func forbidden(table []arrow, imports map[string][]string) []string {
	var complaints []string
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		var rows []arrow
		for _, row := range table {
			if anyMatch(row.packages, from) {
				rows = append(rows, row)
			}
		}
		if len(rows) != 1 {
			complaints = append(complaints, fmt.Sprintf(
				"%s stands in %d rows of the import table in core/arrows_test.go, want exactly one", from, len(rows)))
			continue
		}
		for _, to := range imports[from] {
			if !anyMatch(rows[0].may, to) {
				complaints = append(complaints, fmt.Sprintf(
					"%s must not import %s; of ours it may import: %s", from, to, rows[0].may))
			}
		}
	}
	return complaints
}

// anyMatch tells whether one of the patterns of a row names the package.
func anyMatch(patterns, name string) bool {
	for _, pattern := range strings.Fields(patterns) {
		prefix, rest, braces := strings.Cut(pattern, "{")
		alternatives := []string{""}
		if braces {
			alternatives = strings.Split(strings.TrimSuffix(rest, "}"), ",")
		}
		for _, alternative := range alternatives {
			if match(prefix+alternative, name) {
				return true
			}
		}
	}
	return false
}

// match tells whether one pattern without braces names the package.
func match(pattern, name string) bool {
	if pattern == "public" {
		elements := strings.Split(name, "/")
		return elements[0] != "examples" && !slices.Contains(elements, "internal")
	}
	if above, star := strings.CutSuffix(pattern, "*"); star {
		return strings.HasPrefix(name, above)
	}
	return name == pattern
}

// generated is the line by which Go programs mark what they wrote.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// checkSources looks at every Go file below a directory, nested modules included, and returns a complaint for each
// production file that is too long and each package whose name says nothing, and how many files it saw.
func checkSources(tree fs.FS) (complaints []string, files int, err error) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "type", "types"}
	err = fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
			if path != "." && (hidden || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		files++
		text, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		if pkg := strings.TrimSuffix(file.Name.Name, "_test"); slices.Contains(empty, pkg) {
			complaints = append(complaints, fmt.Sprintf(
				"%s: a package named %s says nothing; name what it is about", path, pkg))
		}
		lines := bytes.Count(text, []byte("\n"))
		if lines > maxLines && !strings.HasSuffix(name, "_test.go") && !generated.Match(text) {
			complaints = append(complaints, fmt.Sprintf("%s has %d lines; split it at %d", path, lines, maxLines))
		}
		return nil
	})
	return complaints, files, err
}
