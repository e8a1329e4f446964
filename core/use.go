package core

import (
	"context"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Who used which account is counted in memory, and told as one event a minute: a use writes nothing (rule 10). Only uses
// by somebody with a name are counted, a person or a token; what a program does by itself needs no telling.

const (
	useShards = 16
	maxUses   = 1024 // in one shard, before they are told early; 16 times as many are held while the store takes none
	tellUses  = 100  // events in one batch
)

// useKey is who used what how.
type useKey struct {
	user, integration, credential string
	person, tokenID               string
	how                           string
}

type use struct {
	count       int64
	first, last time.Time
}

// uses counts until they are told. The zero value is ready.
type uses struct {
	seed   maphash.Seed
	once   sync.Once
	shards [useShards]struct {
		sync.Mutex // guards seen
		seen       map[useKey]use
	}
	telling sync.Mutex   // held while they are told
	lost    atomic.Int64 // uses by actors for whom there was no room
}

// add counts one use and reports whether there are so many that they should be told now.
func (s *uses) add(key useKey, now time.Time) bool {
	s.once.Do(func() { s.seed = maphash.MakeSeed() })
	shard := &s.shards[maphash.String(s.seed, key.credential)%useShards]
	shard.Lock()
	defer shard.Unlock()
	if shard.seen == nil {
		shard.seen = map[useKey]use{}
	}
	u, known := shard.seen[key]
	if !known {
		if len(shard.seen) >= 16*maxUses {
			s.lost.Add(1)
			return true
		}
		u.first = now
	}
	u.count, u.last = u.count+1, now
	shard.seen[key] = u
	return !known && len(shard.seen) >= maxUses
}

// take empties the count.
func (s *uses) take() map[useKey]use {
	all := map[useKey]use{}
	for i := range s.shards {
		shard := &s.shards[i]
		shard.Lock()
		for key, u := range shard.seen {
			all[key] = u
		}
		shard.seen = nil
		shard.Unlock()
	}
	return all
}

// put gives back what could not be told.
func (s *uses) put(all map[useKey]use) {
	for key, old := range all {
		shard := &s.shards[maphash.String(s.seed, key.credential)%useShards]
		shard.Lock()
		if shard.seen == nil {
			shard.seen = map[useKey]use{}
		}
		u, known := shard.seen[key]
		switch {
		case known:
		case len(shard.seen) >= 16*maxUses: // others came in the meantime
			s.lost.Add(old.count)
			shard.Unlock()
			continue
		default:
			u.last = old.last
		}
		u.count, u.first = u.count+old.count, old.first
		shard.seen[key] = u
		shard.Unlock()
	}
}

// used counts a use of a credential, if there is somebody to tell of.
func (u *User) used(ctx context.Context, integration, credential, how string) {
	if u.person == "" && u.tokenID == "" {
		return
	}
	full := u.e.uses.add(useKey{u.id, integration, credential, u.person, u.tokenID, how}, u.e.now())
	if !full {
		return
	}
	if !u.e.uses.telling.TryLock() { // somebody does
		return
	}
	u.e.uses.telling.Unlock()
	done, err := u.e.begin()
	if err != nil {
		return
	}
	go func() { // nobody calls Run, or this minute is a busy one
		defer done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := u.e.tellUses(ctx); err != nil {
			u.e.log.WarnContext(ctx, "who used which account could not be written down yet", "error", err)
		}
	}()
}

// tellUses writes down who used what since it was last called.
func (e *Engine) tellUses(ctx context.Context) error {
	e.uses.telling.Lock()
	defer e.uses.telling.Unlock()
	if lost := e.uses.lost.Swap(0); lost > 0 {
		e.log.WarnContext(ctx, "some uses of accounts were not counted, because the store did not take those before", "uses", lost)
	}
	all := e.uses.take()
	for try := 0; len(all) > 0; try++ {
		batch := make(map[useKey]use, tellUses)
		tx := e.db.Begin(ctx)
		for key, n := range all {
			by := User{e: e, id: key.user, person: key.person, tokenID: key.tokenID}
			e.kernel.Emit(tx, by.event(EventUsed, key.how, key.integration, key.credential, map[string]string{
				"count": strconv.FormatInt(n.count, 10), "first": n.first.UTC().Format(time.RFC3339), "last": n.last.UTC().Format(time.RFC3339),
			}))
			batch[key] = n
			if len(batch) == tellUses {
				break
			}
		}
		err := e.kernel.Commit(ctx, tx)
		if conflicted(err) { // with nobody: the store's answer was lost
			if err = again(ctx, try); err == nil {
				continue
			}
		}
		if err != nil {
			e.uses.put(all)
			return err
		}
		for key := range batch {
			delete(all, key)
		}
	}
	return nil
}
