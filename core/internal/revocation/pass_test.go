package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// What the integration says by now counts where it is about the same hosts.
func TestLive(t *testing.T) {
	t.Parallel()
	wrong, right := crypto.NewSecret("canary-wrong"), crypto.NewSecret(clientSecret)
	both := []string{"refresh_token rt-1", "access_token at-1"}
	twice := []string{"refresh_token rt-1", "refresh_token rt-1", "access_token at-1", "access_token at-1"}
	for _, tt := range []struct {
		name string
		live func(at *revocation.Endpoint) (*revocation.Endpoint, error)
		want []string
		end  end
	}{
		{"gone", func(*revocation.Endpoint) (*revocation.Endpoint, error) { return nil, nil }, both, ended("1", "ok", "attempts", "1")},
		{"not any more", func(*revocation.Endpoint) (*revocation.Endpoint, error) {
			return nil, fmt.Errorf("acme: %w", revocation.ErrNotRevoked)
		}, nil, ended("1", "not_revoked")},
		{"another style", func(at *revocation.Endpoint) (*revocation.Endpoint, error) {
			at.Style = "bearer"
			return at, nil
		}, []string{"bearer at-1"}, ended("1", "ok", "attempts", "1")},
		{"another host", func(at *revocation.Endpoint) (*revocation.Endpoint, error) {
			at.URL, at.Style = "https://elsewhere.example.com/revoke", "bearer"
			return at, nil
		}, both, ended("1", "ok", "attempts", "1")},
		{"tokens of another host", func(at *revocation.Endpoint) (*revocation.Endpoint, error) {
			at.TokenURL, at.Style = "https://elsewhere.example.com/token", "bearer"
			return at, nil
		}, both, ended("1", "ok", "attempts", "1")},
		{"a new secret, not the provider's yet", func(at *revocation.Endpoint) (*revocation.Endpoint, error) {
			at.Secrets = []crypto.Secret{wrong}
			return at, nil
		}, twice, ended("1", "ok", "attempts", "1")},
		{"the same secret once more", func(at *revocation.Endpoint) (*revocation.Endpoint, error) {
			at.Secrets = []crypto.Secret{right}
			return at, nil
		}, both, ended("1", "ok", "attempts", "1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.live = func(r *revocation.Record) (*revocation.Endpoint, error) {
				at := r.Endpoint
				return tt.live(&at)
			}
			p := w.process()
			p.add(w.record("1"))
			p.pass(time.Minute)
			if diff := cmp.Diff(tt.want, w.provider.calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			p.wantEnds(tt.end)
		})
	}
}

// Nothing is asked for that would end another account, also when that comes in the middle.
func TestShared(t *testing.T) {
	t.Parallel()
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		for scope, want := range map[string]bool{"": false, "token": false, revocation.ScopeGrant: true} {
			w := newWorld(t)
			p, r := w.process(), w.record("1")
			r.Endpoint.Scope = scope
			w.shared = func(got *revocation.Record, whole bool) (bool, error) {
				if got.ID != r.ID || whole != want {
					t.Errorf("scope %q: Shared(%s, %t), want %s, %t", scope, got.ID, whole, r.ID, want)
				}
				return true, nil
			}
			p.add(r)
			p.pass(time.Minute)
			if got := w.provider.calls(); len(got) != 0 {
				t.Errorf("calls = %q, want none", got)
			}
			p.wantEnds(ended("1", "ok", "grant", "shared"))
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.shared = func(*revocation.Record, bool) (bool, error) { return len(w.provider.calls()) > 0, nil }
		p := w.process()
		p.add(w.record("1"))
		p.pass(time.Minute)
		if diff := cmp.Diff([]string{"refresh_token rt-1"}, w.provider.calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		p.wantEnds(ended("1", "ok", "attempts", "1", "grant", "shared"))
	})
	t.Run("unknown", func(t *testing.T) { // the store fails: it is not done, and done as soon as somebody knows
		t.Parallel()
		w := newWorld(t)
		down := errors.New("the store is down")
		w.shared = func(*revocation.Record, bool) (bool, error) { return false, down }
		p := w.process()
		p.add(w.record("1"))
		w.advance(time.Minute)
		if err := p.Pass(t.Context()); !errors.Is(err, down) {
			t.Errorf("Pass() = %v, want the error of the store", err)
		}
		w.shared = func(*revocation.Record, bool) (bool, error) {
			if len(w.provider.calls()) == 1 {
				return false, down
			}
			return false, nil
		}
		if err := p.Pass(t.Context()); !errors.Is(err, down) {
			t.Errorf("Pass() = %v, want the error of the store", err)
		}
		if got := w.told.Spans(); len(got) != 1 || !strings.Contains(fmt.Sprint(got[0]), "code") {
			t.Errorf("spans = %+v, want one that names the error by its code", got)
		}
		w.shared = func(*revocation.Record, bool) (bool, error) { return false, nil }
		p.pass(20 * time.Minute)
		p.wantEnds(ended("1", "ok", "attempts", "2"))
	})
	t.Run("newer", func(t *testing.T) { // only a newer program can tell: it waits, and that is no attempt
		t.Parallel()
		w := newWorld(t)
		w.shared = func(*revocation.Record, bool) (bool, error) { return false, &sealed.FormatError{Table: "credential"} }
		p := w.process()
		p.add(w.record("1"))
		p.pass(time.Minute)
		p.pass(5 * time.Minute)
		w.shared = func(*revocation.Record, bool) (bool, error) { return false, nil }
		p.pass(5 * time.Minute)
		p.wantEnds(ended("1", "ok", "attempts", "1"))
	})
}

// What fails is tried again, ever less often, and given up by the first failure after three days.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.process()
	w.provider.fail(status(500))
	p.add(w.record("1"))
	began, asked := w.clock(), 0
	var pauses []time.Duration
	for last := began; len(p.queued()) > 0 && w.clock().Before(began.Add(5*24*time.Hour)); {
		p.pass(time.Minute)
		if now := len(w.provider.calls()); now > asked {
			asked, pauses, last = now, append(pauses, w.clock().Sub(last)), w.clock()
		}
	}
	if took := w.clock().Sub(began); took < 72*time.Hour || took > 80*time.Hour {
		t.Errorf("given up after %v, want soon after three days", took)
	}
	for i := 6; i < len(pauses); i++ { // before that, the claim is longer than the wait
		if pauses[i] > 8*time.Hour || pauses[i] < min(pauses[i-1], 6*time.Hour) {
			t.Errorf("pauses = %v, want them to grow to 6 hours and some", pauses)
			break
		}
	}
	p.wantEnds(ended("1", "transient", "attempts", fmt.Sprint(asked)))
}

// A provider that wants to be left alone is, for as long as it says: also by other records, where it speaks of the client
// and not of one request.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]int{http.StatusTooManyRequests: 1, http.StatusServiceUnavailable: 2} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.process()
			first, second := w.record("1"), w.record("2")
			first.AccessToken, second.AccessToken = crypto.Secret{}, crypto.Secret{} // one request each
			w.provider.fail(status(code, "Retry-After", "3600"))
			p.add(first)
			p.pass(time.Minute)
			w.provider.fail(nil)
			p.add(second)
			p.pass(time.Minute)
			p.pass(50 * time.Minute)
			if got := len(w.provider.calls()); got != want {
				t.Errorf("calls within the hour = %d, want %d", got, want)
			}
			p.pass(20 * time.Minute)
			p.wantEnds(ended("1", "ok", "attempts", "2"), ended("2", "ok", "attempts", "1"))
		})
	}
}

// A provider that does not answer is not asked for one record after the other.
func TestSilentProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.process()
	w.provider.fail(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	for i := range 40 {
		p.add(w.record(fmt.Sprint(i)))
	}
	p.pass(time.Minute)
	if got := len(w.provider.calls()); got < 1 || got > 4 {
		t.Errorf("calls = %d, want as many as are made at a time", got)
	}
	w.provider.fail(nil)
	p.pass(10 * time.Minute)
	if got := len(p.queued()); got != 0 {
		t.Errorf("%d records are left, want none", got)
	}
}

// However many processes carry out the same, each record is carried out once.
func TestRace(t *testing.T) {
	t.Parallel()
	const records, processes = 64, 4
	w := newWorld(t)
	first := w.process()
	want := make([]end, records)
	for i := range want {
		r := w.record(fmt.Sprint(i))
		r.AccessToken = crypto.Secret{} // one request each
		first.add(r)
		want[i] = ended(r.ID, "ok", "attempts", "1")
	}
	all := []*process{first}
	for len(all) < processes {
		all = append(all, w.process())
	}
	w.advance(time.Minute)
	together(2*processes, func(i int) { // each twice: a process does not disturb itself either
		if err := all[i%processes].Pass(t.Context()); err != nil {
			t.Errorf("Pass() = %v, want nil", err)
		}
	})
	if got := len(w.provider.calls()); got != records {
		t.Errorf("calls = %d, want %d", got, records)
	}
	first.wantEnds(want...)
}

// While one process asks, and for as long as its answer may take, another one does not; after that it does.
func TestClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.process(), w.process()
	r := w.record("1")
	r.AccessToken = crypto.Secret{}
	first.add(r)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	w.provider.fail(func(http.ResponseWriter, *http.Request) bool {
		close(arrived)
		<-proceed
		return false
	})
	w.advance(time.Minute)
	done := make(chan error, 1)
	go func() { done <- first.Pass(t.Context()) }()
	<-arrived
	if err := first.Pass(t.Context()); err != nil {
		t.Errorf("Pass() beside itself = %v, want nil", err)
	}
	for range 5 {
		second.pass(2 * time.Minute)
	}
	if got := len(w.provider.calls()); got != 1 {
		t.Errorf("calls while the first one asks = %d, want 1", got)
	}
	w.store.intercept(func(storage.Batch, func() error) error { return storage.ErrFull }) // it can write nothing down
	close(proceed)
	if err := <-done; !errors.Is(err, storage.ErrFull) {
		t.Errorf("Pass() of the first one = %v, want ErrFull", err)
	}
	w.store.intercept(nil)
	w.provider.fail(nil)
	second.pass(2 * time.Minute)
	second.wantEnds(ended("1", "ok", "attempts", "2"))
}

// A token that was got to be revoked is stored before it is, with the refresh token that came with it: the one before is
// spent.
func TestDiesWithRenewedToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, r := w.process(), w.record("1")
	r.Endpoint.Style, r.ValidUntil = "bearer", w.clock().UnixMilli()
	p.add(r)
	w.provider.fail(func(resp http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/revoke" {
			return false
		}
		w.store.intercept(func(storage.Batch, func() error) error { return storage.ErrFull })
		return status(500)(resp, r)
	})
	w.advance(time.Minute)
	if err := p.Pass(t.Context()); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Pass() = %v, want ErrFull", err)
	}
	w.store.intercept(nil)
	w.provider.fail(nil)
	next := w.process()
	next.pass(2 * time.Hour)
	want := []string{"refresh rt-1", "bearer at-new1", "refresh rt-new1", "bearer at-new2"}
	if diff := cmp.Diff(want, w.provider.calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	next.wantEnds(ended("1", "ok", "attempts", "2"))
}

// Whatever the store does at whichever write, each record ends with one event, and is asked for at most once more.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(next func() error) error{
		"full":                     func(func() error) error { return storage.ErrFull },
		"unknown, and not applied": func(func() error) error { return storage.ErrUnknownOutcome },
		"unknown, and applied":     func(next func() error) error { return errors.Join(next(), storage.ErrUnknownOutcome) },
		"a conflict":               func(func() error) error { return &storage.ConflictError{Key: []byte("x")} },
	} {
		for at := range 3 { // claim, renewed token, end
			t.Run(fmt.Sprint(name, ", ", at), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p, r := w.process(), w.record("1")
				r.Endpoint.Style, r.ValidUntil = "bearer", w.clock().UnixMilli()
				p.add(r)
				writes := 0
				w.store.intercept(func(_ storage.Batch, next func() error) error {
					if writes++; writes-1 == at {
						return fault(next)
					}
					return next()
				})
				for range 5 {
					w.advance(20 * time.Minute)
					_ = p.Pass(t.Context()) // of the fault, if any
				}
				if writes <= at {
					t.Fatalf("%d writes, the fault at %d was not met: the test is blind", writes, at)
				}
				w.store.intercept(nil)
				bearer := 0
				for _, call := range w.provider.calls() {
					if strings.HasPrefix(call, "bearer") {
						bearer++
					}
				}
				if bearer < 1 || bearer > 2 {
					t.Errorf("calls = %q, want it revoked once or twice", w.provider.calls())
				}
				p.wantOneEnd("1", "ok")
			})
		}
	}
}

// wantOneEnd is wantEnds for one record, after however many attempts.
func (p *process) wantOneEnd(credential, result string) {
	p.w.Helper()
	if _, err := p.kernel.Events().Sequence(p.w.Context()); err != nil {
		p.w.Fatal(err)
	}
	entries, err := p.kernel.Events().Read(p.w.Context(), 0, 0)
	if err != nil || len(entries) != 1 {
		p.w.Fatalf("events = %+v, %v, want one", entries, err)
	}
	p.wantEnds(ended(credential, result, "attempts", entries[0].Value.Details["attempts"]))
}

// Who is cut off leaves the rest to the next pass, at once, and without counting it as an attempt.
func TestCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.process()
	const n = 12
	want := make([]end, n)
	for i := range want {
		r := w.record(fmt.Sprint(i))
		p.add(r)
		want[i] = ended(r.ID, "ok", "attempts", "1")
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.provider.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	w.advance(time.Minute)
	if err := p.Pass(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Pass() = %v, want nothing but that it was cut off", err)
	}
	w.provider.fail(nil)
	p.pass(time.Minute)
	p.wantEnds(want...)
}

// A record that cannot be read keeps no other, and entries that say nothing any more go.
func TestPassesDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.process()
	var want []end
	for i := range 32 { // several in each part of the queue
		r := w.record(fmt.Sprintf("%02d", i))
		p.add(r)
		if i != 7 {
			want = append(want, ended(r.ID, "ok", "attempts", "1"))
		}
	}
	page, err := w.store.Scan(t.Context(), storage.Range{Start: []byte("q"), End: []byte("r")})
	if err != nil || len(page.Items) != 32 {
		t.Fatalf("%d records, %v, want 32", len(page.Items), err)
	}
	item := page.Items[7]
	put := storage.Put{Key: item.Key, Value: item.Value[:20], If: item.Rev, Rev: item.Rev + 1}
	if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
		t.Fatal(err)
	}
	tx := p.db.Begin(t.Context())
	p.queue.Move(tx, 0, due.At(w.clock()), "nobody")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	later := w.record("later") // its entry stands in two minutes, of which the record names the second
	p.add(later)
	tx = p.db.Begin(t.Context())
	p.queue.Move(tx, 0, later.Due+1, later.ID)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = append(want, ended("later", "ok", "attempts", "1"))

	p.pass(5 * time.Minute)
	if !strings.Contains(w.written(), "cannot be read") {
		t.Errorf("log = %s, want it to say that a record cannot be read", w.written())
	}
	if waiting, err := p.queue.Waiting(t.Context(), 10); waiting != 1 || err != nil {
		t.Errorf("Waiting() = %d, %v, want the entry of the damaged one alone", waiting, err)
	}
	tx = p.db.Begin(t.Context()) // it goes, and its entry is as stale as the others
	if err := w.store.Apply(t.Context(), storage.Batch{Deletes: []storage.Delete{{Key: item.Key, If: item.Rev + 1}}}); err != nil {
		t.Fatal(err)
	}
	p.queue.Move(tx, 0, due.At(w.clock()), "07")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.pass(61 * time.Minute)
	p.wantEnds(want...)
}
