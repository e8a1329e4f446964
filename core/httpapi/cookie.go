package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Two kinds of cookies bind an OAuth flow to the browser that began it (security 1).
//
// A nonce cookie says that this browser showed a token of a user, and of a person where there is one, for an integration; the
// hop to the provider asks for it. Its name stands for project, user, person and integration, since the SDK fetches the hop's address and opens the window at the same
// time, without an id that both share.
//
// A session cookie holds what a connect session is bound to. Its name stands for the session, so that two windows do not
// disturb each other; the callback asks for it and for nothing else.

const nonceTTL = 15 * time.Minute

// cookieName is a name with the prefix that keeps other hosts from setting the cookie, where browsers allow it.
func (a *api) cookieName(kind string, parts ...string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + strings.Join(parts, "\x00")))
	name := "polycred-" + kind + "-" + hex.EncodeToString(sum[:8])
	if a.secure() {
		return "__Host-" + name
	}
	return name
}

func (a *api) secure() bool { return strings.HasPrefix(a.opts.PublicURL, "https:") }

func (a *api) setCookie(w http.ResponseWriter, name, value string, ttl time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(ttl / time.Second), HttpOnly: true, Secure: a.secure(),
		SameSite: http.SameSiteLaxMode, // Strict does not come back from the provider
	})
}

func (a *api) nonceName(user, person, integration string) string {
	return a.cookieName("nonce", a.engine.Project(), user, person, integration)
}

// setNonce sets the nonce cookie of a user, a person and an integration.
func (a *api) setNonce(ctx context.Context, w http.ResponseWriter, user, person, integration string) error {
	expires := strconv.FormatInt(a.now().Add(nonceTTL).Unix(), 10)
	macs, err := a.macs(ctx, user, person, integration, expires)
	if err != nil {
		return err
	}
	a.setCookie(w, a.nonceName(user, person, integration), expires+"."+macs[len(macs)-1], nonceTTL)
	return nil
}

// hasNonce reports whether the browser has the nonce cookie of a user, a person and an integration.
func (a *api) hasNonce(r *http.Request, user, person, integration string) (bool, error) {
	cookie, err := r.Cookie(a.nonceName(user, person, integration))
	if err != nil {
		return false, nil //nolint:nilerr // there is none
	}
	expires, mac, _ := strings.Cut(cookie.Value, ".")
	end, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !a.now().Before(time.Unix(end, 0)) {
		return false, nil //nolint:nilerr // not one of ours
	}
	macs, err := a.macs(r.Context(), user, person, integration, expires)
	if err != nil {
		return false, err
	}
	for _, want := range macs {
		if subtle.ConstantTimeCompare([]byte(mac), []byte(want)) == 1 {
			return true, nil
		}
	}
	return false, nil
}

// macs are the codes of a nonce cookie, one under each live key of the project's blind index, which is a PRF that nobody
// outside knows; the newest is the last.
func (a *api) macs(ctx context.Context, parts ...string) ([]string, error) {
	looked, err := a.kernel.DB().Lookup(ctx, append([]string{"nonce cookie"}, parts...)...)
	if err != nil {
		return nil, err
	}
	macs := make([]string, len(looked))
	for i, mac := range looked {
		macs[i] = base64.RawURLEncoding.EncodeToString([]byte(mac))
	}
	return macs, nil
}

// sessionName is the cookie of a connect session, by its state.
func (a *api) sessionName(state string) string { return a.cookieName("session", state) }

// newSecret is 256 random bits.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
