package core

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/sealed"
)

// Dangling compares what the tables say of accounts and configurations with what these say of themselves, and returns a
// complaint for each difference.
func (e *Engine) Dangling(ctx context.Context) ([]string, error) {
	a := &audit{e: e, may: map[string]bool{}, found: map[string]bool{}, rosters: map[string]int{}, others: map[string]int{}}
	for _, step := range []func(context.Context) error{a.credentials, a.configurations, a.entries, a.counts} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for entry := range a.found {
		if !a.may[entry] {
			a.complain("entry %q leads nowhere", entry)
		}
	}
	for _, group := range a.must {
		if !slices.ContainsFunc(group, func(entry string) bool { return a.found[entry] }) {
			a.complain("none of the entries %q is there", group)
		}
	}
	slices.Sort(a.complaints)
	return a.complaints, nil
}

// audit collects the entries that there may be, groups of which one has to be there, and those that were found.
type audit struct {
	e          *Engine
	may, found map[string]bool
	must       [][]string
	rosters    map[string]int // by user and integration
	others     map[string]int // by user and credential: configurations beside the default one
	complaints []string
}

func (a *audit) complain(format string, args ...any) {
	a.complaints = append(a.complaints, fmt.Sprintf(format, args...))
}

// one says that one of these entries has to be there, and that each of them may.
func (a *audit) one(group ...string) {
	for _, entry := range group {
		a.may[entry] = true
	}
	a.must = append(a.must, group)
}

// blind is one for the look-ups of a value under each live key: an entry from before a key was added is under fewer.
func (a *audit) blind(ctx context.Context, entry func(token string) string, parts ...string) error {
	tokens, err := a.e.db.Lookup(ctx, parts...)
	for i, token := range tokens {
		tokens[i] = entry(token)
	}
	a.one(tokens...)
	return err
}

func entryOf(table string, parts ...string) string { return table + " " + fmt.Sprintf("%q", parts) }

func (a *audit) credentials(ctx context.Context) error {
	return walk(ctx, a.e.tables.credentials, func(key []string, r *credentialRecord) error {
		user, account := key[0], r.Account
		a.rosters[entryOf("roster", user, r.Integration)]++
		a.others[entryOf("others", user, r.ID)] += 0
		a.one(entryOf("by user", user, r.Integration, r.ID))
		a.one(entryOf("by integration", r.Integration, r.ID, user))
		a.one(entryOf("integration", r.Integration))
		a.one(entryOf("configuration", user, r.ID, r.ID))
		var err error
		if r.ExternalID != "" {
			err = a.blind(ctx, func(token string) string {
				return entryOf("external id", user, r.Integration, token, r.ID)
			}, "external id", user, r.Integration, r.ExternalID)
		}
		if err != nil || account.Subject == "" {
			return err
		}
		if err := a.blind(ctx, func(token string) string {
			return entryOf("claim", user, r.Integration, token, r.ID)
		}, "account", user, r.Integration, account.Issuer, account.Tenant, account.Subject); err != nil || r.ClientID == "" {
			return err
		}
		return a.blind(ctx, func(token string) string {
			return entryOf("grant", token, user, r.ID)
		}, "grant", r.ClientID, account.Issuer, account.Tenant, account.Subject)
	})
}

func (a *audit) configurations(ctx context.Context) error {
	integrations := map[string]string{} // by user and credential
	if err := walk(ctx, a.e.tables.credentials, func(key []string, r *credentialRecord) error {
		integrations[entryOf("others", key[0], r.ID)] = r.Integration
		return nil
	}); err != nil {
		return err
	}
	said := map[string]int{}
	err := walk(ctx, a.e.tables.configurations, func(key []string, r *configurationRecord) error {
		user, credential := key[0], key[1]
		a.found[entryOf("configuration", user, credential, r.ID)] = true
		account := entryOf("others", user, credential)
		if r.ID == credential {
			said[account] = r.Others
			return nil
		}
		if _, there := a.others[account]; there {
			a.may[entryOf("configuration", user, credential, r.ID)] = true
		}
		a.others[account]++
		a.one(entryOf("by configuration", user, r.ID, credential))
		if r.ExternalID == "" {
			return nil
		}
		return a.blind(ctx, func(token string) string {
			return entryOf("configuration id", user, integrations[account], token, credential, r.ID)
		}, "configuration external id", user, integrations[account], r.ExternalID)
	})
	for account, n := range a.others {
		if said[account] != n {
			a.complain("%s = %d, want %d", account, said[account], n)
		}
	}
	return err
}

// entries notes all that stands in the tables which lead to others.
func (a *audit) entries(ctx context.Context) error {
	tables := &a.e.tables
	for _, index := range []struct {
		name string
		*sealed.Index
	}{{"by user", tables.byUser}, {"by integration", tables.byIntegration}, {"by configuration", tables.byConfig}, {"grant", tables.grants}} {
		for after, more := []string(nil), true; more; {
			entries, next, err := index.Scan(ctx, nil, after, 1000)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				a.found[entryOf(index.name, entry...)], after = true, entry
			}
			more = next
		}
	}
	if err := walk(ctx, tables.integrations, func(key []string, _ *integrationRecord) error {
		entry := entryOf("integration", key...)
		a.may[entry], a.found[entry] = true, true
		return nil
	}); err != nil {
		return err
	}
	if err := walk(ctx, tables.claims, func(key []string, r *claimRecord) error {
		if len(r.Credentials) == 0 {
			a.complain("claim %q is empty", key)
		}
		for _, id := range r.Credentials {
			a.found[entryOf("claim", append(slices.Clip(key), id)...)] = true
		}
		return nil
	}); err != nil {
		return err
	}
	if err := walk(ctx, tables.externalIDs, func(key []string, r *externalIDRecord) error {
		a.found[entryOf("external id", append(slices.Clip(key), r.Credential)...)] = true
		return nil
	}); err != nil {
		return err
	}
	return walk(ctx, tables.configurationIDs, func(key []string, r *configurationIDRecord) error {
		a.found[entryOf("configuration id", append(slices.Clip(key), r.Configuration)...)] = true
		return nil
	})
}

// counts compares the rosters with what was counted.
func (a *audit) counts(ctx context.Context) error {
	err := walk(ctx, a.e.tables.rosters, func(key []string, r *rosterRecord) error {
		roster := entryOf("roster", key...)
		if r.Count != a.rosters[roster] || r.Count == 0 {
			a.complain("%s = %d, want %d", roster, r.Count, a.rosters[roster])
		}
		delete(a.rosters, roster)
		return nil
	})
	for roster, n := range a.rosters {
		a.complain("%s is missing, want %d", roster, n)
	}
	return err
}

// walk calls do for each record of a table.
func walk[T any](ctx context.Context, table *sealed.Table[T], do func(key []string, v *T) error) error {
	for after, more := []string(nil), true; more; {
		rows, next, err := table.List(ctx, nil, after, 1000)
		if err != nil {
			return err
		}
		for i := range rows {
			after = rows[i].Key
			if err := do(rows[i].Key, &rows[i].Value); err != nil {
				return err
			}
		}
		more = next
	}
	return nil
}

// Fill gives a user n accounts of an integration, in the way that AddKey and Callback do but without calls of the provider:
// subjects and external ids are "a0" and up, with keys or tokens "key-a0" and up.
func (e *Engine) Fill(ctx context.Context, user, integration string, n int) error {
	in, err := e.Integration(ctx, integration)
	if err != nil {
		return err
	}
	clientID := ""
	if in.OAuth2 != nil {
		clientID = in.OAuth2.ClientID
	}
	for i := range n {
		name := fmt.Sprintf("a%d", i)
		g := &grant{
			wish: wish{by: e.User(user), user: user, integration: integration, allowMultiple: true, externalID: name},
			key:  in.APIKey != nil, clientID: clientID, account: ProviderAccount{Issuer: "filled", Subject: name}, access: crypto.NewSecret("key-" + name),
		}
		if _, err := e.commit(ctx, g, nil); err != nil {
			return err
		}
	}
	return nil
}

// GrantShared reports whether another credential stands for the same grant at the provider.
func (e *Engine) GrantShared(ctx context.Context, user, id string) (bool, error) {
	record, _, err := e.credential(ctx, user, id)
	if err != nil {
		return false, err
	}
	return e.grantShared(ctx, user, &record)
}

// Dangling finds what it is there to find.
func TestDanglingFinds(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, SameAccountUpdate, OtherAccountRefuse)
	ctx, e := t.Context(), c.e
	if err := e.Fill(ctx, "u", "keys", 2); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Dangling(ctx); err != nil || len(got) != 0 {
		t.Fatalf("Dangling() = %q, %v, want nothing", got, err)
	}
	page, err := e.User("u").Credentials(ctx, ListInput{Integration: "keys"})
	if err != nil {
		t.Fatal(err)
	}
	id := page.Credentials[0].ID
	for name, harm := range map[string]func(tx *sealed.Tx){
		"by user":          func(tx *sealed.Tx) { e.tables.byUser.Mark(tx, "v", "keys", id) },
		"by configuration": func(tx *sealed.Tx) { e.tables.byConfig.Mark(tx, "u", newID(), id) },
		"grant":            func(tx *sealed.Tx) { e.tables.grants.Mark(tx, "token", "u", id) },
		"claim": func(tx *sealed.Tx) {
			e.tables.claims.Put(tx, &claimRecord{Credentials: []string{id}}, 0, "u", "keys", "token")
		},
		"external id": func(tx *sealed.Tx) {
			e.tables.externalIDs.Put(tx, &externalIDRecord{Credential: id}, 0, "u", "keys", "token")
		},
		"configuration": func(tx *sealed.Tx) {
			e.tables.configurations.Put(tx, &configurationRecord{ID: newID()}, 0, "u", id, newID())
		},
		"configuration id": func(tx *sealed.Tx) {
			e.tables.configurationIDs.Put(tx, &configurationIDRecord{Configuration: newID()}, 0, "u", "keys", "token", id)
		},
		"roster": func(tx *sealed.Tx) { e.tables.rosters.Put(tx, &rosterRecord{Count: 1}, 0, "v", "keys") },
	} {
		before, err := e.Dangling(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tx := e.db.Begin(ctx)
		harm(tx)
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := e.Dangling(ctx)
		if err != nil || len(got) <= len(before) || !strings.Contains(strings.Join(got, "\n"), name) {
			t.Errorf("Dangling() with a forged %s = %q, %v, want it named", name, got, err)
		}
	}
	for _, gone := range []func(tx *sealed.Tx) error{
		func(tx *sealed.Tx) error {
			_, rev, err := e.tables.configurations.Get(ctx, "u", id, id)
			e.tables.configurations.Delete(tx, rev, "u", id, id)
			return err
		},
		func(tx *sealed.Tx) error { e.tables.byUser.Unmark(tx, "u", "keys", id); return nil },
	} {
		before, err := e.Dangling(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tx := e.db.Begin(ctx)
		if err := gone(tx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := e.Dangling(ctx); err != nil || len(got) <= len(before) {
			t.Errorf("Dangling() with an entry less = %d complaints, %v, want more than %d", len(got), err, len(before))
		}
	}
}
