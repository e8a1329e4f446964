package core

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// codes are stored with connect sessions: one that is here stays, with its meaning.
var codes = map[string]string{
	"ErrAlreadyConnected": "already_connected",
	"ErrAmbiguous":        "ambiguous",
	"ErrAccountMismatch":  "account_mismatch",
	"ErrAccountConnected": "account_connected",
	"ErrExternalID":       "external_id",
	"ErrDenied":           "denied",
	"ErrDisabled":         "disabled",
	"ErrSessionExpired":   "session_expired",
	"ErrBrowser":          "browser",
	"ErrSession":          "session",
	"ErrKeyRejected":      "key_rejected",
	"ErrReconnect":        "reconnect",
	"ErrPending":          "pending",
	"ErrNotConnected":     "not_connected",
	"ErrMisconfigured":    "misconfigured",
	"ErrProvider":         "provider",
	"ErrHostNotAllowed":   "host_not_allowed",
	"ErrDeleting":         "deleting",
	"ErrInUse":            "in_use",
	"ErrExists":           "exists",
	"ErrConflict":         "conflict",
	"ErrNotFound":         "not_found",
	"ErrInvalid":          "invalid",
	"ErrQuarantined":      "quarantined",
	"ErrKEKInStore":       "kek_in_store",
	"ErrNoTokens":         "no_tokens",
	"ErrHiddenConflict":   "hidden_conflict",
	"ErrPermission":       "permission",
	"ErrTooMany":          "too_many",
	"ErrUnfinished":       "unfinished",
	"ErrCursor":           "cursor",
	"ErrClosed":           "closed",

	"storage.ErrUnavailable": "unavailable", "storage.ErrFull": "full",
	"context.DeadlineExceeded": "timeout",

	"usertoken.ErrToken": "token", "usertoken.ErrUnavailable": "token_issuer",
}

// parsed returns the sentinels that the package exports, and the codes that outcomes gives to errors, as the source has
// them: a test that listed them itself would not see a new one.
func parsed(t *testing.T) (sentinels []string, coded map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	coded = make(map[string]string)
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != gotoken.VAR {
				continue
			}
			for _, spec := range vars.Specs {
				spec := spec.(*ast.ValueSpec)
				for _, name := range spec.Names {
					if strings.HasPrefix(name.Name, "Err") {
						sentinels = append(sentinels, name.Name)
					}
					if name.Name == "outcomes" {
						readOutcomes(spec.Values[0].(*ast.CompositeLit), coded)
					}
				}
			}
		}
	}
	slices.Sort(sentinels)
	return sentinels, coded
}

func readOutcomes(list *ast.CompositeLit, coded map[string]string) {
	for _, element := range list.Elts {
		fields := element.(*ast.CompositeLit).Elts
		name := ""
		switch e := fields[0].(type) {
		case *ast.Ident:
			name = e.Name
		case *ast.SelectorExpr:
			name = e.X.(*ast.Ident).Name + "." + e.Sel.Name
		}
		coded[name] = strings.Trim(fields[1].(*ast.BasicLit).Value, `"`)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	sentinels, coded := parsed(t)
	if len(sentinels) < 25 {
		t.Fatalf("sentinels = %v, want all of them", sentinels)
	}
	for _, name := range sentinels {
		if coded[name] == "" {
			t.Errorf("%s has no outcome: give it a code and a message", name)
		}
	}
	if !maps.Equal(coded, codes) {
		t.Errorf("codes = %v, want %v: they are stored, so they never change", coded, codes)
	}
	if len(coded) != len(outcomes) {
		t.Errorf("outcomes name %d errors, want %d", len(coded), len(outcomes))
	}
	seen := map[string]bool{codeInternal: true}
	for _, o := range outcomes {
		if seen[o.code] {
			t.Errorf("code %q is there twice", o.code)
		}
		seen[o.code] = true
		if got := codeOf(o.err); got != o.code {
			t.Errorf("codeOf(%v) = %q, want %q", o.err, got, o.code)
		}
		again := errorOf(o.code, "the text")
		if codeOf(again) != o.code || again.Error() != "the text" || Message(again) != o.message {
			t.Errorf("errorOf(%q) = %v, want the error again, with its text", o.code, again)
		}
	}
	if again := errorOf(codeInternal, "the text"); codeOf(again) != "session" {
		t.Errorf("errorOf(%q) = %v, want %v", codeInternal, again, ErrSession)
	}
}
