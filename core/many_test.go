package core_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

// cost is what a call asks of the store.
type cost struct{ Reads, Keys, Applies int64 }

// costs does what a user with n accounts does, and returns what each asked of the store.
func costs(t *testing.T, n int) map[string]cost {
	t.Helper()
	counted := newCounter(nil)
	w := newWorld(t, counted, nil)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = keys, nil
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
	})
	w.people(2)
	ctx, u := t.Context(), w.engine.User("u")
	for _, integration := range []string{keys, calendar} {
		if err := w.engine.Fill(ctx, "u", integration, n); err != nil {
			t.Fatal(err)
		}
	}
	took := map[string]cost{}
	measure := func(what string, do func() error) {
		t.Helper()
		before := cost{counted.reads.Load(), counted.keys.Load(), counted.applies.Load()}
		if err := do(); err != nil {
			t.Errorf("%s among %d accounts = %v", what, n, w.note(err))
		}
		took[what] = cost{counted.reads.Load() - before.Reads, counted.keys.Load() - before.Keys, counted.applies.Load() - before.Applies}
	}

	var page core.CredentialPage
	var err error
	measure("list a page", func() error {
		page, err = u.Credentials(ctx, core.ListInput{Integration: keys, Limit: 20})
		return err
	})
	if len(page.Credentials) != 20 || page.Credentials[19].ExternalID != "a19" {
		t.Fatalf("page = %+v, want the 20 oldest", page.Credentials)
	}
	after := page.Next
	measure("list the next page", func() error {
		page, err = u.Credentials(ctx, core.ListInput{Integration: keys, Limit: 20, After: after})
		return err
	})
	if len(page.Credentials) != 20 || page.Credentials[0].ExternalID != "a20" {
		t.Fatalf("next page = %+v, want 20 from a20 on", page.Credentials)
	}
	listed, pages := 0, 1
	measure("list all", func() error {
		for in := (core.ListInput{Integration: keys, Limit: 1000}); ; pages++ {
			page, err := u.Credentials(ctx, in)
			for _, c := range page.Credentials {
				if want := fmt.Sprintf("a%d", listed); c.ExternalID != want {
					t.Fatalf("account %d = %s, want %s", listed, c.ExternalID, want)
				}
				listed++
			}
			if in.After = page.Next; err != nil || in.After == "" {
				return err
			}
		}
	})
	if want := (n + 999) / 1000; listed != n || pages != want {
		t.Errorf("the whole list = %d accounts on %d pages, want %d on %d", listed, pages, n, want)
	}
	last := fmt.Sprintf("a%d", n-1)
	var found core.Credential
	measure("find by external id", func() error {
		found, err = u.Credential(ctx, core.Selector{Integration: keys, Credential: last})
		return err
	})
	measure("find by UUID", func() error {
		byID, err := u.Credential(ctx, core.Selector{Credential: found.ID})
		if diff := cmp.Diff(found, byID); diff != "" || found.Account.Subject != last {
			t.Errorf("Credential(%s) and Credential(%s) differ:\n%s", last, found.ID, diff)
		}
		return err
	})
	if _, err := u.Token(ctx, core.Selector{Credential: found.ID}); err != nil { // reads who is disabled, for 5 seconds
		t.Fatal(err)
	}
	measure("token by UUID", func() error {
		token, err := u.Token(ctx, core.Selector{Credential: found.ID})
		if token.Value.Reveal() != "key-"+last {
			t.Errorf("token of %s is another account's", last)
		}
		return err
	})
	measure("token by external id", func() error {
		_, err := u.Token(ctx, core.Selector{Integration: keys, Credential: last})
		return err
	})
	measure("connect one more", func() error {
		_, err := w.putKey("u", person(0), core.KeyInput{AllowMultiple: true, ExternalID: "more"})
		return err
	})
	var session *core.ConnectSession
	measure("begin to connect one more by OAuth", func() error {
		session, err = u.Connect(ctx, core.ConnectInput{Integration: calendar, AllowMultiple: true, ExternalID: "more", Browser: "the browser"})
		return err
	})
	callback := w.consent(session, "ada", calendar, "the browser")
	measure("connect one more by OAuth", func() error {
		result, err := w.engine.Callback(ctx, callback)
		if err == nil && (result.Credential.ExternalID != "more" || result.Credential.Account.Subject != "ada") {
			t.Errorf("Callback() = %+v, want ada's account as more", result.Credential)
		}
		return err
	})
	measure("connect it again", func() error {
		again, err := w.putKey("u", person(0), core.KeyInput{AllowMultiple: true})
		if again.ExternalID != "more" {
			t.Errorf("the same account again = %+v, want it in place", again)
		}
		return err
	})
	measure("connect into", func() error {
		_, err := w.putKey("u", person(0), core.KeyInput{Into: "more"})
		return err
	})
	measure("refuse a second", func() error {
		_, err := w.putKey("u", person(1), core.KeyInput{})
		w.wantErr("a connect without AllowMultiple", err, core.ErrAlreadyConnected)
		return nil
	})
	measure("refuse to choose", func() error {
		_, err := u.Token(ctx, core.Selector{Integration: keys})
		w.wantErr("a token of none in particular", err, core.ErrAmbiguous)
		return nil
	})
	name := "renamed"
	measure("rename", func() error {
		_, err := u.Rename(ctx, core.Selector{Credential: found.ID}, core.RenameInput{ExternalID: &name, Label: &name})
		return err
	})
	measure("update its configuration", func() error {
		_, err := u.UpdateConfiguration(ctx, core.Selector{Credential: found.ID}, core.ConfigurationUpdate{Meta: map[string]any{"a": 1}})
		return err
	})
	measure("disconnect one", func() error { return u.Disconnect(ctx, core.Selector{Integration: keys, Credential: "renamed"}) })
	return took
}

// What a user with 5,000 accounts of one integration does costs what it costs with 50; only the whole list has more pages.
func TestManyAccounts(t *testing.T) {
	t.Parallel()
	few, many := costs(t, 50), costs(t, 5000)
	for what, n := range few {
		t.Logf("%-24s %+v among 50 accounts, %+v among 5,000", what, n, many[what])
		limit, same := cost{12, 16, 1}, n == many[what]
		switch what {
		case "list all": // pages of 1,000, each one scan and one GetMany: one page among 50, five among 5,000
			limit = cost{2 * 5, 2 * 5000, 0}
			same = 5*n.Reads == many[what].Reads && 100*n.Keys == many[what].Keys
		case "connect one more by OAuth": // one Apply spends the session, the other one is the account
			limit.Applies = callbackApplies
		case "list a page", "list the next page":
			limit = cost{2, 40, 0}
		case "refuse a second", "refuse to choose": // they look at the first page, of 100
			limit = cost{4, 202, 0}
			same = n.Reads == many[what].Reads
		case "find by UUID", "token by UUID":
			limit = cost{1, 1, 0}
		case "find by external id", "token by external id":
			limit = cost{2, 2, 0}
		}
		if !same {
			t.Errorf("%s = %+v among 50 accounts, %+v among 5,000, want the same, page by page", what, n, many[what])
		}
		if most := many[what]; most.Reads > limit.Reads || most.Keys > limit.Keys || most.Applies > limit.Applies {
			t.Errorf("%s = %+v, want at most %+v", what, most, limit)
		}
	}
}
