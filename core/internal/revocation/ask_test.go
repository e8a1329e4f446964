package revocation_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
)

// Each style asks for what has to be asked for, and no more.
func TestStyles(t *testing.T) {
	t.Parallel()
	json := func(r *revocation.Record) { r.Endpoint.Encoding = revocation.EncodingJSON }
	body := func(r *revocation.Record) { r.Endpoint.ClientAuth = "body" }
	style := func(name string, changes ...func(*revocation.Record)) func(*revocation.Record) {
		return func(r *revocation.Record) {
			r.Endpoint.Style = name
			for _, change := range changes {
				change(r)
			}
		}
	}
	old := func(r *revocation.Record) { r.ValidUntil -= 2 * time.Hour.Milliseconds() }
	noRefresh := func(r *revocation.Record) { r.RefreshToken = crypto.Secret{} }
	noAccess := func(r *revocation.Record) { r.AccessToken = crypto.Secret{} }
	unknown := func(r *revocation.Record) { r.AccessToken, r.ValidUntil = crypto.NewSecret("at-dead"), 0 }
	dead := func(r *revocation.Record) { r.RefreshToken = crypto.NewSecret("rt-dead") }
	nowhere := func(r *revocation.Record) { r.Endpoint.TokenURL = "" }
	for _, tt := range []struct {
		name   string
		change func(*revocation.Record)
		want   []string
	}{
		{"by default", style(""), []string{"refresh_token rt-1", "access_token at-1"}},
		{"rfc7009", style("rfc7009"), []string{"refresh_token rt-1", "access_token at-1"}},
		{"rfc7009, JSON", style("rfc7009", json), []string{"json refresh_token rt-1", "json access_token at-1"}},
		{"rfc7009, client in the body", style("rfc7009", body), []string{"refresh_token rt-1", "access_token at-1"}},
		{"rfc7009, ended", style("rfc7009", old), []string{"refresh_token rt-1"}},
		{"rfc7009, without end", style("rfc7009", unknown), []string{"refresh_token rt-1", "access_token at-dead"}},
		{"rfc7009, no access token", style("rfc7009", noAccess), []string{"refresh_token rt-1"}},
		{"rfc7009, no refresh token", style("rfc7009", noRefresh, old), []string{"access_token at-1"}},
		{"bearer", style("bearer"), []string{"bearer at-1"}},
		{"bearer, ended", style("bearer", old), []string{"refresh rt-1", "bearer at-new1"}},
		{"bearer, ended unseen", style("bearer", unknown), []string{"bearer at-dead", "refresh rt-1", "bearer at-new1"}},
		{"bearer, none", style("bearer", noAccess), []string{"refresh rt-1", "bearer at-new1"}},
		{"bearer, none, and dead", style("bearer", noAccess, dead), []string{"refresh rt-dead"}},
		{"bearer, ended, no refresh token", style("bearer", old, noRefresh), []string{"bearer at-1"}},
		{"bearer, ended unseen, from nowhere", style("bearer", unknown, nowhere), []string{"bearer at-dead"}},
		{"delete", style("delete"), []string{"delete at-1"}},
		{"delete, ended unseen", style("delete", unknown), []string{"delete at-dead", "refresh rt-1", "delete at-new1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p, r := w.process(), w.record("1")
			tt.change(r)
			p.add(r)
			if got := w.provider.calls(); len(got) != 0 {
				t.Errorf("calls before a pass = %q, want none", got)
			}
			p.pass(time.Minute)
			if diff := cmp.Diff(tt.want, w.provider.calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			p.wantEnds(ended("1", "ok", "attempts", "1"))
			if got := w.told.Count("polycred.revocations", "integration", "acme", "result", "ok"); got != 1 {
				t.Errorf("counted as ok %d times, want once", got)
			}
		})
	}
}

// What the provider says decides what comes next.
func TestAnswers(t *testing.T) {
	t.Parallel()
	only := func(what string, fails func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.PostFormValue("token_type_hint") == what && fails(w, r)
		}
	}
	for _, tt := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		calls int
		class string // of what is written down; empty: it has ended
		want  end
	}{
		{name: "dead already", fault: refuse("invalid_token"), calls: 2, want: ended("1", "ok", "attempts", "1")},
		{name: "never", fault: refuse("unsupported_token_type"), calls: 2, want: ended("1", "unsupported_token_type", "attempts", "1")},
		{name: "never, and no code", fault: status(400), calls: 2, want: ended("1", "permanent", "attempts", "1")},
		{
			name: "never the access token", fault: only("access_token", refuse("unsupported_token_type")), calls: 2,
			want: ended("1", "ok", "attempts", "1", "left", "access_token"),
		},
		{
			name: "never the refresh token", fault: only("refresh_token", refuse("unsupported_token_type")), calls: 2,
			want: ended("1", "unsupported_token_type", "attempts", "1"),
		},
		{name: "down", fault: status(500), calls: 1, class: "transient"},
		{name: "down in the middle", fault: only("access_token", status(500)), calls: 2, class: "transient"},
		{name: "busy", fault: status(429), calls: 1, class: "rate_limited"},
		{name: "another client", fault: refuse("invalid_client"), calls: 1, class: "transient"},
		{name: "elsewhere", fault: status(307, "Location", "/token"), calls: 1, class: "transient"},
		{name: "silence", fault: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, calls: 1, class: "indeterminate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.process()
			w.provider.fail(tt.fault)
			p.add(w.record("1"))
			p.pass(time.Minute)
			if got := w.provider.calls(); len(got) != tt.calls {
				t.Errorf("calls = %q, want %d", got, tt.calls)
			}
			if tt.class == "" {
				p.wantEnds(tt.want)
				return
			}
			left := p.queued()
			if len(left) != 1 || left[0].LastFailure != tt.class || left[0].Attempts != 1 {
				t.Fatalf("left = %+v, want one record, of class %s and 1 attempt", left, tt.class)
			}
			if ended := tt.calls == 2; left[0].RefreshEnded != ended || left[0].RefreshToken.IsZero() != ended {
				t.Errorf("the refresh token ended = %t, want %t", left[0].RefreshEnded, ended)
			}
			w.provider.fail(nil)
			p.pass(5 * time.Minute)
			p.wantEnds(ended("1", "ok", "attempts", "2"))
		})
	}
}

// Nobody can take tokens back for a client whose secret is gone: they wait until it is set back.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, r := w.process(), w.record("1")
	secrets := r.Endpoint.Secrets
	r.Endpoint.Secrets = nil
	p.add(r)
	p.pass(time.Minute)
	if got := w.provider.calls(); len(got) != 0 {
		t.Errorf("calls = %q, want none", got)
	}
	w.live = func(r *revocation.Record) (*revocation.Endpoint, error) {
		at := r.Endpoint
		at.Secrets = secrets
		return &at, nil
	}
	p.pass(5 * time.Minute)
	p.wantEnds(ended("1", "ok", "attempts", "2"))
}
