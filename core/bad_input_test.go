package core_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/permission"
)

// snapshot is the store as it is: the value of each key.
func (w *world) snapshot() map[string]string {
	w.Helper()
	items := map[string]string{}
	for _, item := range w.items() {
		items[string(item.Key)] = string(item.Value)
	}
	return items
}

// wantUnchanged fails the test unless the store is as it was.
func (w *world) wantUnchanged(what string, before map[string]string) {
	w.Helper()
	if now := w.snapshot(); !maps.Equal(before, now) {
		keysOf := func(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
		w.Errorf("%s changed the store; its keys (-before +after):\n%s", what, cmp.Diff(keysOf(before), keysOf(now)))
	}
}

// errs are what methods returned, by their name.
type errs map[string]error

// besides are what selecting passes beside a selector, by type: what would change something if it were let.
var besides = map[reflect.Type]any{
	reflect.TypeFor[core.RenameInput]():         core.RenameInput{Label: new("never stored"), ExternalID: new("never-stored")},
	reflect.TypeFor[core.ConfigurationInput]():  core.ConfigurationInput{ExternalID: "never-stored"},
	reflect.TypeFor[core.ConfigurationUpdate](): core.ConfigurationUpdate{Meta: map[string]any{"never": "stored"}},
	reflect.TypeFor[map[string]any]():           map[string]any{"site": "never stored"}, // of CompleteSetup
	reflect.TypeFor[string]():                   "settings.secret",                      // of Password
	reflect.TypeFor[permission.Permission]():    permission.Proxy,                       // of Authorize
}

// selecting calls every method of User that takes a selector, and gives their errors by name. A new method is called too,
// once besides has what it takes.
func (w *world) selecting(user string, sel core.Selector) errs {
	w.Helper()
	handle, selector := reflect.ValueOf(w.engine.User(user)), reflect.TypeFor[core.Selector]()
	all := errs{}
	for method, bound := range handle.Methods() {
		takes := slices.Collect(bound.Type().Ins())
		if !slices.Contains(takes, selector) {
			continue
		}
		args := make([]reflect.Value, len(takes))
		for i, of := range takes {
			other, known := besides[of]
			switch {
			case of == reflect.TypeFor[context.Context]():
				args[i] = reflect.ValueOf(w.Context())
			case of == selector:
				named := sel
				if method.Name == "DeleteConfiguration" && named.Configuration == "" { // which wants a name
					named.Configuration = "never-stored"
				}
				args[i] = reflect.ValueOf(named)
			case known:
				args[i] = reflect.ValueOf(other)
			default:
				w.Fatalf("User.%s takes a %s: say in besides what to pass", method.Name, of)
			}
		}
		results := bound.Call(args)
		err, fails := results[len(results)-1].Interface().(error)
		if last := bound.Type().Out(len(results) - 1); !fails && last != reflect.TypeFor[error]() {
			w.Fatalf("User.%s returns a %s in the end, want an error", method.Name, last)
		}
		all[method.Name] = err
	}
	for _, name := range []string{"Token", "Setup", "Disconnect"} {
		if _, ok := all[name]; !ok {
			w.Fatalf("User.%s was not called: %d methods were", name, len(all))
		}
	}
	return all
}

func TestBadSelectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	declare := func(in *core.Integration) {
		in.Setup = []input.Input{{ID: "site", Type: input.Text}}
		in.Settings = []input.Input{{ID: "secret", Type: input.Password}}
	}
	w.change(declare)
	w.create(func(in *core.Integration) { in.Name = "mail"; declare(in) })
	w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "home", AllowMultiple: true})
	mail := w.mustConnect("u", "ada", core.ConnectInput{Integration: "mail", ExternalID: "letters"})
	hers := w.mustConnect("v", "cyd", core.ConnectInput{ExternalID: "hers"})
	inbox, err := w.engine.User("v").CreateConfiguration(t.Context(), core.Selector{Credential: hers.ID}, core.ConfigurationInput{ExternalID: "inbox"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		sel  core.Selector
		want error
		says []string // all of it stands in each error
	}{
		{"another user's credential", core.Selector{Credential: hers.ID}, core.ErrNotFound, []string{hers.ID}},
		{"the same at an integration", core.Selector{Integration: calendar, Credential: hers.ID}, core.ErrNotFound, []string{hers.ID}},
		{"another user's external id", core.Selector{Integration: calendar, Credential: "hers"}, core.ErrNotFound, []string{"hers"}},
		{"another integration's external id", core.Selector{Integration: calendar, Credential: "letters"}, core.ErrNotFound, []string{"letters", calendar}},
		{"another integration's credential", core.Selector{Integration: calendar, Credential: mail.ID}, core.ErrNotFound, []string{mail.ID, calendar}},
		{"another user's configuration", core.Selector{Configuration: inbox.ID}, core.ErrNotFound, []string{inbox.ID}},
		{"another user's default configuration", core.Selector{Configuration: hers.ID}, core.ErrNotFound, []string{hers.ID}},
		{"another user's configuration by name", core.Selector{Integration: calendar, Configuration: "inbox"}, core.ErrNotFound, []string{"inbox"}},
		{"another user's configuration of one's own account", core.Selector{Credential: mail.ID, Configuration: inbox.ID}, core.ErrNotFound, []string{inbox.ID}},
		{"an external id that differs in case", core.Selector{Integration: calendar, Credential: "Work"}, core.ErrNotFound, []string{"Work"}},
		{"an external id with a space inside", core.Selector{Integration: calendar, Credential: "wo rk"}, core.ErrNotFound, []string{"wo rk"}},
		{"an empty external id", core.Selector{Integration: calendar, Credential: "ext:"}, core.ErrInvalid, []string{"credential", "empty"}},
		{"only spaces", core.Selector{Integration: calendar, Credential: "   "}, core.ErrInvalid, []string{"credential", "empty"}},
		{"a long external id", core.Selector{Integration: calendar, Credential: strings.Repeat("x", 300)}, core.ErrInvalid, []string{"255"}},
		{"an external id with NUL", core.Selector{Integration: calendar, Credential: "a\x00"}, core.ErrInvalid, []string{"NUL"}},
		{"an external id without integration", core.Selector{Credential: "work"}, core.ErrInvalid, []string{"integration"}},
		{"an empty configuration", core.Selector{Integration: calendar, Configuration: " ext: "}, core.ErrInvalid, []string{"configuration", "empty"}},
		{"a configuration without integration", core.Selector{Configuration: "inbox"}, core.ErrInvalid, []string{"integration"}},
		{"an unknown integration", core.Selector{Integration: "nope", Credential: "work"}, core.ErrNotFound, []string{"integration nope"}},
		{"a name that is none", core.Selector{Integration: "a/b", Credential: "work"}, core.ErrInvalid, []string{"integration", "letters"}},
		{"several", core.Selector{Integration: calendar}, core.ErrAmbiguous, []string{"work", "home"}},
	} {
		before := w.snapshot()
		for method, err := range w.selecting("u", tt.sel) {
			if tt.sel.Configuration != "" && method == "CreateConfiguration" { // a new one has no selector yet
				w.wantInput(tt.name, err, "configuration")
				continue
			}
			if tt.want == core.ErrAmbiguous && method == "DeleteConfiguration" { //nolint:errorlint // which row it is
				w.wantErr(method+" of "+tt.name, err, core.ErrNotFound)
				continue
			}
			w.wantErr(method+" of "+tt.name, err, tt.want)
			for _, text := range tt.says {
				if err != nil && !strings.Contains(err.Error(), text) {
					t.Errorf("%s of %s = %v, want %q in it", method, tt.name, err, text)
				}
			}
		}
		w.wantUnchanged(tt.name, before)
	}
}

// What nobody can connect is refused before anybody is sent to a provider.
func TestBadConnects(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	second := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	hers := w.mustConnect("v", "cyd", core.ConnectInput{ExternalID: "hers"})
	byKey, err := w.putKey("u", "ada", core.KeyInput{ExternalID: "letters"})
	if err != nil {
		t.Fatal(err)
	}
	calls := w.provider.Calls()
	for _, tt := range []struct {
		name string
		in   core.ConnectInput
		want error
		says string
	}{
		{"a second account that was not asked for", core.ConnectInput{}, core.ErrAlreadyConnected, "AllowMultiple"},
		{"an external id of spaces", core.ConnectInput{AllowMultiple: true, ExternalID: "  "}, core.ErrInvalid, "externalId is empty"},
		{"an external id of a prefix", core.ConnectInput{AllowMultiple: true, ExternalID: "ext: "}, core.ErrInvalid, "externalId is empty"},
		{"an external id of two prefixes", core.ConnectInput{AllowMultiple: true, ExternalID: "ext:ext:work"}, core.ErrInvalid, `"ext:" twice`},
		{"an external id that repeats", core.ConnectInput{AllowMultiple: true, ExternalID: "work"}, core.ErrExternalID, `connect into "ext:work" instead`},
		{"one that differs only in spaces", core.ConnectInput{AllowMultiple: true, ExternalID: " work\t"}, core.ErrExternalID, `connect into "ext:work" instead`},
		{"an external id that is too long", core.ConnectInput{AllowMultiple: true, ExternalID: strings.Repeat("x", 256)}, core.ErrInvalid, "at most 255"},
		{"into another user's", core.ConnectInput{Into: hers.ID}, core.ErrNotFound, hers.ID},
		{"into another user's external id", core.ConnectInput{Into: "hers"}, core.ErrNotFound, "hers"},
		{"into another integration's", core.ConnectInput{Into: byKey.ID}, core.ErrNotFound, calendar},
		{"into another integration's external id", core.ConnectInput{Into: "letters"}, core.ErrNotFound, "letters"},
		{"into an empty one", core.ConnectInput{Into: "ext:"}, core.ErrInvalid, "empty"},
		{"into with an external id", core.ConnectInput{Into: "work", ExternalID: "x"}, core.ErrInvalid, "together with into"},
		{"a label of two lines", core.ConnectInput{AllowMultiple: true, Label: "a\nb"}, core.ErrInvalid, "label"},
		{"an unknown integration", core.ConnectInput{Integration: "nope"}, core.ErrNotFound, "nope"},
		{"one with keys", core.ConnectInput{Integration: keys}, core.ErrInvalid, "AddKey"},
	} {
		before := w.snapshot()
		_, err := w.begin("u", "cyd", tt.in)
		w.wantErr(tt.name, err, tt.want)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want %q in it", tt.name, err, tt.says)
		}
		w.wantUnchanged(tt.name, before)
	}
	if got := w.provider.Calls(); got != calls {
		t.Errorf("the provider was asked: %+v, want %+v as before", got, calls)
	}
	// An external id that looks like a UUID, even like that of another account, is only ever reached with "ext:".
	like := w.mustConnect("u", "cyd", core.ConnectInput{AllowMultiple: true, ExternalID: first.ID})
	for name, want := range map[string]string{first.ID: first.ID, strings.ToUpper(first.ID): first.ID, "ext:" + first.ID: like.ID} {
		if got, err := w.engine.User("u").Credential(t.Context(), core.Selector{Integration: calendar, Credential: name}); err != nil || got.ID != want {
			t.Errorf("Credential(%s) = %s, %v, want %s", name, got.ID, err, want)
		}
	}
	w.wantWhole("u", idsOf([]core.Credential{first, second, like}))
}

// Two browsers finish one session, many times at once: the one that began it connects, once; the other changes nothing.
func TestTwoBrowsersFinishOneSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	other := callback
	other.Browser = "another browser"
	var refused, finished atomic.Int64
	won := w.contest(crowd, func(i int) (core.Credential, error) {
		in := callback
		if i%2 == 1 {
			in = other
		}
		result, err := w.engine.Callback(t.Context(), in)
		if err != nil {
			refused.Add(1)
			if result != nil || i%2 == 0 {
				t.Errorf("browser %d: result %+v beside %v, want none, and only for the other browser", i%2, result, err)
			}
			return core.Credential{}, err
		}
		if !result.Replayed {
			finished.Add(1)
		}
		return result.Credential, nil
	}, core.ErrBrowser)
	if len(won) != crowd/2 || len(idsOf(won)) != 1 || finished.Load() != 1 || refused.Load() != crowd/2 {
		t.Errorf("%d won with %d credentials, %d of them first, %d refused", len(won), len(idsOf(won)), finished.Load(), refused.Load())
	}
	w.wantExchanges(1)
	w.wantWhole("u", idsOf(won))
	before := w.snapshot()
	_, err := w.finish(other)
	if !errors.Is(err, core.ErrBrowser) || strings.Contains(err.Error(), won[0].ID) {
		t.Errorf("the other browser afterwards: %v, want %v and nothing of the outcome", err, core.ErrBrowser)
	}
	w.wantUnchanged("the other browser", before)
}

// What a caller passes stands in error texts on one line, in valid UTF-8: it can forge no line of a log.
func TestBadSelectorsInErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	for _, bad := range []string{"a\nlevel=ERROR msg=forged", "\x1b[2J", "a\u202eb", strings.Repeat("ä", 40) + "x", strings.Repeat("xä", 40), "\xff"} {
		for _, sel := range []core.Selector{
			{Integration: calendar, Credential: bad}, {Integration: calendar, Configuration: bad}, {Integration: bad}, {Credential: bad}, {Configuration: bad},
		} {
			for method, err := range w.selecting("u", sel) {
				if err == nil {
					t.Fatalf("%s of %q = nil, want an error", method, bad)
				}
				text := err.Error()
				if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(text, "  ") {
					t.Errorf("%s: error %q, want one printable line", method, text)
				}
			}
		}
	}
}
