package core_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// wantMeta fails the test unless that is what is stored of a user, by whomever it is asked.
func (w *world) wantMeta(what, user string, want map[string]any) {
	w.Helper()
	got, err := w.engine.User(user).Meta(w.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		w.Errorf("%s: Meta() = %v (-want +got):\n%s", what, err, diff)
	}
	known, err := w.engine.ConnectedUser(w.Context(), user)
	if errors.Is(err, core.ErrNotFound) && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, known.Meta); diff != "" || err != nil {
		w.Errorf("%s: ConnectedUser().Meta = %v (-want +got):\n%s", what, err, diff)
	}
}

// Changes merge; nil takes a value away; whoever was not known is from then on, until the user is deleted.
func TestUserMeta(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, u := t.Context(), w.engine.User("u")
	w.wantMeta("before", "u", map[string]any{})
	for _, tt := range []struct {
		what         string
		change, want map[string]any
	}{
		{"nothing", nil, map[string]any{}},
		{"two values", map[string]any{"Name": "Ada", "Email": "ada@example.com"}, map[string]any{"Name": "Ada", "Email": "ada@example.com"}},
		{"one more", map[string]any{"plan": map[string]any{"seats": 3, "on": true, "tags": []any{"x", nil}}}, map[string]any{
			"Name": "Ada", "Email": "ada@example.com", "plan": map[string]any{"seats": 3.0, "on": true, "tags": []any{"x", nil}},
		}},
		{"one away, one replaced", map[string]any{"Email": nil, "plan": "free", "absent": nil}, map[string]any{"Name": "Ada", "plan": "free"}},
		{"all away", map[string]any{"Name": nil, "plan": nil}, map[string]any{}},
		{"one again", map[string]any{"Name": "Ada"}, map[string]any{"Name": "Ada"}},
	} {
		w.clock.Advance(time.Second)
		got, err := u.UpdateMeta(ctx, tt.change)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("UpdateMeta(%s) = %v (-want +got):\n%s", tt.what, err, diff)
		}
		w.wantMeta(tt.what, "u", tt.want)
	}
	known, err := w.engine.ConnectedUser(ctx, "u")
	if want := w.clock.Now().Add(-4 * time.Second); err != nil || !known.Created.Equal(want) {
		t.Errorf("ConnectedUser() = %+v, %v, want one that was created at %v", known, err, want)
	}
	meta, err := u.Meta(ctx)
	if err != nil {
		t.Fatal(err)
	}
	meta["Name"] = "Eve"
	w.wantMeta("after writing to what was returned", "u", map[string]any{"Name": "Ada"})
	w.wantMeta("of somebody else", "v", map[string]any{})

	// It is kept beside everything else that is known of a user.
	w.mustConnect("u", "ada", core.ConnectInput{})
	if err := w.engine.DisableUser(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.UpdateMeta(ctx, map[string]any{"Email": "a@b"}); err != nil {
		t.Errorf("UpdateMeta(of a disabled user, by the program) = %v", err)
	}
	w.wantMeta("of a disabled user", "u", map[string]any{"Name": "Ada", "Email": "a@b"})
	if known, err := w.engine.ConnectedUser(ctx, "u"); err != nil || !known.Disabled {
		t.Errorf("ConnectedUser() = %+v, %v, want it to stay disabled", known, err)
	}
	w.wantSealed(map[string]string{"metadata": "a@b"})
	if _, err := w.engine.DeleteUser(ctx, "u", nil); err != nil {
		t.Fatal(err)
	}
	w.wantMeta("after the user was deleted", "u", map[string]any{})
	if left := w.traces("u"); left["1"] != 0 {
		t.Errorf("traces of the user = %v, want no record", left)
	}
}

func TestUserMetaLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, u := t.Context(), w.engine.User("u")
	many, deep := map[string]any{}, any("end")
	for i := range 101 {
		many[fmt.Sprintf("key %d", i)] = i
	}
	for range 9 {
		deep = []any{deep}
	}
	for name, change := range map[string]map[string]any{
		"an empty key": {"": 1}, "a long key": {strings.Repeat("k", 256): 1}, "many keys": many, "deep": {"k": deep},
		"large": {"k": strings.Repeat("x", 16<<10)}, "no JSON": {"k": make(chan int)},
	} {
		_, err := u.UpdateMeta(ctx, change)
		w.wantInput("UpdateMeta("+name+")", err, "meta")
	}
	w.wantMeta("after all that", "u", map[string]any{})
	for _, half := range []string{"a", "b"} {
		_, err := u.UpdateMeta(ctx, map[string]any{half: strings.Repeat("x", 9<<10)})
		if want := map[string]error{"a": nil, "b": core.ErrInvalid}[half]; !errors.Is(w.note(err), want) {
			t.Errorf("UpdateMeta(%s, 9 KiB) = %v, want %v", half, err, want)
		}
	}
	for _, id := range []string{"", "a\x00b", strings.Repeat("u", 256)} {
		w.wantInput("Meta of a user that is none", ignore(w.engine.User(id).Meta(ctx)), "user")
		w.wantInput("UpdateMeta of a user that is none", ignore(w.engine.User(id).UpdateMeta(ctx, map[string]any{"a": 1})), "user")
	}
}

// 32 writers at once lose nothing of each other, also beside connects of the same user.
func TestUserMetaRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	engines := []*core.Engine{w.engine, w.open()}
	callbacks := w.begun("u", 8, core.ConnectInput{AllowMultiple: true}, func(i int) string { return []string{"ada", "bob", "cyd"}[i%3] })
	want := map[string]any{}
	for i := range 32 {
		want[fmt.Sprintf("key %d", i)] = float64(i)
	}
	together(32+len(callbacks), func(i int) {
		if i >= 32 {
			if _, err := w.callback(callbacks[i-32]); err != nil {
				t.Errorf("Callback() = %v", err)
			}
			return
		}
		if _, err := engines[i%2].User("u").UpdateMeta(t.Context(), map[string]any{fmt.Sprintf("key %d", i): i}); err != nil {
			t.Errorf("UpdateMeta(%d) = %v", i, err)
		}
	})
	w.wantMeta("after all writers", "u", want)
	if got := len(w.list("u")); got != 3 {
		t.Errorf("%d accounts, want 3", got)
	}
}

// Every token of a user reads the metadata; it takes user:write to change it, which hangs on integration:*.
func TestUserMetaPermission(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	if _, err := d.engine.User("acme").UpdateMeta(ctx, map[string]any{"Name": "Acme"}); err != nil {
		t.Fatal(err)
	}
	for claim, want := range map[string]error{
		"":                                  nil,
		`{"integration:*": true}`:           nil,
		`{"integration:*": ["user:write"]}`: nil,
		`{}`:                                core.ErrPermission,
		`{"integration:mail": true}`:        core.ErrPermission,
		`{"integration:*": ["credential:read", "credential:write", "configuration:write", "proxy"]}`: core.ErrPermission,
		`{"integration:*": {"credential:owner": true}}`:                                              core.ErrPermission,
	} {
		in := usertoken.MintInput{}
		if claim != "" {
			in = claims(claim)
		}
		u := d.enter(in)
		got, err := u.Meta(ctx)
		if diff := cmp.Diff(map[string]any{"Name": "Acme"}, got); diff != "" || err != nil {
			t.Errorf("%s: Meta() = %v (-want +got):\n%s", claim, err, diff)
		}
		before := d.world.snapshot()
		_, err = u.UpdateMeta(ctx, map[string]any{"Name": "Acme"})
		if d.wantErr(claim+": UpdateMeta()", err, want); want != nil {
			d.wantUnchanged("UpdateMeta with "+claim, before)
		}
		_, err = u.As("somebody").Meta(ctx)
		d.wantErr(claim+": Meta() as somebody else", err, core.ErrPermission)
	}
	d.wantMeta("of another user", "initech", map[string]any{})
}
