// Package access decides who may act as a user: it keeps what an operator declares of that (the keys under which the
// application signs user tokens, identity providers whose tokens are taken too, named policies), and judges tokens by it.
//
// What is declared is used for Options.TTL as it was read, in every process, and then read again: a key that was revoked
// signs nothing after that, and what was verified under it is forgotten with it.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Limits.
const (
	MostKeys     = 20  // signing keys that live at a time: each may have to be tried for a token
	MostIssuers  = 20  //
	MostPolicies = 500 // all of them are read together
)

// Options of a Door.
type Options struct {
	Transport   http.RoundTripper // for the key sets of issuers
	PlainHTTP   []string          // "host:port" that may be asked over plain http
	MaxLifetime time.Duration     // of a token
	TTL         time.Duration     // how long what was read is used
}

// Door judges tokens. It may be used concurrently.
type Door struct {
	Keys     *Shelf[Key]
	Issuers  *Shelf[Issuer]
	Policies *Shelf[Policy]

	kernel *kernel.Kernel
	opts   Options
	sets   *usertoken.KeySets

	mu   sync.Mutex // one at a time reads what is declared
	seen atomic.Pointer[declared]
}

// declared is what an operator has declared, as it was read. It does not change.
type declared struct {
	revisions []storage.Rev // of keys and issuers: the verifier lives as long as they stay
	verifier  *usertoken.Verifier
	policies  map[string]policy
	useless   map[string]bool // what is no longer told of, see refuse
	at        time.Time       // by the engine's clock
	real      time.Time       // by one that nobody can stop
}

// policy is a policy with the revision at which it was read.
type policy struct {
	rev  storage.Rev
	fill *permission.Policy
}

// New returns the door of k's store, with its tables.
func New(k *kernel.Kernel, t Tables, o Options) (*Door, error) {
	sets, err := usertoken.NewKeySets(o.Transport, &usertoken.KeySetsOptions{PlainHTTP: o.PlainHTTP, Now: k.Now})
	if err != nil {
		return nil, err
	}
	return &Door{
		Keys:     &Shelf[Key]{kernel: k, records: t.Keys, what: "signing key", most: MostKeys},
		Issuers:  &Shelf[Issuer]{kernel: k, records: t.Issuers, what: "token issuer", most: MostIssuers},
		Policies: &Shelf[Policy]{kernel: k, records: t.Policies, what: "policy", most: MostPolicies},
		kernel:   k, opts: o, sets: sets,
	}, nil
}

// Visitor is who a token stands for, and what it may do.
type Visitor struct {
	User, Person string
	TokenID      string
	Permissions  *permission.Set // for the person
	Everything   bool            // the token says nothing about permissions: they are permission.All
}

// Judge verifies a token. Errors: usertoken.ErrToken (also for a policy that is not there, or that the token cannot fill),
// usertoken.ErrUnavailable, *permission.Error for a claim that is malformed, and those of the store.
func (d *Door) Judge(ctx context.Context, token string) (Visitor, error) {
	known, err := d.declared(ctx)
	if err != nil {
		return Visitor{}, err
	}
	claims, err := known.verifier.Verify(ctx, token)
	if err != nil {
		return Visitor{}, err
	}
	set := permission.All()
	switch {
	case claims.Policy != "":
		policy, ok := known.policies[claims.Policy]
		if !ok {
			return Visitor{}, fmt.Errorf("%w: it names a policy that there is not", usertoken.ErrToken)
		}
		if set, err = policy.fill.Fill(claims.All); err != nil {
			return Visitor{}, fmt.Errorf("%w: %v", usertoken.ErrToken, err)
		}
	case claims.HasPermissions:
		if set, err = permission.Parse(claims.Permissions); err != nil {
			return Visitor{}, err
		}
	}
	return Visitor{
		User: claims.Subject, Person: claims.Person, TokenID: claims.ID, Permissions: set.For(claims.Person),
		Everything: claims.Policy == "" && !claims.HasPermissions,
	}, nil
}

// Remembers reports whether a token was verified a moment ago, under what is declared.
func (d *Door) Remembers(token string) bool {
	seen := d.seen.Load()
	return seen != nil && seen.verifier != nil && seen.verifier.Remembers(token)
}

// Forget has the next token judged by what is declared then: this process has changed that.
func (d *Door) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seen := d.seen.Load(); seen != nil {
		stale := *seen
		stale.at, stale.real = time.Time{}, time.Time{}
		d.seen.Store(&stale)
	}
}

func (d *Door) fresh(seen *declared) bool {
	age := d.kernel.Now().Sub(seen.at)
	return age >= 0 && age < d.opts.TTL && time.Since(seen.real) < d.opts.TTL
}

// declared returns what is declared, read no longer ago than Options.TTL.
func (d *Door) declared(ctx context.Context) (*declared, error) {
	if seen := d.seen.Load(); seen != nil && d.fresh(seen) {
		return seen, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen.Load()
	if seen != nil && d.fresh(seen) { // somebody else has just read it
		return seen, nil
	}
	now, err := d.read(ctx, seen)
	if err != nil {
		return nil, fmt.Errorf("read whose tokens are accepted: %w", err)
	}
	d.seen.Store(now)
	return now, nil
}

// read reads what is declared. What cannot be used keeps out the tokens that need it, and no others.
func (d *Door) read(ctx context.Context, before *declared) (*declared, error) {
	now := &declared{at: d.kernel.Now(), real: time.Now(), policies: map[string]policy{}, useless: map[string]bool{}}
	keys, noKeys, err := d.Keys.readable(ctx)
	if err != nil {
		return nil, err
	}
	issuers, noIssuers, err := d.Issuers.readable(ctx)
	if err != nil {
		return nil, err
	}
	policies, noPolicies, err := d.Policies.readable(ctx)
	if err != nil {
		return nil, err
	}
	for _, damaged := range [][]unreadable{noKeys, noIssuers, noPolicies} {
		for _, u := range damaged {
			d.refuse(ctx, now, before, u.what, u.key, u.rev, u.err)
		}
	}
	for _, row := range policies {
		name := row.Value.Name
		if before != nil && before.policies[name].rev == row.Rev {
			now.policies[name] = before.policies[name]
			continue
		}
		parsed, err := permission.ParsePolicy(row.Value.Document)
		if err != nil {
			d.refuse(ctx, now, before, "policy", name, row.Rev, err)
			continue
		}
		now.policies[name] = policy{row.Rev, parsed}
	}
	o := usertoken.Options{
		Project: d.kernel.DB().Project(), KeySets: d.sets, MaxLifetime: d.opts.MaxLifetime, Now: d.kernel.Now,
	}
	for _, row := range oldest(keys, MostKeys, func(k *Key) int64 { return k.Created }) {
		public, err := usertoken.ParsePublicKey(row.Value.PublicKey)
		if err != nil {
			d.refuse(ctx, now, before, "signing key", row.Value.ID, row.Rev, err)
			continue
		}
		now.revisions = append(now.revisions, row.Rev)
		o.Keys = append(o.Keys, usertoken.Key{ID: row.Value.ID, Public: public})
	}
	now.revisions = append(now.revisions, 0) // no key can pass for an issuer
	for _, row := range oldest(issuers, MostIssuers, func(i *Issuer) int64 { return i.Created }) {
		issuer := row.Value.verifies()
		if _, err := usertoken.New(usertoken.Options{Project: o.Project, KeySets: d.sets, Issuers: []usertoken.Issuer{issuer}}); err != nil {
			d.refuse(ctx, now, before, "token issuer", row.Value.Issuer, row.Rev, err)
			continue
		}
		now.revisions = append(now.revisions, row.Rev)
		o.Issuers = append(o.Issuers, issuer)
	}
	if before != nil && slices.Equal(before.revisions, now.revisions) {
		now.verifier = before.verifier
		return now, nil
	}
	if now.verifier, err = usertoken.New(o); err != nil {
		return nil, fmt.Errorf("%w: %w", errDeclared, err)
	}
	return now, nil
}

// refuse tells of a record that cannot be used, once: it was good when it was declared, so it is damaged, or of a newer
// program.
func (d *Door) refuse(ctx context.Context, now, before *declared, what, key string, rev storage.Rev, err error) {
	id := fmt.Sprint(what, " ", key, " ", rev)
	if now.useless[id] = true; before != nil && before.useless[id] {
		return
	}
	d.kernel.Log().ErrorContext(ctx, "something that was declared about user tokens cannot be used, so tokens that need it are refused",
		"what", what, "name", key, "error", err)
}

// oldest leaves out what came last where two processes have each added one at a time, and so too many: nothing that was in
// use makes way for it.
func oldest[T any](rows []sealed.Row[T], most int, created func(*T) int64) []sealed.Row[T] {
	if len(rows) <= most {
		return rows
	}
	slices.SortStableFunc(rows, func(a, b sealed.Row[T]) int { return cmp.Compare(created(&a.Value), created(&b.Value)) })
	return rows[:most]
}

var errDeclared = errors.New("what is declared does not fit together")
