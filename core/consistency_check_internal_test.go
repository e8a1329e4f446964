package core

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/polycred/polycred/storage/sealed"
)

// check compares what the tables say with what the credentials and configurations say.
func (c *crowd) check() {
	c.Helper()
	w := wanted{crowd: c, entries: map[string]bool{}, accounts: map[string]int{}, others: map[string]int{}}
	w.credentials()
	w.configurations()
	w.sessions()
	got := c.entries()
	for entry := range w.entries {
		if got[entry] != 1 {
			c.Errorf("entry %q = %d times, want once", entry, got[entry])
		}
	}
	for entry := range got {
		if !w.entries[entry] {
			c.Errorf("entry %q leads nowhere", entry)
		}
	}
	for _, row := range rows(c, c.e.tables.rosters) {
		key := strings.Join(row.Key, " ")
		if row.Value.Count != w.accounts[key] {
			c.Errorf("roster of %s = %d, want %d", key, row.Value.Count, w.accounts[key])
		}
		delete(w.accounts, key)
	}
	for key, n := range w.accounts {
		c.Errorf("roster of %s = none, want %d", key, n)
	}
}

// wanted is what has to stand elsewhere, by what the records say.
type wanted struct {
	*crowd
	entries  map[string]bool
	accounts map[string]int // of a user and integration
	others   map[string]int // configurations beside the default one, by user and credential
}

func (w *wanted) want(table string, parts ...string) {
	w.entries[table+" "+strings.Join(parts, " ")] = true
}

func (w *wanted) credentials() {
	w.Helper()
	ctx := w.Context()
	for _, row := range rows(w.crowd, w.e.tables.credentials) {
		r, user := &row.Value, row.Key[0]
		if row.Key[1] != r.ID {
			w.Errorf("id of the credential at %v = %s", row.Key, r.ID)
		}
		w.want("user", user, r.Integration, r.ID)
		w.want("integration", r.Integration, r.ID, user)
		w.want("configuration", user, r.ID, r.ID)
		w.accounts[user+" "+r.Integration]++
		w.others[user+" "+r.ID] = 0
		claims, err := w.e.claimsOf(ctx, user, r.Integration, ProviderAccount(r.Account))
		if err != nil || len(claims) == 0 {
			w.Fatalf("claims of %s = %v, %v, want one", r.ID, claims, err)
		}
		w.want("claim", user, r.Integration, claims[0].key, r.ID)
		grants, err := w.e.grantKeys(ctx, r)
		if err != nil || (len(grants) == 0) != (r.Integration == "keys") {
			w.Fatalf("grants of %s at %s = %q, %v, want one over OAuth only", r.ID, r.Integration, grants, err)
		}
		for _, key := range grants {
			w.want("grant", key, user, r.ID)
		}
		if r.ExternalID != "" {
			_, held, err := w.e.externalHolder(ctx, user, r.Integration, r.ExternalID)
			if err != nil {
				w.Fatal(err)
			}
			w.want("external", append(held[0].Key, r.ID)...)
		}
		if _, _, err := w.e.readIntegration(ctx, r.Integration); err != nil {
			w.Errorf("integration %s of %s = %v, want it to be there", r.Integration, r.ID, err)
		}
		if r.Status == StatusPending && len(r.Missing) == 0 {
			w.Errorf("%s is pending, and nothing is missing", r.ID)
		}
		w.wantOwn(r)
	}
}

// wantOwn fails the test unless the tokens of a credential are of the account that it stands for.
func (w *wanted) wantOwn(r *credentialRecord) {
	w.Helper()
	who, access, refresh := r.Account.Subject, r.AccessToken.Reveal(), r.RefreshToken.Reveal()
	if access != "key-"+who && !strings.HasPrefix(access, "at-"+who+"-") || refresh != "" && !strings.HasPrefix(refresh, "rt-"+who+"-") {
		w.Errorf("tokens of %s, which is %s = %q and %q, want its own", r.ID, who, access, refresh)
	}
}

func (w *wanted) configurations() {
	w.Helper()
	counted := map[string]int{}
	for _, row := range rows(w.crowd, w.e.tables.configurations) {
		r, user, id := &row.Value, row.Key[0], row.Key[1]
		if row.Key[2] != r.ID {
			w.Errorf("id of the configuration at %v = %s", row.Key, r.ID)
		}
		if len(r.Passwords) > 0 {
			w.want("password", append(row.Key, r.Passwords...)...)
		}
		if r.ID == id {
			counted[user+" "+id] = r.Others
			continue
		}
		if _, there := w.others[user+" "+id]; !there {
			w.Errorf("configuration %v hangs on no credential", row.Key)
			continue
		}
		w.others[user+" "+id]++
		w.want("configuration", row.Key...)
		w.want("by configuration", user, r.ID, id)
		if r.ExternalID == "" {
			continue
		}
		credential, _, err := w.e.credential(w.Context(), user, id)
		if err != nil {
			w.Fatal(err)
		}
		held, err := w.e.configurationIDs(w.Context(), user, &credential, r.ExternalID)
		if err != nil {
			w.Fatal(err)
		}
		w.want("configuration id", append(held[0].Key, r.ID)...)
	}
	for key, n := range w.others {
		if counted[key] != n {
			w.Errorf("default configuration of %s counts %d others, want %d", key, counted[key], n)
		}
	}
}

func (w *wanted) sessions() {
	w.Helper()
	for _, row := range rows(w.crowd, w.e.tables.sessions) {
		w.want("expiry", row.Value.sweepAt(), row.Key[0])
	}
}

// entries returns how often what leads to a record stands in the other tables.
func (c *crowd) entries() map[string]int {
	c.Helper()
	got, tables := map[string]int{}, &c.e.tables
	note := func(table string, parts ...string) { got[table+" "+strings.Join(parts, " ")]++ }
	for name, index := range map[string]*sealed.Index{
		"user": tables.byUser, "integration": tables.byIntegration, "by configuration": tables.byConfig, "grant": tables.grants,
		"expiry": tables.expiries,
	} {
		found, more, err := index.Scan(c.Context(), nil, nil, 10_000)
		if err = complete(more, err); err != nil {
			c.Fatal(err)
		}
		for _, entry := range found {
			note(name, entry...)
		}
	}
	for _, row := range rows(c, tables.claims) {
		if len(row.Value.Credentials) == 0 {
			c.Errorf("claim %q = empty, want it gone", row.Key)
		}
		for _, id := range row.Value.Credentials {
			note("claim", append(row.Key, id)...)
		}
	}
	for _, row := range rows(c, tables.externalIDs) {
		note("external", append(row.Key, row.Value.Credential)...)
	}
	for _, row := range rows(c, tables.configurations) {
		note("configuration", row.Key...)
	}
	for _, row := range rows(c, tables.passwords) {
		note("password", append(row.Key, slices.Sorted(maps.Keys(row.Value.Secrets))...)...)
	}
	for _, row := range rows(c, tables.configurationIDs) {
		note("configuration id", append(row.Key, row.Value.Configuration)...)
	}
	return got
}

// rows reads a whole table.
func rows[T any](c *crowd, table *sealed.Table[T]) []sealed.Row[T] {
	c.Helper()
	all, more, err := table.List(c.Context(), nil, nil, 10_000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	return all
}

// complete is the error of a scan that has to be whole.
func complete(more bool, err error) error {
	if err == nil && more {
		return errors.New("a table holds more than is checked")
	}
	return err
}
