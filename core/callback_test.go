package core_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

const returnURL = "https://app.example.com/done"

// with is a callback with one parameter set to these values; none takes it out.
func with(in core.CallbackInput, name string, values ...string) core.CallbackInput {
	in.Values = maps.Clone(in.Values)
	if in.Values[name] = values; len(values) == 0 {
		delete(in.Values, name)
	}
	return in
}

// finish is Callback, with its error noted.
func (w *world) finish(in core.CallbackInput) (*core.ConnectResult, error) {
	w.Helper()
	result, err := w.engine.Callback(w.Context(), in)
	return result, w.note(err)
}

// wantExchanges fails the test unless the provider was sent so many codes.
func (w *world) wantExchanges(want int) {
	w.Helper()
	if got := w.provider.Calls().Exchange; got != want {
		w.Errorf("%d codes were spent, want %d", got, want)
	}
}

// waitFor waits until the provider keeps n requests waiting.
func (w *world) waitFor(n int) {
	w.Helper()
	if err := w.provider.WaitForCalls(w.Context(), func(c coretest.Calls) bool { return c.Waiting >= n }); err != nil {
		w.Fatal(err)
	}
}

// hold keeps exchanges waiting, or lets them go on.
func (w *world) hold(on bool) {
	w.provider.Set(func(sw *coretest.Switches) { sw.Exchange.Hold = on })
}

func TestCallbackRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) { in.Name = "mail" })
	callback := w.mustBegin("u", "ada", core.ConnectInput{ReturnURL: returnURL})
	other := w.mustBegin("v", "bob", core.ConnectInput{})
	long := strings.Repeat("x", 8<<10+1)
	values := callback.Values
	for _, tt := range []struct {
		name  string
		in    core.CallbackInput
		field string // of an InputError
		want  error  // otherwise
		led   bool   // the browser matched: it can be led back
	}{
		{name: "wrong state", in: with(callback, "state", "wrong"), want: core.ErrSession},
		{name: "state with an addition", in: with(callback, "state", values.Get("state")+"A"), want: core.ErrSession},
		{name: "state of another session", in: with(callback, "state", other.Values.Get("state")), want: core.ErrBrowser},
		{name: "no state", in: with(callback, "state"), field: "state"},
		{name: "empty state", in: with(callback, "state", ""), field: "state"},
		{name: "nothing", in: core.CallbackInput{Integration: calendar, Browser: callback.Browser}, field: "state"},
		{name: "two states", in: with(callback, "state", values.Get("state"), "x"), field: "state"},
		{name: "two codes", in: with(callback, "code", values.Get("code"), "canary"), field: "code"},
		{name: "the same code twice", in: with(callback, "code", values.Get("code"), values.Get("code")), field: "code"},
		{name: "two issuers", in: with(callback, "iss", values.Get("iss"), "x"), field: "iss"},
		{name: "two errors", in: with(callback, "error", "access_denied", "x"), field: "error"},
		{name: "long code", in: with(callback, "code", long), field: "code"},
		{name: "long state", in: with(callback, "state", long), field: "state"},
		{name: "long unknown parameter", in: with(callback, "canary", long), field: "values"},
		{name: "other browser", in: core.CallbackInput{Integration: calendar, Values: values, Browser: "browser of v"}, want: core.ErrBrowser},
		{name: "no browser", in: core.CallbackInput{Integration: calendar, Values: values}, want: core.ErrBrowser},
		{name: "path of another integration", in: core.CallbackInput{Integration: "mail", Values: values, Browser: callback.Browser}, want: core.ErrSession},
		{name: "path of an unknown integration", in: core.CallbackInput{Integration: "nobody", Values: values, Browser: callback.Browser}, want: core.ErrSession},
		{name: "path in another case", in: core.CallbackInput{Integration: "googlecalendar", Values: values, Browser: callback.Browser}, want: core.ErrSession},
		{name: "no path", in: core.CallbackInput{Values: values, Browser: callback.Browser}, field: "integration"},
		{name: "bad path", in: core.CallbackInput{Integration: "../x", Values: values, Browser: callback.Browser}, field: "integration"},
		{name: "neither code nor error", in: with(callback, "code"), field: "code", led: true},
		{name: "empty code", in: with(callback, "code", ""), field: "code", led: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			result, err := w.finish(tt.in)
			switch {
			case tt.field != "":
				w.wantInput(tt.name, err, tt.field)
			default:
				w.wantErr(tt.name, err, tt.want)
			}
			switch {
			case !tt.led && result != nil:
				t.Errorf("result = %+v, want none", result)
			case tt.led && (result == nil || result.User != "u" || result.ReturnURL != returnURL || result.Replayed || result.Credential.ID != ""):
				t.Errorf("result = %+v, want only user and return URL", result)
			}
		})
	}
	w.wantExchanges(0)

	// Nothing of that used the session up.
	result, err := w.finish(callback)
	if err != nil || result.User != "u" || result.ReturnURL != returnURL || result.Replayed || result.Credential.Account.Subject != "ada" {
		t.Errorf("the right callback = %+v, %v", result, err)
	}
	if _, err := w.finish(other); err != nil {
		t.Errorf("the other session's callback: %v", err)
	}
	w.wantExchanges(2)
}

func TestCallbackUnbound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	session := w.session("u", core.ConnectInput{})
	// How a state comes from its handle is nobody's business but the engine's; here it must be known before a browser is.
	sum := sha256.Sum256([]byte("polycred state\x00" + session.Handle))
	state := base64.RawURLEncoding.EncodeToString(sum[:])
	for _, browser := range []string{"", "b"} {
		result, err := w.finish(core.CallbackInput{Integration: calendar, Values: url.Values{"state": {state}, "code": {"x"}}, Browser: browser})
		w.wantErr("a session without browser", err, core.ErrBrowser)
		if result != nil {
			t.Errorf("result = %+v, want none", result)
		}
		_, err = w.finish(core.CallbackInput{Integration: calendar, Values: url.Values{"state": {session.Handle}, "code": {"x"}}, Browser: browser})
		w.wantErr("a handle as state", err, core.ErrSession)
	}
	w.wantExchanges(0)
	begun, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
	if err != nil || w.params(begun).Get("state") != state {
		t.Fatalf("BeginConnect() = %+v, %v, want state %s", begun, err, state)
	}
}

func TestCallbackExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{ReturnURL: returnURL})
	w.clock.Advance(15 * time.Minute)
	for range 2 {
		result, err := w.finish(callback)
		w.wantErr("an expired session", err, core.ErrSessionExpired)
		if result == nil || result.User != "u" || result.ReturnURL != returnURL || result.Replayed {
			t.Errorf("result = %+v, want user and return URL", result)
		}
	}
	_, err := w.finish(core.CallbackInput{Integration: calendar, Values: callback.Values, Browser: "other"})
	w.wantErr("an expired session in another browser", err, core.ErrBrowser)
	w.wantExchanges(0)
}

func TestCallbackProviderError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	t.Run("denied", func(t *testing.T) {
		w.provider.DenyNext()
		callback := w.mustBegin("u", "ada", core.ConnectInput{ReturnURL: returnURL})
		for replayed := range 2 {
			result, err := w.finish(callback)
			w.wantErr("denied", err, core.ErrDenied)
			if result == nil || result.User != "u" || result.ReturnURL != returnURL || result.Replayed != (replayed == 1) || result.Credential.ID != "" {
				t.Errorf("result = %+v, want only user and return URL", result)
			}
			if got, want := core.Message(err), core.Message(core.ErrDenied); got != want || want == "" {
				t.Errorf("Message() = %q, want %q", got, want)
			}
		}
		// The session is used up: a code that comes after the error is not spent.
		_, err := w.finish(with(with(callback, "error"), "code", "code-x"))
		w.wantErr("a code after the error", err, core.ErrDenied)
	})
	for _, tt := range []struct {
		error string
		class core.FailureClass
		code  string
	}{
		{"server_error", core.FailureTransient, "server_error"},
		{"temporarily_unavailable", core.FailureTransient, "temporarily_unavailable"},
		{"login_required", core.FailurePermanent, "login_required"},
		{"invalid_scope", core.FailurePermanent, "invalid_scope"},
		{"canary", core.FailurePermanent, ""},
		{"canary_error", core.FailurePermanent, ""},
		{"at-0123456789", core.FailurePermanent, ""},
		{"Access_Denied canary", core.FailurePermanent, ""},
		{"access_denied\r\ncanary: x", core.FailurePermanent, ""},
		{"<script>canary</script>", core.FailurePermanent, ""},
		{"canary%00\x00\xff", core.FailurePermanent, ""},
		{strings.Repeat("canary", 1000), core.FailurePermanent, ""},
		{" ", core.FailurePermanent, ""},
	} {
		t.Run(tt.error[:min(len(tt.error), 20)], func(t *testing.T) {
			callback := w.mustBegin("u", "ada", core.ConnectInput{})
			// A code beside an error is not spent.
			callback = with(with(callback, "error", tt.error), "error_description", "canary description")
			callback = with(callback, "error_uri", "https://canary.example.com")
			for range 2 {
				_, err := w.finish(callback)
				w.wantErr(tt.error, err, core.ErrProvider)
				if got, want := core.Message(err), core.Message(core.ErrProvider); got != want {
					t.Errorf("Message() = %q, want %q", got, want)
				}
				var failed *core.ProviderError
				if errors.As(err, &failed) && (failed.Op != "authorize" || failed.Class != tt.class || failed.Code != tt.code) {
					t.Errorf("error = %+v, want class %s, code %q", failed, tt.class, tt.code)
				}
			}
		})
	}
	w.wantExchanges(0)
	if got := w.list("u"); len(got) != 0 {
		t.Errorf("accounts = %v, want none", got)
	}
}

func TestCallbackReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{ReturnURL: returnURL})
	first, err := w.finish(callback)
	if err != nil {
		t.Fatal(err)
	}
	denied := with(with(callback, "code"), "error", "access_denied")
	for name, in := range map[string]core.CallbackInput{
		"the same": callback, "another code": with(callback, "code", "code-other"), "an error": denied, "neither": with(callback, "code"),
	} {
		again, err := w.finish(in)
		if err != nil || !again.Replayed || again.Credential.ID != first.Credential.ID || again.User != "u" || again.ReturnURL != returnURL {
			t.Errorf("%s again = %+v, %v, want the outcome", name, again, err)
		}
	}
	for _, browser := range []string{"", "other"} {
		result, err := w.finish(core.CallbackInput{Integration: calendar, Values: callback.Values, Browser: browser})
		w.wantErr("replay by another browser", err, core.ErrBrowser)
		if result != nil {
			t.Errorf("replay by another browser = %+v, want no result", result)
		}
	}
	w.create(func(in *core.Integration) { in.Name = "mail" })
	_, err = w.finish(core.CallbackInput{Integration: "mail", Values: callback.Values, Browser: callback.Browser})
	w.wantErr("replay at another path", err, core.ErrSession)

	w.clock.Advance(30 * time.Minute)
	if again, err := w.finish(callback); err != nil || !again.Replayed {
		t.Errorf("replay after the session expired = %+v, %v, want the outcome", again, err)
	}
	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: first.Credential.ID}); err != nil {
		t.Fatal(err)
	}
	again, err := w.finish(callback)
	w.wantErr("replay after it was disconnected", err, core.ErrNotFound)
	if again == nil || !again.Replayed || again.Credential.ID != "" || again.ReturnURL != returnURL {
		t.Errorf("replay after it was disconnected = %+v", again)
	}
	w.wantExchanges(1)

	t.Run("of errors", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		first := w.mustConnect("full", "ada", core.ConnectInput{ExternalID: "a"})
		for _, tt := range []struct {
			name string
			want error
			in   core.ConnectInput
			set  func(*coretest.Switches)
		}{
			{name: "provider", want: core.ErrProvider, in: core.ConnectInput{AllowMultiple: true}, set: func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{Error: "server_error", Times: 1} }},
			{name: "mismatch", want: core.ErrAccountMismatch, in: core.ConnectInput{Into: first.ID}},
			{name: "external id", want: core.ErrExternalID, in: core.ConnectInput{AllowMultiple: true, ExternalID: "b"}},
		} {
			login := map[string]string{"external id": "ada"}[tt.name]
			if login == "" {
				login = "bob"
			}
			callback := w.mustBegin("full", login, tt.in)
			if tt.set != nil {
				w.provider.Set(tt.set)
			}
			before := w.provider.Calls().Exchange
			result, err := w.finish(callback)
			w.wantErr(tt.name, err, tt.want)
			again, err2 := w.finish(callback)
			w.wantErr(tt.name+" again", err2, tt.want)
			if result == nil || result.Replayed || again == nil || !again.Replayed || err == nil || err2 == nil || err.Error() != err2.Error() {
				t.Errorf("%s = %+v, %v; again %+v, %v, want the same replayed", tt.name, result, err, again, err2)
			}
			if core.Message(err) != core.Message(err2) {
				t.Errorf("%s: messages %q and %q, want the same", tt.name, core.Message(err), core.Message(err2))
			}
			w.wantExchanges(before + 1)
		}
	})
}

func TestCallbackTwiceAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.hold(true)
	type outcome struct {
		result *core.ConnectResult
		err    error
	}
	first, second := make(chan outcome, 1), make(chan outcome, 1)
	go func() {
		result, err := w.finish(callback)
		first <- outcome{result, err}
	}()
	w.waitFor(1)

	// Who waits does not hold anything up: it may leave.
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if result, err := w.engine.Callback(left, callback); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with a context that ended = %+v, %v, want %v", result, err, context.Canceled)
	}
	elsewhere := w.open() // another process on the same store
	go func() {
		result, err := elsewhere.Callback(t.Context(), callback)
		second <- outcome{result, w.note(err)}
	}()
	_, err := w.finish(core.CallbackInput{Integration: calendar, Values: callback.Values, Browser: "other"})
	w.wantErr("another browser meanwhile", err, core.ErrBrowser)
	w.hold(false)
	one, two := <-first, <-second
	if one.err != nil || two.err != nil || one.result.Replayed || !two.result.Replayed || one.result.Credential.ID != two.result.Credential.ID {
		t.Errorf("two callbacks at once = %+v and %+v, want one credential, the second replayed", one, two)
	}
	w.wantExchanges(1)

	t.Run("32 times", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		engines := []*core.Engine{w.engine, w.open()}
		outcomes := make(chan outcome, 32)
		for i := range 32 {
			go func() {
				result, err := engines[i%2].Callback(t.Context(), callback)
				outcomes <- outcome{result, w.note(err)}
			}()
		}
		fresh, ids := 0, map[string]bool{}
		for range 32 {
			o := <-outcomes
			if o.err != nil {
				t.Fatalf("a callback: %v", o.err)
			}
			if ids[o.result.Credential.ID] = true; !o.result.Replayed {
				fresh++
			}
		}
		if fresh != 1 || len(ids) != 1 || len(w.list("u")) != 1 {
			t.Errorf("32 callbacks: %d not replayed, %d credentials, %d listed, want 1", fresh, len(ids), len(w.list("u")))
		}
		w.wantExchanges(1)
	})
}

// A session whose engine died in the middle says so once nothing can come of it any more, and until then is waited for.
func TestCallbackLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{ReturnURL: returnURL})
	w.hold(true)
	done := make(chan error, 1)
	go func() {
		_, err := w.engine.Callback(t.Context(), callback)
		done <- w.note(err)
	}()
	w.waitFor(1)
	w.clock.Advance(3*15*time.Second + 11*time.Second) // no exchange takes longer
	result, err := w.finish(callback)
	w.wantErr("a session that was left behind", err, core.ErrSession)
	if err == nil || !strings.Contains(err.Error(), "start again") || result == nil || result.ReturnURL != returnURL {
		t.Errorf("a session that was left behind = %+v, %v, want to be told to start again", result, err)
	}
	if got, want := core.Message(err), core.Message(core.ErrSession); got != want {
		t.Errorf("Message() = %q, want %q", got, want)
	}
	w.hold(false)
	if err := <-done; err != nil {
		t.Errorf("the exchange that was only slow: %v", err)
	}
	if again, err := w.finish(callback); err != nil || !again.Replayed {
		t.Errorf("Callback after all = %+v, %v, want the outcome", again, err)
	}
	w.wantExchanges(1)
}

func TestCallbackBrowserLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.hold(true)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.engine.Callback(ctx, callback)
		done <- w.note(err)
	}()
	w.waitFor(1)
	leave()
	w.hold(false)
	if err := <-done; err != nil {
		t.Errorf("Callback whose browser left: %v, want it to go on", err)
	}
	if got := w.list("u"); len(got) != 1 {
		t.Errorf("accounts = %v, want one", got)
	}
	if again, err := w.finish(callback); err != nil || !again.Replayed {
		t.Errorf("Callback again = %+v, %v, want the outcome", again, err)
	}
	w.wantExchanges(1)
}

func TestCloseWaitsForCallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.hold(true)
	done, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.engine.Callback(t.Context(), callback)
		done <- w.note(err)
	}()
	w.waitFor(1)
	go func() { closed <- w.engine.Close() }()
	for {
		if _, err := w.engine.Integration(t.Context(), calendar); errors.Is(err, core.ErrClosed) {
			break
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("Close() = %v while a code is being spent, want it to wait", err)
	default:
	}
	w.hold(false)
	if err := <-done; err != nil {
		t.Errorf("Callback while the engine closes: %v, want it to end well", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	w.engine = w.open()
	if again, err := w.finish(callback); err != nil || !again.Replayed {
		t.Errorf("Callback of the next engine = %+v, %v, want the outcome", again, err)
	}
}

// unsureStore applies a batch that creates a credential and then says that it does not know.
type unsureStore struct {
	storage.Store
	once chan struct{}
}

func (s unsureStore) Apply(ctx context.Context, b storage.Batch) error {
	err := s.Store.Apply(ctx, b)
	if err == nil && len(b.Puts) > 4 {
		select {
		case <-s.once:
			return storage.ErrUnknownOutcome
		default:
		}
	}
	return err
}

// The connection to the store dies in COMMIT: what was stored is the outcome.
func TestCallbackUnknownOutcome(t *testing.T) {
	t.Parallel()
	store := unsureStore{memory.New(), make(chan struct{}, 1)}
	w := newWorld(t, store, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	store.once <- struct{}{}
	result, err := w.finish(callback)
	if len(store.once) != 0 {
		t.Fatal("the store did not fail")
	}
	if err != nil || result.Credential.ID == "" || len(w.list("u")) != 1 {
		t.Errorf("Callback() = %+v, %v, want what was stored", result, err)
	}
	if again, err := w.finish(callback); err != nil || again.Credential.ID != result.Credential.ID {
		t.Errorf("Callback again = %+v, %v, want the same", again, err)
	}
	w.wantExchanges(1)
}
