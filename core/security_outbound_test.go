package core_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// stranger is a server on loopback that Options.PrivateHosts does not name, and that nothing may reach.
func stranger(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached a server that no request may reach", r.Method, r.URL.Path)
	}))
	t.Cleanup(server.Close)
	return server
}

// outbound are the calls that polycred makes or carries, each led to a URL: what comes back is its error.
var outbound = map[string]func(w *world, target string) error{
	"exchange": func(w *world, target string) error {
		err := w.tryChange(func(in *core.Integration) { in.OAuth2.TokenURL = target })
		if err == nil {
			_, err = w.connect("u", "ada", core.ConnectInput{})
		}
		return err
	},
	"userinfo": func(w *world, target string) error {
		err := w.tryChange(func(in *core.Integration) { in.Identity.URL = target })
		if err == nil {
			_, err = w.connect("u", "ada", core.ConnectInput{})
		}
		return err
	},
	"refresh": func(w *world, target string) error {
		ada := w.expired()
		err := w.tryChange(func(in *core.Integration) { in.OAuth2.TokenURL = target })
		if err == nil {
			_, err = w.token("u", ada.ID)
		}
		return err
	},
	"test": func(w *world, target string) error {
		_, err := w.engine.CreateIntegration(w.Context(), core.Integration{Name: "keys", APIKey: &core.APIKey{TestURL: target}})
		if err == nil {
			_, err = w.engine.User("u").AddKey(w.Context(), core.KeyInput{Integration: "keys", Key: crypto.NewSecret("canary-key")})
		}
		return w.note(err)
	},
	"client": func(w *world, target string) error {
		scheme, rest, _ := strings.Cut(target, "://")
		host, _, _ := strings.Cut(rest, "/")
		if scheme == "http" {
			host = target[:len("http://")+len(host)]
		}
		w.change(func(in *core.Integration) { in.AllowedHosts = []string{host} })
		client := w.client(w.mustConnect("u", "ada", core.ConnectInput{}).ID)
		_, err := w.do(client, w.request(http.MethodGet, target, nil), nil)
		return err
	},
}

// Whatever an integration says, nothing goes to an address that is not public, unless the host program lists it.
func TestSecurity18_PrivateAddresses(t *testing.T) {
	t.Parallel()
	server := stranger(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for name, call := range outbound {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, target := range []string{
				server.URL + "/x", "https://127.0.0.1:" + port + "/x", "https://10.0.0.1/x", "https://169.254.169.254/latest/meta-data", "https://100.100.100.200/x",
				"https://192.168.0.1/x", "https://[::1]:" + port + "/x", "https://[::ffff:127.0.0.1]:" + port + "/x", "https://[fd00::1]/x",
				"https://metadata.google.internal/x", "https://printer.local/x", "http://8.8.8.8/x",
			} {
				w := newWorld(t, nil, nil)
				before := w.provider.Calls()
				err := call(w, target)
				if name != "client" && strings.HasPrefix(target, "http:") { // refused before anything is stored
					w.wantErr(name+" at "+target, err, core.ErrInvalid)
					continue
				}
				if !errors.Is(err, core.ErrProvider) || !errors.Is(err, core.ErrMisconfigured) || !strings.Contains(err.Error(), "blocked") {
					t.Errorf("%s at %s: error %v, want it blocked (%v)", name, target, err, core.ErrProvider)
				}
				after := w.provider.Calls()
				if name == "exchange" && after.Exchange != before.Exchange || after.Refresh != 0 || after.API != 0 {
					t.Errorf("%s at %s: calls of the provider = %+v after %+v", name, target, after, before)
				}
				if name == "refresh" { // nothing was spent
					if got := w.list("u")[0]; got.Status != core.StatusValid || got.LastFailure != core.FailureTransient {
						t.Errorf("%s at %s: credential = %+v, want it VALID", name, target, got)
					}
				}
			}
		})
	}
}

// The same address is reached once the host program lists it, exactly.
func TestSecurity18_AllowedHosts(t *testing.T) {
	t.Parallel()
	for name, call := range outbound {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reached atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
			defer server.Close()
			host := strings.TrimPrefix(server.URL, "http://")
			w := newWorld(t, nil, func(o *core.Options) { o.PrivateHosts = append(o.PrivateHosts, host) })
			if err := call(w, server.URL+"/x"); err != nil && strings.Contains(err.Error(), "blocked") {
				t.Errorf("%s at an allowed host = %v", name, err)
			}
			if reached.Load() != 1 {
				t.Errorf("%s reached an allowed host %d times, want once", name, reached.Load())
			}
		})
	}
}

// A call that carries a credential follows no redirect: not to a stranger, not within the host.
func TestSecurity18_NoRedirects(t *testing.T) {
	t.Parallel()
	for name, call := range outbound {
		if name == "client" {
			continue // has tests of its own
		}
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				t.Parallel()
				target := stranger(t)
				var asked atomic.Int32
				server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					to := target.URL + "/canary"
					if status%2 == 0 {
						to = "/canary"
					}
					http.Redirect(rw, r, to, status)
				}))
				defer server.Close()
				w := newWorld(t, nil, func(o *core.Options) {
					o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(server.URL, "http://"), strings.TrimPrefix(target.URL, "http://"))
				})
				err := call(w, server.URL+"/x")
				var failed *core.ProviderError
				if !errors.As(err, &failed) || failed.Status != status {
					t.Errorf("%s = %v, want a ProviderError with status %d", name, err, status)
				}
				if asked.Load() != 1 {
					t.Errorf("%s asked %d times, want once", name, asked.Load())
				}
			})
		}
	}
}

// Answers to credential calls are bounded in size and time.
func TestSecurity18_Limits(t *testing.T) {
	t.Parallel()
	for name, call := range outbound {
		if name == "client" {
			continue // a program bounds its own
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var slow atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				chunk := []byte(strings.Repeat(" ", 64<<10))
				if slow.Load() {
					chunk = []byte(" ")
				}
				for {
					if _, err := rw.Write(chunk); err != nil || r.Context().Err() != nil {
						return
					}
					rw.(http.Flusher).Flush()
					if slow.Load() {
						<-r.Context().Done()
					}
				}
			}))
			defer server.Close()
			for _, slowly := range []bool{false, true} {
				slow.Store(slowly)
				w := newWorld(t, nil, func(o *core.Options) {
					o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(server.URL, "http://"))
					if slowly {
						o.ProviderTimeout = 300 * time.Millisecond
					}
				})
				started := time.Now()
				w.wantErr(fmt.Sprintf("%s with an answer without end, slowly = %t", name, slowly), call(w, server.URL+"/x"), core.ErrProvider)
				if took := time.Since(started); took > 10*time.Second {
					t.Errorf("%s took %v", name, took)
				}
			}
		})
	}
}

// A provider that answers with the secrets it was sent, in every place where an answer has room for them.
func TestSecurity27_EchoedSecrets(t *testing.T) {
	t.Parallel()
	var shape atomic.Value
	var bare atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		told := r.Header.Get("Authorization") + " " + r.Form.Encode() + " canary-of-provider"
		if bare.Load() { // as short and as plain as an error code
			told = cmp.Or(r.Form.Get("refresh_token"), r.Form.Get("code"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Retry-After", told)
		rw.Header().Set("WWW-Authenticate", told)
		rw.Header().Set("Location", "https://example.com/?"+r.Form.Encode())
		shape.Load().(func(http.ResponseWriter, string))(rw, told)
	}))
	defer server.Close()
	for round, status := range []int{200, 200, 302, 400, 401, 429, 500, 400} {
		for form, body := range map[string]string{
			"text": "%s", "error": `{"error":%q}`, "description": `{"error":"server_error","error_description":%q}`, "uri": `{"error":"invalid_request","error_uri":%q}`,
			"token": `{"access_token":%q,"token_type":"x","expires_in":"y"}`, "type": `{"access_token":"at-x","token_type":%q}`, "broken": `{"access_token":"at-x",%s`,
			"id_token": `{"access_token":"at-x","id_token":%q}`, "fields": `{"access_token":["at-x"],"sub":{"x":%q}}`,
		} {
			shape.Store(func(rw http.ResponseWriter, told string) {
				rw.WriteHeader(status)
				_, _ = fmt.Fprintf(rw, body, told)
			})
			for name, call := range outbound {
				bare.Store(round == 0 || round == 7)
				w := newWorld(t, nil, func(o *core.Options) {
					o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(server.URL, "http://"))
				})
				if err := call(w, server.URL+"/x"); err == nil && name == "exchange" && status != 200 {
					t.Errorf("%s answered by %d and %s = no error", name, status, form)
				}
			}
		}
	}
}

// Requests of a client fail in many ways, and net/http writes URLs around each: nothing that was added is among them.
func TestSecurity27_ClientErrors(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]core.APIKey{
		"bearer": {}, "header": {In: core.KeyHeader, Name: "X-API-Key"}, "query": {In: core.KeyQuery, Name: "api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			client := w.client(w.addKey(place, "canary-key", "ada"))
			fails := func(what string, ctx context.Context, target string) {
				t.Helper()
				if _, err := w.do(client, w.request(http.MethodPost, target, strings.NewReader("x")).WithContext(ctx), nil); err == nil {
					t.Errorf("%s: no error", what)
				}
			}
			fails("a host that is not listed", t.Context(), "https://example.com/")
			w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{LostReply: true} })
			fails("a lost reply", t.Context(), "/me")
			w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{Hang: true} })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			fails("no reply", ctx, "/me")
			w.provider.Set(func(sw *coretest.Switches) {
				sw.API = coretest.Fault{Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": "http://[bad"}}}
			})
			fails("a redirect to nowhere", t.Context(), "/me")
			w.provider.Close()
			fails("nobody there", t.Context(), "/me")
			_, _ = fmt.Fprintf(w, "%v %+v %#v %#v\n", client, client, client, client.Transport)
		})
	}
}

// What holds secrets prints none.
func TestSecurity27_Printing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	u := w.engine.User("u")
	source, err := u.TokenSource(t.Context(), core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(err)
	}
	token, record := w.mustToken("u", ada.ID), w.stored("u", ada.ID)
	for _, v := range []any{token, &token, record, &record, ada, source, u, w.client(ada.ID), w.integration(nil)} {
		_, _ = fmt.Fprintf(w, "%v %+v %#v %s %q\n", v, v, v, v, v)
		w.opts.Logger.Info("a value", "value", v)
	}
}

// The search that every world ends with finds what it is meant to find.
func TestSecurity27_SearchFinds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"x at-1": "at-", "rt-1": "rt-", "(code-1": "code-", "a canary": "canary", `"at-1"`: "at-", "format-1 and at-1": "at-",
		"": "", "a status": "", "the start-up": "", "an error-code": "",
	} {
		if got := leaked(text); got != want {
			t.Errorf("leaked(%q) = %q, want %q", text, got, want)
		}
	}
}
