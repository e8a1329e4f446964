package coretest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

// refreshed is the outcome of a refresh that runs beside the test.
type refreshed struct {
	tok *oauth2.Token
	err error
}

// refreshBeside begins a refresh and returns when the server keeps it waiting.
func (s *setup) refreshBeside(ctx context.Context, t *testing.T, token string) <-chan refreshed {
	t.Helper()
	c := make(chan refreshed, 1)
	go func() {
		tok, err := s.refresh(ctx, token)
		c <- refreshed{tok, err}
	}()
	s.waiting(t, 1)
	return c
}

// waiting returns when the server keeps n requests waiting.
func (s *setup) waiting(t *testing.T, n int) {
	t.Helper()
	if err := s.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.Waiting == n }); err != nil {
		t.Fatalf("WaitForCalls: %v", err)
	}
}

func TestHoldDecidesTheOrder(t *testing.T) {
	t.Parallel()
	for _, workFirst := range []bool{false, true} {
		s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Rotate = true })
		tok := s.connect(t)
		s.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Hold: true, WorkFirst: workFirst, Times: 1} })
		held := s.refreshBeside(t.Context(), t, tok.RefreshToken)
		s.Set(func(sw *coretest.Switches) { sw.Rotate = true }) // another switch lets nothing go

		// The second one meets no fault, and wins unless the first has done its work.
		_, err := s.refresh(t.Context(), tok.RefreshToken)
		if (err != nil) != workFirst {
			t.Errorf("second refresh, workFirst %v: %v", workFirst, err)
		}
		select {
		case r := <-held:
			t.Fatalf("the held refresh was answered: %v", r)
		default:
		}
		s.Set(func(sw *coretest.Switches) { sw.Refresh.Hold = false })
		if r := <-held; (r.err == nil) != workFirst {
			t.Errorf("held refresh, workFirst %v: %v", workFirst, r.err)
		}
	}
}

func TestWaitingEndsWithTheClient(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]coretest.Fault{
		"slow": {Slow: time.Hour},
		"hold": {Hold: true},
		"hang": {Hang: true},
		"all":  {Slow: time.Hour, Hold: true, Hang: true, LostReply: true},
		"next": {Slow: time.Nanosecond, Hold: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Rotate = true })
			tok := s.connect(t)
			s.Set(func(sw *coretest.Switches) { sw.Refresh = f })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			outcome := s.refreshBeside(ctx, t, tok.RefreshToken)
			cancel()
			if r := <-outcome; !errors.Is(r.err, context.Canceled) {
				t.Errorf("refresh = %v, want context canceled", r.err)
			}
			s.waiting(t, 0)
			s.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{} })
			s.mustRefresh(t, tok.RefreshToken) // it was not spent
		})
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]coretest.Fault{
		"slow": {Slow: time.Hour},
		"hold": {Hold: true},
		"hang": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Refresh = f })
			tok := s.connect(t)
			outcome := s.refreshBeside(t.Context(), t, tok.RefreshToken)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(s.Close)
			}
			wg.Wait()
			if r := <-outcome; r.err == nil {
				t.Error("refresh succeeded, want a cut connection")
			}
			if err := s.WaitForCalls(t.Context(), func(coretest.Calls) bool { return false }); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("WaitForCalls after Close = %v, want http.ErrServerClosed", err)
			}
		})
	}
}

func TestWaitForCallsEndsWithContext(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WaitForCalls(ctx, func(coretest.Calls) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitForCalls = %v, want context canceled", err)
	}
}

func TestSlow(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tok := s.connect(t)
	s.Set(func(sw *coretest.Switches) { sw.Refresh.Slow = time.Millisecond })
	began := time.Now()
	s.mustRefresh(t, tok.RefreshToken)
	if took := time.Since(began); took < time.Millisecond {
		t.Errorf("slow refresh took %v, want at least 1 ms", took)
	}
}

func TestLostReply(t *testing.T) {
	t.Parallel()
	for _, workFirst := range []bool{false, true} {
		s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Rotate = true })
		tok := s.connect(t)
		s.Set(func(sw *coretest.Switches) {
			sw.Refresh = coretest.Fault{LostReply: true, WorkFirst: workFirst, Times: 1}
		})
		var re *oauth2.RetrieveError
		if _, err := s.refresh(t.Context(), tok.RefreshToken); err == nil || errors.As(err, &re) {
			t.Fatalf("refresh = %v, want a cut connection", err)
		}
		_, err := s.refresh(t.Context(), tok.RefreshToken) // spent all the same
		wantCode(t, err, "invalid_grant")
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tok := s.connect(t)
	s.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Error: "temporarily_unavailable", Times: 2} })
	for range 2 {
		_, err := s.refresh(t.Context(), tok.RefreshToken)
		wantCode(t, err, "temporarily_unavailable")
	}
	for range 2 {
		s.mustRefresh(t, tok.RefreshToken)
	}
	if got := s.Switches().Refresh.Times; got != -1 {
		t.Errorf("Times = %d, want -1", got)
	}
}

func TestErrorAtEachEndpoint(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tok := s.connect(t)
	f := coretest.Fault{Error: "server_error"}
	s.Set(func(sw *coretest.Switches) { sw.Exchange, sw.UserInfo, sw.Revoke, sw.API = f, f, f, f })
	answers := map[string]answer{
		"exchange": s.exchange(t),
		"userinfo": mustSend(t, http.MethodGet, s.UserInfoURL(), nil),
		"revoke":   mustSend(t, http.MethodPost, s.RevocationURL(), nil),
		"api":      s.me(t, tok.AccessToken),
	}
	for name, a := range answers {
		if a.status != http.StatusBadRequest || a.json(t)["error"] != "server_error" {
			t.Errorf("%s = %d %s, want 400 server_error", name, a.status, a.body)
		}
	}
	s.mustRefresh(t, tok.RefreshToken) // the other half of the token endpoint

	s.Set(func(sw *coretest.Switches) { sw.Authorize = f })
	if got := s.consent(t, oauth2.GenerateVerifier()).Get("error"); got != "server_error" {
		t.Errorf("authorize error = %q, want server_error", got)
	}
	s.Set(func(sw *coretest.Switches) { sw.Refresh.Error = "invalid_client" })
	if _, err := s.refresh(t.Context(), tok.RefreshToken); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("refresh = %v, want invalid_client", err)
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tests := []struct {
		name   string
		give   coretest.Garbage
		status int
		kind   string
		size   int
	}{
		{"nothing", coretest.Garbage{}, 200, "text/html", 0},
		{"page", coretest.Garbage{Status: 502, Body: "<h1>Bad Gateway</h1>"}, 502, "text/html", 20},
		{"JSON", coretest.Garbage{ContentType: "application/json", Body: "{}"}, 200, "application/json", 2},
		{"huge", coretest.Garbage{Body: "end", Size: 1 << 20}, 200, "text/html", 1 << 20},
		{"smaller than its body", coretest.Garbage{Body: "long", Size: 1}, 200, "text/html", 4},
		{"limited", coretest.Garbage{Status: 429, Header: map[string]string{"Retry-After": "7"}}, 429, "text/html", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Set(func(sw *coretest.Switches) { sw.Exchange.Garbage = &tt.give })
			a := s.exchange(t)
			if a.status != tt.status || a.header.Get("Content-Type") != tt.kind || len(a.body) != tt.size {
				t.Errorf("answer = %d %q, %d bytes, want %d %q, %d bytes",
					a.status, a.header.Get("Content-Type"), len(a.body), tt.status, tt.kind, tt.size)
			}
			if !strings.HasSuffix(a.body, tt.give.Body) || a.header.Get("Retry-After") != tt.give.Header["Retry-After"] {
				t.Errorf("answer %v ends with %q", a.header, a.body[max(0, len(a.body)-9):])
			}
		})
	}
}

func TestGarbageAfterWork(t *testing.T) {
	t.Parallel()
	for _, workFirst := range []bool{false, true} {
		s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Rotate = true })
		tok := s.connect(t)
		s.Set(func(sw *coretest.Switches) {
			sw.Refresh = coretest.Fault{Garbage: &coretest.Garbage{Status: 500}, WorkFirst: workFirst, Times: 1}
		})
		if _, err := s.refresh(t.Context(), tok.RefreshToken); err == nil {
			t.Fatal("refresh succeeded, want status 500")
		}
		if _, err := s.refresh(t.Context(), tok.RefreshToken); (err != nil) != workFirst {
			t.Errorf("refresh after garbage, workFirst %v: %v", workFirst, err)
		}
	}
}

func TestWorkFirstKeepsTheAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Authorize.WorkFirst = true })
	s.Set(func(sw *coretest.Switches) { sw.Exchange.WorkFirst, sw.API.WorkFirst = true, true })
	s.wantLive(t, s.connect(t).AccessToken, true)
	if a := mustSend(t, http.MethodGet, s.APIURL()+"/status/418", nil); a.status != 418 {
		t.Errorf("status kept = %d, want 418", a.status)
	}
}

func TestOversizedRequest(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.APIURL()+"/echo", strings.NewReader(strings.Repeat("x", 16<<20+1)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("Do: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status = %d, want 413", resp.StatusCode)
	}
}
