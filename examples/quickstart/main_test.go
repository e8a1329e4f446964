package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
)

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out, true, ""); err != nil {
		t.Fatal(err)
	}
	var r result
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("the output is not one object of the promised form: %v", err)
	}
	if len(r.Accounts) != 2 || len(r.Calls) != 2 || len(r.AfterDisconnect) != 1 {
		t.Fatalf("%d accounts, %d calls, %d after the disconnect, want 2, 2 and 1", len(r.Accounts), len(r.Calls), len(r.AfterDisconnect))
	}
	for i, a := range r.Accounts {
		if a.ID == "" || a.Integration != integration || a.ExternalID == "" || a.Status != core.StatusValid || a.Account == "" {
			t.Errorf("account %d = %+v, want every field", i, a)
		}
		if c := r.Calls[i]; c.Credential != a.ID || c.As != a.Account {
			t.Errorf("call %d = %+v, want it made as %+v", i, c, a)
		}
	}
	if r.Accounts[0].ID == r.Accounts[1].ID || r.Accounts[0].Account == r.Accounts[1].Account {
		t.Errorf("accounts = %+v, want two different ones", r.Accounts)
	}
	if r.AfterDisconnect[0] != r.Accounts[0] {
		t.Errorf("after the disconnect = %+v, want %+v unchanged", r.AfterDisconnect[0], r.Accounts[0])
	}
	if want := core.Message(core.ErrAlreadyConnected); r.Refused != want || !r.Refreshed {
		t.Errorf("refused = %q, refreshed = %t, want %q and true", r.Refused, r.Refreshed, want)
	}
}

func TestStory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	var out bytes.Buffer
	if err := run(t.Context(), &out, false, dir); err != nil {
		t.Fatal(err)
	}
	story := out.String()
	for _, sentence := range []string{
		"connects two accounts", "is refused:", "the provider sees work@example.com", "the provider sees private@example.com",
		"tokens expire", "that was refreshed", "is disconnected", "starts again with the same store and key", "Done.",
	} {
		if !strings.Contains(story, sentence) {
			t.Errorf("the story does not say %q:\n%s", sentence, story)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "kek")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key in %s: %v, %v, want a file of mode 0600", dir, info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "store", "MANIFEST")); err != nil {
		t.Errorf("the store in %s: %v", dir, err)
	}

	out.Reset()
	if err := run(t.Context(), &out, false, dir); err == nil || !strings.Contains(err.Error(), "not empty") || out.Len() > 0 {
		t.Errorf("run in a directory that is not empty = %v, %q, want it refused before anything is said", err, &out)
	}
}
