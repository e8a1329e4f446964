package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

var update = flag.Bool("update", false, "write what the story says to testdata")

func TestStory(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("run = %v, want nil; it said\n%s", err, &out)
	}
	if lines := strings.Count(out.String(), "\n"); lines > 100 {
		t.Errorf("the story has %d lines, want at most 100: two screens", lines)
	}
	golden := filepath.Join("testdata", "story.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("the story differs from %s (-want +got); go test -update writes it anew:\n%s", golden, diff)
	}
}

// TestStoryComplains proves that the program fails where a rule does not hold: here the host changed it.
func TestStoryComplains(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*demo)
		want   string
	}{
		{"another account may take over", func(d *demo) { d.calendar.OtherAccount = core.OtherAccountReplace }, "rule 1 does not hold"},
		{"the same account twice", func(d *demo) { d.calendar.SameAccount = core.SameAccountAllow }, "rule 4 does not hold"},
		{"the oldest is chosen", func(d *demo) { d.options.Unselected = core.Oldest }, "rule 7 does not hold"},
		{"nothing to set up", func(d *demo) { d.crm.Setup = nil }, "pending does not hold"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, err := newDemo(io.Discard, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			test.change(d)
			if err := d.play(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("play = %v, want an error with %q", err, test.want)
			}
			if err := d.close(); err != nil {
				t.Errorf("close = %v, want nil", err)
			}
		})
	}
}
