package core_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// eventKinds are the kinds that event.go declares, by the source: a list here would not see a new one.
func eventKinds(t *testing.T) []core.EventKind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []core.EventKind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "EventKind" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, core.EventKind(text))
		}
		return true
	})
	if len(kinds) < 18 {
		t.Fatalf("event.go declares %v, want all kinds", kinds)
	}
	return kinds
}

// story is a gate that compares what is done with what is told of it.
type story struct {
	*gate
	after uint64
	all   []core.Event
}

// tells fails the test unless exactly these events are told of what do does. The time of each is that of the engine's
// clock, numbers go up by one, ids are all different, and a revision is there wherever want has one.
func (s *story) tells(what string, do func() error, want ...core.Event) {
	s.Helper()
	if err := do(); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	got := s.events(s.after)
	for i := range got {
		ev := &got[i]
		if s.after++; ev.Number != s.after || ev.ID == "" || !ev.Time.Equal(s.clock.Now()) {
			s.Errorf("%s is told as number %d, id %q, at %v, want number %d at %v", what, ev.Number, ev.ID, ev.Time, s.after, s.clock.Now())
		}
		for _, old := range s.all {
			if old.ID == ev.ID {
				s.Errorf("%s is told under the id of event %d", what, old.Number)
			}
			if old.Revision >= ev.Revision && ev.Revision != 0 && old.Credential == ev.Credential && old.Configuration == ev.Configuration {
				s.Errorf("%s is told with revision %d, and event %d before it with %d", what, ev.Revision, old.Number, old.Revision)
			}
		}
		s.all = append(s.all, *ev)
	}
	compare := cmp.Options{
		cmpopts.IgnoreFields(core.Event{}, "Number", "ID", "Time"),
		cmpopts.EquateEmpty(),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Revision" }, cmp.Comparer(func(a, b uint64) bool {
			return a == b || (a == changed && b != 0) || (b == changed && a != 0)
		})),
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		s.Errorf("%s is told (-want +got):\n%s", what, diff)
	}
}

const changed = 1 // any revision, in an event that is wanted

// Every kind of event is told with exactly the fields that its documentation names: actor, credential, cause, result and
// what else there is to say (security 25).
func TestSecurity25_EveryKind(t *testing.T) {
	t.Parallel()
	store := &placed{memory.New(), "here"}
	s := &story{gate: newGate(t, store, nil)}
	s.after = uint64(len(s.events(0)))
	ctx, e, pat := t.Context(), s.engine, s.acme("pat")
	person := core.Actor{Type: core.ActorUser, Person: "pat"}
	operator := core.Actor{Type: core.ActorOperator}

	// What an operator does.
	byOperator := func(kind core.EventKind, details map[string]string) core.Event {
		return core.Event{Kind: kind, Actor: operator, Integration: "contacts", Cause: "request", Result: "ok", Details: details}
	}
	var in core.Integration
	s.tells("creating an integration", func() (err error) {
		in, err = e.CreateIntegration(ctx, s.integration(func(in *core.Integration) { in.Name = "contacts" }))
		return err
	}, byOperator(core.EventIntegrationCreated, nil))
	s.tells("changing an integration", func() (err error) {
		in.DisplayName, in.OAuth2.RevocationURL, in.AllowedHosts = "Contacts", s.provider.RevocationURL(), nil
		in, err = e.UpdateIntegration(ctx, in)
		return err
	}, byOperator(core.EventIntegrationUpdated, map[string]string{"changed": "allowedHosts,displayName,oauth2.revocationUrl"}))
	s.tells("changing an integration's secret", func() (err error) {
		in.OAuth2.ClientSecret = crypto.NewSecret(clientSecret)
		in, err = e.UpdateIntegration(ctx, in)
		return err
	}, byOperator(core.EventIntegrationUpdated, map[string]string{"secret": "replaced"}))
	s.tells("setting secrets", func() error {
		return e.SetClientSecret(ctx, "contacts", crypto.NewSecret(clientSecret), crypto.NewSecret("canary-older"))
	}, byOperator(core.EventClientSecretSet, map[string]string{"count": "2"}))
	s.tells("deleting an integration", func() error { return e.DeleteIntegration(ctx, "contacts") }, byOperator(core.EventIntegrationDeleted, nil))

	// An account, from its beginning to its end.
	s.world.change(func(in *core.Integration) {
		in.Setup[0].Required, in.OtherAccount = true, core.OtherAccountReplace
	})
	s.after = uint64(len(s.events(0)))
	var work core.Credential
	told := func(kind core.EventKind, cause string, details map[string]string) core.Event {
		return core.Event{
			Kind: kind, Actor: person, User: "acme", Integration: calendar, Credential: work.ID, Revision: changed,
			Cause: cause, Result: "ok", Details: details,
		}
	}
	// The id of a new account is known only afterwards.
	callback := s.begun(pat, "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	s.tells("beginning to connect", func() error { return nil })
	result, err := e.Callback(ctx, callback)
	if err != nil {
		t.Fatal(err)
	}
	work = result.Credential
	sel := core.Selector{Credential: work.ID}
	s.tells("connecting", func() error { return nil }, told(core.EventConnected, "connect", map[string]string{
		"status": "PENDING", "externalId": "work", "label": "Work", "owner": "pat",
	}))
	s.tells("the callback again", func() error {
		_, err := e.Callback(ctx, callback)
		return err
	})
	s.tells("connecting into a pending account", func() error {
		_, err := s.flow(pat, "ada", core.ConnectInput{Into: "work"})
		return err
	}, told(core.EventReconnected, "into", map[string]string{"status": "PENDING"}))
	s.tells("completing", func() error {
		_, err := pat.CompleteSetup(ctx, sel, map[string]any{"site": "north", "pin": "canary-pin"})
		return err
	}, told(core.EventCompleted, "setup", nil))
	s.tells("changing the setup", func() error {
		_, err := pat.CompleteSetup(ctx, sel, map[string]any{"site": "south", "pin": nil})
		return err
	}, told(core.EventSetupChanged, "setup", map[string]string{"setup": "pin,site"}))
	s.tells("connecting into it", func() error {
		_, err := s.flow(pat, "ada", core.ConnectInput{Into: "work"})
		return err
	}, told(core.EventReconnected, "into", map[string]string{"status": "VALID"}))
	s.tells("connecting the same account", func() error {
		_, err := s.flow(pat, "ada", core.ConnectInput{AllowMultiple: true})
		return err
	}, told(core.EventReconnected, "same_account", map[string]string{"status": "VALID"}))
	s.tells("connecting another account into it", func() error {
		_, err := s.flow(pat, "bob", core.ConnectInput{Into: "work"})
		return err
	}, told(core.EventReconnected, "into", map[string]string{"status": "VALID", "account": "replaced"}))

	rename := func(label, externalID *string) func() error {
		return func() error {
			_, err := pat.Rename(ctx, sel, core.RenameInput{Label: label, ExternalID: externalID})
			return err
		}
	}
	s.tells("renaming", rename(new("Post"), new("post")), told(core.EventRenamed, "request", map[string]string{
		"changed": "label,externalId", "label": "Post", "externalId": "post", "previousExternalId": "work",
	}))
	s.tells("renaming to what it is called", rename(new("Post"), new("post")))
	s.tells("taking the names away", rename(new(""), new("")), told(core.EventRenamed, "request", map[string]string{
		"changed": "label,externalId", "previousExternalId": "post",
	}))
	s.tells("giving a label", rename(new("Work"), nil), told(core.EventRenamed, "request", map[string]string{"changed": "label", "label": "Work"}))
	s.tells("giving an external id", rename(nil, new("work")), told(core.EventRenamed, "request", map[string]string{"changed": "externalId", "externalId": "work"}))

	s.configurations(sel, pat, told)
	s.ends(&work, told)

	// Keys, and an end that others share.
	var key core.Credential
	s.tells("beginning with keys", func() error { return nil })
	key = s.mail(s.narrow("", "all", may(everything...)), "cyd", core.KeyInput{Label: "Mail"})
	s.tells("connecting with a key", func() error { return nil }, core.Event{
		Kind: core.EventConnected, Actor: core.Actor{Type: core.ActorUser, TokenID: "token of all"}, User: "acme", Integration: "mail",
		Credential: key.ID, Revision: changed, Cause: "key", Result: "ok", Details: map[string]string{"status": "VALID", "label": "Mail"},
	})
	s.tells("disconnecting what nobody shares", func() error { return s.acme("").Disconnect(ctx, core.Selector{Credential: key.ID}) }, core.Event{
		Kind: core.EventDisconnected, Actor: core.Actor{Type: core.ActorUser}, User: "acme", Integration: "mail",
		Credential: key.ID, Revision: changed, Cause: "request", Result: "ok",
	})
	s.world.change(func(in *core.Integration) { in.Setup = nil })
	s.mustConnect("initech", "bob", core.ConnectInput{}) // the same grant of another user
	s.after = uint64(len(s.events(0)))
	s.tells("disconnecting", func() error { return pat.Disconnect(ctx, sel) }, told(core.EventDisconnected, "request", map[string]string{
		"externalId": "work", "owner": "pat", "grant": "shared",
	}))

	s.switches()
	s.declares()

	// A copy that is gone on with.
	store.place, s.opts.TakeOver = "elsewhere", true
	s.tells("taking over", func() error {
		s.open()
		return nil
	}, core.Event{Kind: core.EventTakenOver, Actor: operator, Cause: "take_over", Result: "ok"})

	s.tellsAll()
}

// begun begins to connect and consents: what it returns is the callback.
func (s *story) begun(u *core.User, login string, in core.ConnectInput) core.CallbackInput {
	s.Helper()
	session, err := s.start(u, in)
	if err != nil {
		s.Fatal(err)
	}
	callback := s.consent(session, login, calendar, "the browser")
	return callback
}

// configurations tells of those of an account, and of passwords.
func (s *story) configurations(sel core.Selector, pat *core.User, told func(core.EventKind, string, map[string]string) core.Event) {
	s.Helper()
	ctx := s.Context()
	var id string
	of := func(kind core.EventKind, details map[string]string) core.Event {
		ev := told(kind, "request", details)
		ev.Configuration = id
		return ev
	}
	id = sel.Credential
	s.tells("changing the default configuration", func() error {
		_, err := pat.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{
			Settings: map[string]any{"secret": "canary-secret", "folder": "inbox"}, Meta: map[string]any{"colour": "red", "a,b\n": 1},
		})
		return err
	}, of(core.EventConfigurationUpdated, map[string]string{"settings": "folder,secret", "meta": "a,b\n,colour"}))
	read := of(core.EventPasswordRead, map[string]string{"input": "settings.secret"})
	read.Revision = 0
	s.tells("reading a password", func() error {
		_, err := pat.Password(ctx, sel, "settings.secret")
		return err
	}, read)
	extra, err := pat.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "more", Settings: map[string]any{"folder": "canary-folder"}})
	if err != nil {
		s.Fatal(err)
	}
	id = extra.ID
	created := of(core.EventConfigurationCreated, map[string]string{"externalId": "more"})
	created.Revision = extra.Revision
	s.tells("creating a configuration", func() error { return nil }, created)
	sel = core.Selector{Configuration: id}
	s.tells("renaming a configuration", func() error {
		_, err := pat.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{ExternalID: new("other")})
		return err
	}, of(core.EventConfigurationUpdated, map[string]string{"changed": "externalId", "externalId": "other"}))
	deleted := of(core.EventConfigurationDeleted, map[string]string{"externalId": "other"})
	deleted.Revision = extra.Revision + 2
	s.tells("deleting a configuration", func() error { return pat.DeleteConfiguration(ctx, sel) }, deleted)
}

// ends tells how an account was used, lost its authorisation, got it back, and what could not be connected.
func (s *story) ends(work *core.Credential, told func(core.EventKind, string, map[string]string) core.Event) {
	s.Helper()
	ctx, pat, sel := s.Context(), s.acme("pat"), core.Selector{Credential: work.ID}
	first := s.clock.Now().Format(time.RFC3339)
	use := func(cause, count string) core.Event {
		ev := told(core.EventUsed, cause, map[string]string{"count": count, "first": first, "last": s.clock.Now().Format(time.RFC3339)})
		ev.Revision = 0
		return ev
	}
	client, err := pat.Client(ctx, sel)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.me(client); err != nil {
		s.Fatal(err)
	}
	s.tells("sending a request", func() error { return nil }, use("client", "1"))
	for range 3 {
		if _, err := pat.Token(ctx, sel); err != nil {
			s.Fatal(err)
		}
		s.clock.Advance(time.Second)
	}
	last := use("token", "3")
	last.Details["last"] = s.clock.Now().Add(-time.Second).Format(time.RFC3339)
	s.tells("taking tokens out", func() error { return nil }, last)

	session, err := s.start(pat, core.ConnectInput{AllowMultiple: true})
	if err != nil {
		s.Fatal(err)
	}
	s.provider.DenyNext()
	denied := s.consent(session, "ada", calendar, "the browser")
	failed := told(core.EventConnectFailed, "connect", map[string]string{"session": session.ID})
	failed.Credential, failed.Revision, failed.Result = "", 0, "denied"
	for _, wants := range [][]core.Event{{failed}, nil} { // the second time it is only told again to the browser
		s.tells("refusing", func() error {
			_, err := s.engine.Callback(ctx, denied)
			s.wantErr("Callback", err, core.ErrDenied)
			return nil
		}, wants...)
	}

	ended := told(core.EventInvalidated, "refresh", nil)
	ended.Actor, ended.Result = core.Actor{Type: core.ActorEngine}, "invalid_grant"
	lose := func() error {
		s.provider.Revoke("bob")
		s.clock.Advance(2 * time.Hour)
		_, err := s.acme("").Token(ctx, sel)
		s.wantErr("Token", err, core.ErrReconnect)
		return nil
	}
	s.tells("losing the authorisation", lose, ended)
	s.tells("asking again", lose)
	s.tells("connecting what ended", func() error {
		_, err := s.flow(pat, "bob", core.ConnectInput{})
		return err
	}, told(core.EventReconnected, "ended", map[string]string{"status": "VALID"}))
	s.refused(sel, told)

	s.tells("replacing its account, without a refresh token", func() error {
		s.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
		_, err := s.flow(pat, "cyd", core.ConnectInput{Into: "work"})
		return err
	}, told(core.EventReconnected, "into", map[string]string{"status": "VALID", "account": "replaced"}))
	ended.Result = "no_refresh_token"
	s.tells("losing it without a refresh token", lose, ended)
	s.tells("connecting bob into what ended", func() error {
		_, err := s.flow(pat, "bob", core.ConnectInput{Into: "work"})
		return err
	}, told(core.EventReconnected, "into", map[string]string{"status": "VALID", "account": "replaced"}))
}

// tellsAll checks that no kind was left out, and holds one event of each to its form in JSON, which is forever.
func (s *story) tellsAll() {
	s.Helper()
	firsts := map[core.EventKind]core.Event{}
	for _, ev := range s.all {
		if _, ok := firsts[ev.Kind]; !ok {
			firsts[ev.Kind] = ev
		}
	}
	kinds := eventKinds(s.T)
	for _, kind := range kinds {
		if _, ok := firsts[kind]; !ok {
			s.Errorf("no event of kind %s was told: give it its part in the story", kind)
		}
	}
	if len(firsts) != len(kinds) {
		s.Errorf("%v were told, want only %v", slices.Sorted(maps.Keys(firsts)), kinds)
	}

	var got bytes.Buffer
	uuids := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	for i, kind := range kinds {
		ev := firsts[kind]
		ev.Number, ev.Revision = uint64(i+1), min(ev.Revision, 1)
		text, err := json.Marshal(ev)
		if err != nil {
			s.Fatal(err)
		}
		known := map[string]string{ev.ID: "an event"} // ids are new each time
		for _, id := range []string{ev.Credential, ev.Configuration, ev.Details["session"]} {
			if id != "" && known[id] == "" {
				known[id] = fmt.Sprintf("id %d", len(known))
			}
		}
		got.Write(uuids.ReplaceAllFunc(text, func(id []byte) []byte { return []byte(known[string(id)]) }))
		got.WriteByte('\n')
		var back core.Event
		if err := json.Unmarshal(text, &back); err != nil || !cmp.Equal(ev, back) {
			s.Errorf("json.Unmarshal(%s) = %+v, %v, want %+v", text, back, err, ev)
		}
	}
	golden := filepath.Join("testdata", "events.jsonl")
	want, err := os.ReadFile(golden)
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		s.Errorf("%s (-want +got):\n%s\nas it is now:\n%s", golden, diff, got.String())
	}
}

// hostileNames would mean something to a terminal, a log or a reader, were they written as they are.
var hostileNames = []string{
	"acme", "a b", `" user="root`, "a\nb", "\x1b[31m", "\u202egnp.exe", "\u2066x\u2069", "\x7f\u0085\u2028", "\xff\xfe", "\ufeff", "é\u0301", "\\n", "😀", "\u200b",
	"a\r\n7 credential.connected actor=operator", "\x00", "",
}

// Whatever names people and programs chose, an event is written as one line of printable ASCII (security 25).
func TestSecurity25_Escaping(t *testing.T) {
	t.Parallel()
	for _, name := range hostileNames {
		wantOneLine(t, name, name, name)
	}
	ev := core.Event{Number: 7, Kind: core.EventRenamed, Time: time.Unix(0, 0), Actor: core.Actor{Type: core.ActorUser, Person: "pat\n\x1b[2J"}}
	if line := ev.String(); !strings.Contains(line, `person="pat\n\x1b[2J"`) {
		t.Errorf(`String() = %s, want person="pat\n\x1b[2J" in it`, line)
	}
}

// FuzzEventString looks for other names.
func FuzzEventString(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name, name, name)
	}
	f.Fuzz(wantOneLine)
}

// wantOneLine gives names to an event: String is one line of printable ASCII, from which each name can be read back.
func wantOneLine(t *testing.T, user, person, label string) {
	t.Helper()
	ev := core.Event{
		Number: 7, Time: time.Unix(0, 0), Kind: core.EventRenamed, Actor: core.Actor{Type: core.ActorUser, Person: person, TokenID: label},
		User: user, Integration: person, Credential: label, Configuration: user, Revision: 3, Cause: "request", Result: "ok",
		Details: map[string]string{"label": label, "externalId": user},
	}
	line := ev.String()
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			t.Fatalf("String() = %q, want printable ASCII on one line", line)
		}
	}
	fields := readFields(t, line)
	for name, want := range map[string]string{"user": user, "person": person, "token": label, "label": label, "externalId": user, "cause": "request", "result": "ok"} {
		if got := fields[name]; utf8.ValidString(want) && got != want {
			t.Errorf("%s = %q, want %q, in %s", name, got, want, line)
		}
	}
}

// readFields reads name="value" pairs; each name may come once.
func readFields(t *testing.T, line string) map[string]string {
	t.Helper()
	_, rest, _ := strings.Cut(line, " actor=user")
	fields := map[string]string{}
	for rest != "" {
		name, value, ok := strings.Cut(strings.TrimPrefix(rest, " "), "=")
		if strings.HasPrefix(value, "3") && name == "revision" {
			rest = value[1:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(value)
		if _, twice := fields[name]; !ok || err != nil || twice {
			t.Fatalf("%q is no field, or there twice, in %s", name, line)
		}
		if fields[name], err = strconv.Unquote(quoted); err != nil {
			t.Fatal(err)
		}
		rest = value[len(quoted):]
	}
	return fields
}
