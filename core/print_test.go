package core_test

import (
	"fmt"
	"testing"

	"github.com/polycred/polycred/core"
)

// A handle in a log is its name: nothing of the engine behind it is walked, which others are working in.
func TestPrintedHandles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	u := w.engine.User("u\n")
	source, err := w.engine.User("u").TokenSource(t.Context(), core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		value any
		want  string
	}{
		{w.engine, "core.Engine(" + w.engine.Project() + ")"},
		{(*core.Engine)(nil), "core.Engine()"},
		{u, `core.User(u\n)`},
		{*u, `core.User(u\n)`},
		{source, "core.tokenSource(" + ada.ID + ")"},
		{w.client(ada.ID).Transport, "core.transport(" + ada.ID + ")"},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
			if got := fmt.Sprintf(verb, tt.value); got != tt.want {
				t.Errorf("Sprintf(%q, %T) = %q, want %q", verb, tt.value, got, tt.want)
			}
		}
	}
}
