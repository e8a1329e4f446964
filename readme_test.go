// Package polycred_test holds what is promised in prose to the code: the programs in the documents compile, their
// links lead somewhere, and the quickstart says what it should.
package polycred_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/polycred/polycred/internal/need"
)

// TestDocumentedPrograms vets every Go block of README.md and docs/*.md: a whole program is compiled, and a block that
// says where it was copied from (```go file=core/x_test.go) has to stand there word for word, so that what runs that file
// vets the block too.
func TestDocumentedPrograms(t *testing.T) {
	t.Parallel()
	for _, path := range documents(t, "README.md", "docs/*.md") {
		for _, block := range goBlocks(read(t, path)) {
			t.Run(fmt.Sprintf("%s:%d", path, block.line), func(t *testing.T) {
				t.Parallel()
				vet := compile
				if block.file != "" {
					vet = quoted
				}
				if err := vet(t, path, block); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestDocumentedProgramsComplains proves that TestDocumentedPrograms can fail.
func TestDocumentedProgramsComplains(t *testing.T) {
	t.Parallel()
	const fence = "```"
	tests := []struct{ name, code, want string }{
		{"program", "package main\n\nimport \"github.com/polycred/polycred/storage\"\n\n" +
			"func main() { println(storage.DefaultLimit) }\n", ""},
		{"comment first", "// Hello greets.\npackage main\n\nfunc main() {}\n", ""},
		{"fragment", "x := 1\n", "is not a whole program"},
		{"other package", "package demo\n", "is not a whole program"},
		{"type error", "package main\n\nfunc main() {\n\tvar x int = \"\"\n}\n", "DOC.md:7"},
		{"no main", "package main\n", "main"},
		{"vet", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Printf(\"%d\", \"\") }\n", "DOC.md:8"},
		{"internal", "package main\n\nimport _ \"github.com/polycred/polycred/internal/need\"\n\nfunc main() {}\n",
			"imports github.com/polycred/polycred/internal/need"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := "# Title\n\n" + fence + "go\n" + test.code + fence + "\n\n" + fence + "sh\nls\n" + fence + "\n"
			blocks := goBlocks(text)
			if len(blocks) != 1 || blocks[0].code != test.code || blocks[0].line != 4 {
				t.Fatalf("goBlocks = %+v, want the code in line 4", blocks)
			}
			err := compile(t, "DOC.md", blocks[0])
			switch {
			case test.want == "" && err != nil:
				t.Errorf("compile = %v, want nil", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("compile = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestDocumentedQuotesComplain proves that a quoted block can fail.
func TestDocumentedQuotesComplain(t *testing.T) {
	t.Parallel()
	const fence = "```"
	tests := []struct{ name, file, code, want string }{
		{"word for word", "internal/need/need.go", "package need\n", ""},
		{"from a function", "examples/accounts/main.go", "defer stop()\nif err := run(ctx, os.Stdout); err != nil {\n", ""},
		{"another word", "internal/need/need.go", "package needed\n", "does not stand in internal/need/need.go"},
		{"the end of a line", "internal/need/need.go", "need\n", "does not stand in"},
		{"nothing", "internal/need/need.go", "", "is empty"},
		{"no such file", "gone.go", "package gone\n", "gone.go"},
		{"outside", "../gone.go", "package gone\n", "../gone.go"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			blocks := goBlocks(fence + "go file=" + test.file + "\n" + test.code + fence + "\n")
			if len(blocks) != 1 || blocks[0].code != test.code || blocks[0].file != test.file {
				t.Fatalf("goBlocks = %+v, want the code and its file", blocks)
			}
			err := quoted(t, "DOC.md", blocks[0])
			switch {
			case test.want == "" && err != nil:
				t.Errorf("quoted = %v, want nil", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("quoted = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestLinks follows the relative links of README.md, SECURITY.md and docs/*.md to files and to headings.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, path := range documents(t, "README.md", "SECURITY.md", "docs/*.md") {
		for _, complaint := range deadLinks(os.DirFS("."), filepath.ToSlash(path), read(t, path)) {
			t.Error(complaint)
		}
	}
}

// TestLinksComplains proves that TestLinks can fail.
func TestLinksComplains(t *testing.T) {
	t.Parallel()
	text := strings.Join([]string{
		"# Where to read on",
		"[a](../LICENSE) [b](https://example.com/none) [c](mailto:x@example.com) [d](#where-to-read-on)",
		"![picture](picture.svg) [titled](../core \"The kernel\") `[code](none)`",
		"```",
		"[in a program](none)",
		"```",
		"[dead](gone.md) <img src=\"gone.png\"> [heading](#nowhere)",
		"[outside](../../etc/passwd) [rooted](/LICENSE)",
		"[by name][n]",
		"",
		"[n]: gone-too.md",
	}, "\n")
	tree := os.DirFS(t.TempDir())
	got := deadLinks(tree, "docs/a.md", text)
	want := []string{
		"docs/a.md:2: link to ../LICENSE leads nowhere",
		"docs/a.md:3: link to picture.svg leads nowhere",
		"docs/a.md:3: link to ../core leads nowhere",
		"docs/a.md:7: link to gone.md leads nowhere",
		"docs/a.md:7: link to gone.png leads nowhere",
		"docs/a.md:7: link to #nowhere leads nowhere",
		"docs/a.md:8: link to ../../etc/passwd leads nowhere",
		"docs/a.md:8: link to /LICENSE leads nowhere",
		"docs/a.md:11: link to gone-too.md leads nowhere",
	}
	if !slices.Equal(got, want) {
		t.Errorf("deadLinks in an empty tree = %q, want %q", got, want)
	}
	got = deadLinks(os.DirFS("."), "docs/a.md", text)
	if want := slices.Concat(want[1:2], want[3:]); !slices.Equal(got, want) {
		t.Errorf("deadLinks in this tree = %q, want %q", got, want)
	}
}

// TestQuickstart runs the quickstart the way the README tells: with -json it prints one JSON object and nothing else. What
// stands in it is tested beside the program.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(need.Program(t, "go"), "run", "./examples/quickstart", "-json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go run ./examples/quickstart -json: %v\n%s", err, &stderr)
	}
	// Unmarshal, unlike a Decoder, refuses whatever stands behind the first value.
	var object map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &object); err != nil || len(object) == 0 {
		t.Errorf("the quickstart printed %q, want one JSON object with members (%v)", &stdout, err)
	}
}

// TestAccounts runs the other example the way the README tells; its story is tested beside the program.
func TestAccounts(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(need.Program(t, "go"), "run", "./examples/accounts").Output()
	if want := read(t, filepath.Join("examples", "accounts", "testdata", "story.txt")); err != nil || string(out) != want {
		t.Errorf("go run ./examples/accounts: %v, it printed\n%s\nwant\n%s", err, out, want)
	}
}

// documents returns the files that match the patterns. README.md must be among them where it is asked for.
func documents(t *testing.T, patterns ...string) []string {
	t.Helper()
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if !slices.Contains(paths, "README.md") {
		t.Fatal("README.md does not exist: the repository must have one at its root")
	}
	return paths
}

// read returns the text of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a fenced block of a document.
type block struct {
	code string
	line int    // where its first line stands in the document, from 1
	file string // that it was copied from; empty: it is a whole program
}

// fence matches the line that opens or closes a fenced block; its groups are the marks, the language, and a file.
var fence = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})\\s*([^\\s`]*)(?:\\s+file=([^\\s`]+))?")

// goBlocks returns the blocks of a Markdown text whose language is Go.
func goBlocks(text string) []block {
	var blocks []block
	var open *block // nil outside a Go block
	marks := ""     // what opened the current block, of any language; empty outside
	for i, line := range slices.Collect(strings.Lines(text)) {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && marks == "":
			marks = m[1]
			if m[2] == "go" || m[2] == "golang" {
				open = &block{line: i + 2, file: m[3]}
			}
		case m != nil && m[2] == "" && strings.HasPrefix(m[1], marks):
			if open != nil {
				blocks = append(blocks, *open)
			}
			open, marks = nil, ""
		case open != nil:
			open.code += line
		}
	}
	return blocks
}

// compile builds and vets one block as a program of its own. The file lies outside the tree, but the go command runs
// in it, so that the program sees this module and what its go.mod names; faults are reported at the document's lines.
func compile(t *testing.T, path string, b block) error {
	t.Helper()
	at := fmt.Sprintf("%s:%d", path, b.line)
	file, err := parser.ParseFile(token.NewFileSet(), at, b.code, parser.ImportsOnly)
	if err != nil || file.Name.Name != "main" {
		return fmt.Errorf("%s: this Go block is not a whole program: it must begin with package main, "+
			"so that readers can run it and this test can compile it", at)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Split(imported, "/"), "internal") {
			return fmt.Errorf("%s: the program imports %s, which its readers cannot", at, imported)
		}
	}

	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	source := filepath.Join(t.TempDir(), "main.go")
	text := fmt.Sprintf("//line %s:%d\n%s", filepath.Join(root, path), b.line, b.code)
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		return err
	}
	goCommand := need.Program(t, "go")
	for _, args := range [][]string{
		{"build", "-buildvcs=false", "-o", os.DevNull, source},
		{"vet", source},
	} {
		if out, err := exec.Command(goCommand, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: go %s: %w\n%s", at, args[0], err, out)
		}
	}
	return nil
}

// quoted reports when a block does not stand in the file that it says it was copied from. What stands in a function there
// may begin at the margin.
func quoted(_ *testing.T, path string, b block) error {
	at := fmt.Sprintf("%s:%d", path, b.line)
	source, err := fs.ReadFile(os.DirFS("."), b.file) // refuses what lies outside the tree
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", at, err)
	case b.code == "":
		return fmt.Errorf("%s: the block is empty", at)
	case !strings.Contains("\n"+string(source), "\n"+b.code) &&
		!strings.Contains("\n"+string(source), "\n\t"+strings.ReplaceAll(strings.TrimSuffix(b.code, "\n"), "\n", "\n\t")+"\n"):
		return fmt.Errorf("%s: this block does not stand in %s word for word: copy it again", at, b.file)
	}
	return nil
}

var (
	link     = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^ {0,3}\[[^\]]+\]:\s*(\S+)|\b(?:src|href)="([^"]+)"`)
	codeSpan = regexp.MustCompile("`+[^`]*`+")
	heading  = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*\s*$`)
	notInID  = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// deadLinks returns a complaint for each relative link in the text of a document that leads to no file of the tree, or
// to no heading of the document itself. What stands in code is no link.
func deadLinks(tree fs.FS, path, text string) []string {
	type found struct {
		line   int
		target string
	}
	var links []found
	headings := make(map[string]bool)
	marks := ""
	for i, line := range slices.Collect(strings.Lines(text)) {
		if m := fence.FindStringSubmatch(line); m != nil && (marks == "" || m[2] == "" && strings.HasPrefix(m[1], marks)) {
			if marks == "" {
				marks = m[1]
			} else {
				marks = ""
			}
			continue
		}
		if marks != "" {
			continue
		}
		if m := heading.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			headings[strings.ReplaceAll(notInID.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
			links = append(links, found{i + 1, m[1] + m[2] + m[3]})
		}
	}
	var complaints []string
	for _, l := range links {
		if !alive(tree, path, l.target, headings) {
			complaints = append(complaints, fmt.Sprintf("%s:%d: link to %s leads nowhere", path, l.line, l.target))
		}
	}
	return complaints
}

// alive tells whether one link of the document at path leads somewhere, as far as that can be seen from the tree.
func alive(tree fs.FS, path, target string, headings map[string]bool) bool {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return false
	case u.IsAbs() || u.Host != "":
		return true
	case u.Path == "":
		return headings[u.Fragment]
	case strings.HasPrefix(u.Path, "/"):
		return false // means something else on every site that shows the document
	}
	// A path that leaves the tree is not a valid name in it, and so does not exist.
	name := filepath.ToSlash(filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path)))
	_, err = fs.Stat(tree, name)
	return err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid)
}
