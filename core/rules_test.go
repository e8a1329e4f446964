package core_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/polycred/polycred/core"
)

// invalidate has the provider end an account's grant, and the engine notice it.
func (w *world) invalidate(user, login, credential string) {
	w.Helper()
	w.provider.Revoke(login)
	w.clock.Advance(2 * 3600e9)
	if _, err := w.as(user, credential); !errors.Is(err, core.ErrReconnect) {
		w.Fatalf("token after the grant ended: error %v, want %v", err, core.ErrReconnect)
	}
}

func TestRule1Refuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	first := w.mustConnect("u", "ada", core.ConnectInput{})
	_, err := w.connect("u", "bob", core.ConnectInput{})
	w.wantErr("connecting a second account", err, core.ErrAlreadyConnected)
	if got := w.list("u"); len(got) != 1 || got[0].ID != first.ID {
		t.Errorf("accounts = %v, want only %s", got, first.ID)
	}
	w.mustConnect("other", "bob", core.ConnectInput{}) // another user is not concerned

	t.Run("at the commit", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		one, err1 := w.begin("u", "ada", core.ConnectInput{})
		two, err2 := w.begin("u", "bob", core.ConnectInput{})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := w.engine.Callback(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		_, err := w.engine.Callback(t.Context(), two)
		w.wantErr("the second of two sessions", err, core.ErrAlreadyConnected)
	})
	t.Run("one that ended is reconnected in place", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
		w.invalidate("u", "ada", first.ID)
		again := w.mustConnect("u", "ada", core.ConnectInput{})
		if again.ID != first.ID || again.Status != core.StatusValid || again.ExternalID != "work" || !again.Created.Equal(first.Created) {
			t.Errorf("reconnected = %+v, want %s in place", again, first.ID)
		}
		if as, err := w.as("u", ""); as != "ada@example.com" {
			t.Errorf("as = %q, %v", as, err)
		}
	})
	t.Run("one that ended is not given to another account", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		first := w.mustConnect("u", "ada", core.ConnectInput{})
		w.invalidate("u", "ada", first.ID)
		_, err := w.connect("u", "bob", core.ConnectInput{})
		w.wantErr("reconnecting as another account", err, core.ErrAccountMismatch)
		if got := w.list("u")[0]; got.Account.Subject != "ada" || got.Status != core.StatusInvalid {
			t.Errorf("account = %+v, want it unchanged", got)
		}
	})
	t.Run("several that ended", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		a := w.mustConnect("u", "ada", core.ConnectInput{})
		b := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
		w.invalidate("u", "ada", a.ID)
		w.invalidate("u", "bob", b.ID)
		_, err := w.connect("u", "ada", core.ConnectInput{})
		var ambiguous *core.AmbiguousError
		if !errors.As(w.note(err), &ambiguous) || len(ambiguous.Candidates) != 2 {
			t.Errorf("connect = %v, want an AmbiguousError with two candidates", err)
		}
	})
}

func TestRule2AllowMultiple(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	first := w.mustConnect("u", "ada", core.ConnectInput{})
	second := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	if first.ID == second.ID {
		t.Fatalf("both accounts are %s", first.ID)
	}
	if got := w.list("u"); len(got) != 2 || got[0].ID != first.ID {
		t.Errorf("accounts = %v, want the first one in front", got)
	}
	for id, want := range map[string]string{first.ID: "ada@example.com", second.ID: "bob@example.com"} {
		if as, err := w.as("u", id); as != want {
			t.Errorf("as(%s) = %q, %v, want %q", id, as, err, want)
		}
	}
}

func TestRule3Into(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	second := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})

	for _, into := range []string{first.ID, "work", "ext:work", strings.ToUpper(first.ID)} {
		if got := w.mustConnect("u", "ada", core.ConnectInput{Into: into}); got.ID != first.ID || got.ExternalID != "work" {
			t.Errorf("into %q = %+v, want %s in place", into, got, first.ID)
		}
	}
	_, err := w.connect("u", "cyd", core.ConnectInput{Into: first.ID})
	w.wantErr("into with another account", err, core.ErrAccountMismatch)
	_, err = w.connect("u", "ada", core.ConnectInput{Into: "nobody"})
	w.wantErr("into an unknown external id", err, core.ErrNotFound)
	_, err = w.connect("stranger", "ada", core.ConnectInput{Into: first.ID})
	w.wantErr("into another user's credential", err, core.ErrNotFound)
	w.create(func(in *core.Integration) { in.Name = "mail" })
	_, err = w.connect("u", "ada", core.ConnectInput{Integration: "mail", Into: first.ID})
	w.wantErr("into a credential of another integration", err, core.ErrNotFound)
	_, err = w.connect("u", "ada", core.ConnectInput{Into: first.ID, ExternalID: "x"})
	w.wantErr("into with an external id", err, core.ErrInvalid)

	w.change(func(in *core.Integration) { in.OtherAccount = core.OtherAccountReplace })
	replaced := w.mustConnect("u", "cyd", core.ConnectInput{Into: first.ID})
	if replaced.ID != first.ID || replaced.Account.Subject != "cyd" || replaced.ExternalID != "work" {
		t.Errorf("replaced = %+v, want %s as cyd", replaced, first.ID)
	}
	_, err = w.connect("u", "bob", core.ConnectInput{Into: first.ID})
	w.wantErr("replacing by an account that is another credential", err, core.ErrAccountMismatch)
	if again := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true}); again.ID == first.ID || again.ID == second.ID {
		t.Errorf("the account that was replaced came back as %s, want a new credential", again.ID)
	}

	t.Run("disconnected meanwhile", func(t *testing.T) {
		callback, err := w.begin("u", "bob", core.ConnectInput{Into: second.ID})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: second.ID}); err != nil {
			t.Fatal(err)
		}
		_, err = w.engine.Callback(t.Context(), callback)
		w.wantErr("into a credential that is gone", err, core.ErrNotFound)
	})
}

func TestRule4SameAccount(t *testing.T) {
	t.Parallel()
	t.Run("update", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		first := w.mustConnect("u", "ada", core.ConnectInput{})
		w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
		again := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true, ExternalID: "work"})
		if again.ID != first.ID || again.ExternalID != "work" {
			t.Errorf("the same account again = %+v, want %s labelled work", again, first.ID)
		}
		_, err := w.connect("u", "ada", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
		w.wantErr("the same account under another external id", err, core.ErrExternalID)
		if err == nil || !strings.Contains(err.Error(), `"work"`) {
			t.Errorf("error %v, want it to name the external id that the account has", err)
		}
		if got := len(w.list("u")); got != 2 {
			t.Errorf("%d accounts, want 2", got)
		}
		if other := w.mustConnect("v", "ada", core.ConnectInput{}); other.ID == first.ID {
			t.Error("another user got this user's credential")
		}
	})
	t.Run("reject", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.SameAccount = core.SameAccountReject })
		w.mustConnect("u", "ada", core.ConnectInput{})
		_, err := w.connect("u", "ada", core.ConnectInput{AllowMultiple: true})
		w.wantErr("the same account again", err, core.ErrAccountConnected)
	})
	t.Run("allow", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.SameAccount = core.SameAccountAllow })
		a := w.mustConnect("u", "ada", core.ConnectInput{})
		b := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
		if a.ID == b.ID {
			t.Errorf("both are %s, want two credentials", a.ID)
		}
		if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: a.ID}); err != nil {
			t.Fatal(err)
		}
		w.change(func(in *core.Integration) { in.SameAccount = core.SameAccountUpdate })
		if c := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true}); c.ID != b.ID {
			t.Errorf("the account again = %s, want %s, which is left", c.ID, b.ID)
		}
	})
	t.Run("unknown identity equals nothing", func(t *testing.T) { // security 10
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.Identity = core.Identity{} })
		a := w.mustConnect("u", "ada", core.ConnectInput{})
		b := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
		if a.ID == b.ID || a.Account.Known() {
			t.Errorf("credentials %s and %s, account %+v, want two with unknown accounts", a.ID, b.ID, a.Account)
		}
		if again := w.mustConnect("u", "ada", core.ConnectInput{Into: a.ID}); again.ID != a.ID {
			t.Errorf("into = %s, want %s", again.ID, a.ID)
		}
	})
	t.Run("claimed once by 64 at once", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		ids := w.race(64, func(int) (core.Credential, error) {
			return w.connect("u", "ada", core.ConnectInput{AllowMultiple: true})
		})
		if len(ids) != 1 || len(w.list("u")) != 1 {
			t.Errorf("64 connects of one account made %d credentials, %d are listed, want 1", len(ids), len(w.list("u")))
		}
	})
}

func TestRule5ExternalID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "  ext: work "})
	if first.ExternalID != "work" {
		t.Errorf("external id = %q, want %q", first.ExternalID, "work")
	}
	for _, taken := range []string{"work", " work", "ext:work"} {
		_, err := w.connect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: taken})
		w.wantErr("external id "+taken, err, core.ErrExternalID)
	}
	for name, bad := range map[string]string{
		"only spaces": "   ", "only a prefix": "ext:", "NUL": "a\x00b", "not UTF-8": "a\xffb", "256 bytes": strings.Repeat("x", 256),
	} {
		_, err := w.connect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: bad})
		w.wantErr(name, err, core.ErrInvalid)
	}
	uuid := "0199f3a0-0000-7000-8000-000000000000"
	second := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: uuid})
	if _, err := w.as("u", uuid); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("an external id that looks like a UUID: error %v, want %v without ext:", err, core.ErrNotFound)
	}
	if as, err := w.as("u", "ext:"+uuid); as != "bob@example.com" {
		t.Errorf("as = %q, %v, want bob", as, err)
	}
	w.create(func(in *core.Integration) { in.Name = "mail" })
	w.mustConnect("u", "ada", core.ConnectInput{Integration: "mail", ExternalID: "work"}) // unique per integration
	w.mustConnect("v", "ada", core.ConnectInput{ExternalID: "work"})                      // and per user

	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: second.ID}); err != nil {
		t.Fatal(err)
	}
	w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: uuid}) // free again

	t.Run("claimed once by 64 at once", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.Identity = core.Identity{} }) // every connect is an account of its own
		ids := w.race(64, func(int) (core.Credential, error) {
			return w.connect("u", "ada", core.ConnectInput{AllowMultiple: true, ExternalID: "one"})
		})
		if len(ids) != 1 || len(w.list("u")) != 1 {
			t.Errorf("%d winners, %d accounts, want 1", len(ids), len(w.list("u")))
		}
	})
}

func TestRule7NoSilentChoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	_, err := w.as("u", "")
	w.wantErr("nothing connected", err, core.ErrNotConnected)
	first := w.mustConnect("u", "ada", core.ConnectInput{})
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want the only account", as, err)
	}
	w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "second"})
	_, err = w.as("u", "")
	var ambiguous *core.AmbiguousError
	if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 2 || ambiguous.Candidates[0].ID != first.ID {
		t.Errorf("as = %v, want an AmbiguousError naming both, the oldest first", err)
	}
	err = w.engine.User("u").Disconnect(t.Context(), core.Selector{Integration: calendar})
	w.wantErr("disconnecting none in particular", err, core.ErrAmbiguous)

	t.Run("oldest", func(t *testing.T) {
		w.opts.Unselected = core.Oldest
		engine := w.open()
		token, err := engine.User("u").Token(t.Context(), core.Selector{Integration: calendar})
		if err != nil || token.Credential != first.ID {
			t.Errorf("Token = %+v, %v, want the oldest, %s", token, err, first.ID)
		}
	})
	t.Run("one left that is valid", func(t *testing.T) {
		w.invalidate("u", "ada", first.ID)
		if as, err := w.as("u", ""); as != "bob@example.com" {
			t.Errorf("as = %q, %v, want the one that is valid", as, err)
		}
	})
}

func TestRule8DisconnectOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "a"})
	w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "b", AllowMultiple: true})
	w.mustConnect("u", "cyd", core.ConnectInput{ExternalID: "c", AllowMultiple: true})
	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Integration: calendar, Credential: "b"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.as("u", "b")
	w.wantErr("the disconnected account", err, core.ErrNotFound)
	for id, want := range map[string]string{"a": "ada@example.com", "c": "cyd@example.com"} {
		if as, err := w.as("u", id); as != want {
			t.Errorf("as(%s) = %q, %v, want %q", id, as, err, want)
		}
	}
	err = w.engine.User("u").Disconnect(t.Context(), core.Selector{Integration: calendar, Credential: "b"})
	w.wantErr("disconnecting twice", err, core.ErrNotFound)
	w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "b", AllowMultiple: true})
}

// race calls connect n times at once and returns the ids of those that succeeded; the others must have lost by a rule.
func (w *world) race(n int, connect func(i int) (core.Credential, error)) map[string]int {
	w.Helper()
	var mu sync.Mutex
	ids := map[string]int{}
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			credential, err := connect(i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ids[credential.ID]++
			case errors.Is(err, core.ErrAlreadyConnected), errors.Is(err, core.ErrExternalID):
			default:
				w.Errorf("a racing connect: %v", err)
			}
		})
	}
	group.Wait()
	return ids
}
