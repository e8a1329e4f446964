package revocation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

const clientSecret = "canary-secret"

// world is a store that several processes share, and a provider. Each process opens the store by itself.
type world struct {
	*testing.T
	provider *provider
	store    *spy
	keks     crypto.KEKs
	told     telemetrytest.Recorder

	mu     sync.Mutex // guards the fields below
	now    time.Time
	log    bytes.Buffer
	live   func(r *revocation.Record) (*revocation.Endpoint, error)
	shared func(r *revocation.Record, whole bool) (bool, error)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, store: &spy{Store: memory.New()}, keks: crypto.KEKs{Tokens: kek, Policy: kek}, provider: newProvider(t),
		now: time.Unix(1_800_000_000, 0).Add(25 * time.Second),
	}
	w.live = func(r *revocation.Record) (*revocation.Endpoint, error) { return &r.Endpoint, nil }
	w.shared = func(*revocation.Record, bool) (bool, error) { return false, nil }
	t.Cleanup(func() {
		for _, text := range []string{w.written(), w.told.Text()} {
			if strings.Contains(text, "canary") {
				t.Errorf("a secret, or what the provider wrote, was told: %s", text)
			}
		}
	})
	return w
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) written() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// process is a Revoker with what it was made of.
type process struct {
	*revocation.Revoker
	w       *world
	db      *sealed.DB
	kernel  *kernel.Kernel
	records *sealed.Table[revocation.Record]
	queue   *due.Queue
}

func (w *world) process() *process {
	w.Helper()
	db, err := sealed.Open(w.Context(), w.store, w.keks, "", nil)
	if err != nil {
		w.Fatal(err)
	}
	out, err := egress.New(egress.Options{Allow: []string{w.provider.Listener.Addr().String()}, Timeout: 5 * time.Second})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(out.Close)
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := &process{
		w: w, db: db, kernel: kernel.New(db, w.clock, log),
		records: revocation.NewTable(db), queue: revocation.NewQueue(db, w.clock),
	}
	p.Revoker = revocation.New(revocation.Config{
		Kernel: p.kernel, Records: p.records, Due: p.queue, Do: out.Do, Telemetry: telemetry.New(&w.told, &w.told),
		Timeout: 10 * time.Second, Skew: 10 * time.Minute,
		Live: func(_ context.Context, r *revocation.Record) (*revocation.Endpoint, error) {
			w.mu.Lock()
			live := w.live
			w.mu.Unlock()
			return live(r)
		},
		Shared: func(_ context.Context, r *revocation.Record, whole bool) (bool, error) {
			w.mu.Lock()
			shared := w.shared
			w.mu.Unlock()
			return shared(r, whole)
		},
		Tell: func(tx *sealed.Tx, r *revocation.Record, result string, details map[string]string) {
			p.kernel.Emit(tx, kernel.Event{Kind: "revoked", Actor: "engine", Credential: r.Credential, Result: result, Details: details})
		},
		Code: func(error) string { return "code" },
	})
	return p
}

// record is one of an account whose tokens the provider knows: rt-<name> and at-<name>, which lives for an hour.
func (w *world) record(name string) *revocation.Record {
	w.provider.grant("rt-"+name, "at-"+name)
	return &revocation.Record{
		ID: name, User: "u", Credential: name, Integration: "acme", ClientID: "client", Created: w.clock().UnixMilli(),
		AccessToken: crypto.NewSecret("at-" + name), RefreshToken: crypto.NewSecret("rt-" + name),
		ValidUntil: w.clock().Add(time.Hour).UnixMilli(),
		Endpoint: revocation.Endpoint{
			URL: w.provider.URL + "/revoke", TokenURL: w.provider.URL + "/token", Secrets: []crypto.Secret{crypto.NewSecret(clientSecret)},
		},
	}
}

// add queues records.
func (p *process) add(records ...*revocation.Record) {
	p.w.Helper()
	for _, r := range records {
		tx := p.db.Begin(p.w.Context())
		p.Add(tx, r)
		if err := tx.Commit(p.w.Context()); err != nil {
			p.w.Fatal(err)
		}
	}
}

// pass carries out what is due after some time.
func (p *process) pass(after time.Duration) {
	p.w.Helper()
	p.w.advance(after)
	if err := p.Pass(p.w.Context()); err != nil {
		p.w.Errorf("Pass() = %v, want nil", err)
	}
}

// queued returns the records that are left.
func (p *process) queued() []revocation.Record {
	p.w.Helper()
	rows, _, err := p.records.List(p.w.Context(), nil, nil, 0)
	if err != nil {
		p.w.Fatal(err)
	}
	left := make([]revocation.Record, len(rows))
	for i, row := range rows {
		left[i] = row.Value
	}
	return left
}

// end is how a record ended.
type end struct {
	Credential, Result string
	Details            map[string]string
}

func ended(credential, result string, details ...string) end {
	e := end{Credential: credential, Result: result}
	for i := 0; i < len(details); i += 2 {
		if e.Details == nil {
			e.Details = map[string]string{}
		}
		e.Details[details[i]] = details[i+1]
	}
	return e
}

// wantEnds fails the test unless nothing is left, in the table nor in the queue, and the records ended like this, in any
// order.
func (p *process) wantEnds(want ...end) {
	p.w.Helper()
	if _, err := p.kernel.Events().Sequence(p.w.Context()); err != nil {
		p.w.Fatal(err)
	}
	entries, err := p.kernel.Events().Read(p.w.Context(), 0, 0)
	if err != nil {
		p.w.Fatal(err)
	}
	var got []end
	for _, entry := range entries {
		got = append(got, end{entry.Value.Credential, entry.Value.Result, entry.Value.Details})
	}
	byName := cmpopts.SortSlices(func(a, b end) bool { return a.Credential < b.Credential })
	if diff := cmp.Diff(want, got, byName, cmpopts.EquateEmpty()); diff != "" {
		p.w.Errorf("how they ended (-want +got):\n%s", diff)
	}
	if left := p.queued(); len(left) != 0 {
		p.w.Errorf("%d records are left, want none: %+v", len(left), left)
	}
	if waiting, err := p.queue.Waiting(p.w.Context(), 10); waiting != 0 || err != nil {
		p.w.Errorf("Waiting() = %d, %v, want an empty queue", waiting, err)
	}
}

// spy is a store whose writes a test can have go another way.
type spy struct {
	storage.Store
	mu    sync.Mutex // guards apply
	apply func(b storage.Batch, next func() error) error
}

func (s *spy) Apply(ctx context.Context, b storage.Batch) error {
	s.mu.Lock()
	apply := s.apply
	s.mu.Unlock()
	next := func() error { return s.Store.Apply(ctx, b) }
	if apply == nil {
		return next()
	}
	return apply(b, next)
}

// intercept has every write go through f; nil ends that.
func (s *spy) intercept(f func(b storage.Batch, next func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply = f
}

// provider takes tokens back, in all three styles, and renews them. But with RFC 7009, all that it granted ends together.
type provider struct {
	*httptest.Server

	mu    sync.Mutex // guards the fields below
	alive map[string]bool
	asked []string // what, and the token
	fault func(w http.ResponseWriter, r *http.Request) bool
	made  int
}

func newProvider(t *testing.T) *provider {
	p := &provider{alive: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/revoke", p.revoke)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) grant(tokens ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, token := range tokens {
		p.alive[token] = true
	}
}

// fail has each request go to f first, which reports whether it answered.
func (p *provider) fail(f func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// status fails each request with that status, and a body that is nobody's business.
func status(code int, header ...string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		http.Error(w, "canary", code)
		return true
	}
}

// refuse fails each request with a code (RFC 6749 §5.2).
func refuse(code string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w, http.StatusBadRequest, map[string]any{"error": code})
		return true
	}
}

func answer(w http.ResponseWriter, code int, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(fields) // the client is gone, if so
}

func (p *provider) calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

// note keeps what was asked, and reports whether the request failed already.
func (p *provider) note(w http.ResponseWriter, r *http.Request, what, token string) (failed bool) {
	p.mu.Lock()
	p.asked = append(p.asked, what+" "+token)
	fault := p.fault
	p.mu.Unlock()
	return fault != nil && fault(w, r)
}

// end reports whether a token was alive until now.
func (p *provider) end(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := p.alive[token]
	delete(p.alive, token)
	return alive
}

// endAll is end, and ends all others too if that one was alive.
func (p *provider) endAll(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := p.alive[token]
	if alive {
		clear(p.alive)
	}
	return alive
}

// client reports whether the client proved itself, and answers if not.
func client(w http.ResponseWriter, r *http.Request) bool {
	id, secret, _ := r.BasicAuth()
	if id == "" {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id == "client" && secret == clientSecret {
		return true
	}
	answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
	return false
}

func (p *provider) revoke(w http.ResponseWriter, r *http.Request) {
	var body map[string]string
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			answer(w, http.StatusBadRequest, nil)
			return
		}
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.Method == http.MethodDelete:
		if token = body["access_token"]; !p.note(w, r, "delete", token) && client(w, r) && !p.endAll(token) {
			w.WriteHeader(http.StatusNotFound)
		}
	case bearer:
		if !p.note(w, r, "bearer", token) && !p.endAll(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	default:
		what := "json "
		if token = body["token"]; token == "" {
			token, what = r.PostFormValue("token"), ""
		}
		what += body["token_type_hint"] + r.PostFormValue("token_type_hint")
		if !p.note(w, r, what, token) && client(w, r) {
			p.end(token)
		}
	}
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	spent := r.PostFormValue("refresh_token")
	if p.note(w, r, "refresh", spent) || !client(w, r) {
		return
	}
	if !p.end(spent) {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	p.mu.Lock()
	p.made++
	n := p.made
	p.mu.Unlock()
	access, refresh := fmt.Sprintf("at-new%d", n), fmt.Sprintf("rt-new%d", n)
	p.grant(access, refresh)
	answer(w, http.StatusOK, map[string]any{"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600})
}

// together does work in n goroutines that begin at the same moment.
func together(n int, work func(i int)) {
	begin := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-begin
			work(i)
		})
	}
	close(begin)
	running.Wait()
}
