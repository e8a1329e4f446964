package coretest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// codeLifetime is how long a code can be exchanged.
const codeLifetime = time.Minute

// grants are the codes and tokens that a server has issued. They are guarded by the server's mutex.
type grants struct {
	codes   map[string]*grant
	access  map[string]*accessToken
	refresh map[string]*refreshToken
	holding map[string][]*grant // by login, oldest first: those that were given a refresh token at exchange
}

// grant is one consent of an account, from which a code and a chain of tokens stem.
type grant struct {
	login       string
	scope       string
	nonce       string
	redirectURI string
	challenge   string // of PKCE; empty: not used
	codeExpires time.Time
	codeSpent   bool
	displaced   bool // its refresh tokens died for newer ones
	revoked     bool
}

type accessToken struct {
	grant   *grant
	expires time.Time
	revoked bool
}

type refreshToken struct {
	grant   *grant
	spent   bool
	spentAt time.Time // when first spent
}

func newGrants() grants {
	return grants{
		codes:   make(map[string]*grant),
		access:  make(map[string]*accessToken),
		refresh: make(map[string]*refreshToken),
		holding: make(map[string][]*grant),
	}
}

func (g *grants) issueCode(gr *grant, now time.Time) string {
	gr.codeExpires = now.Add(codeLifetime)
	code := "code-" + rand.Text()
	g.codes[code] = gr
	return code
}

func (g *grants) issueAccess(gr *grant, expires time.Time) string {
	token := "at-" + rand.Text()
	g.access[token] = &accessToken{grant: gr, expires: expires}
	return token
}

func (g *grants) issueRefresh(gr *grant) string {
	token := "rt-" + rand.Text()
	g.refresh[token] = &refreshToken{grant: gr}
	return token
}

// limit makes gr the newest of its account's grants that hold a refresh token, and lets the oldest of those die that
// are beyond most; 0 means no limit.
func (g *grants) limit(gr *grant, most int) {
	held := slices.DeleteFunc(g.holding[gr.login], func(gr *grant) bool { return gr.revoked })
	held = append(held, gr)
	for most > 0 && len(held) > most {
		held[0].displaced = true
		held = held[1:]
	}
	g.holding[gr.login] = held
}

// spendCode returns the grant of a code, and a refusal. A code is spent by whoever presents it first, also in vain;
// presenting it again ends the grant (RFC 6749 §4.1.2).
func (g *grants) spendCode(code, redirectURI, verifier string, now time.Time) (*grant, *oauthError) {
	gr := g.codes[code]
	switch {
	case gr == nil:
		return nil, &oauthError{"invalid_grant", "unknown code"}
	case gr.codeSpent:
		gr.revoked = true
		return nil, &oauthError{"invalid_grant", "the code was used before"}
	}
	gr.codeSpent = true
	switch {
	case gr.revoked:
		return nil, &oauthError{"invalid_grant", "the grant was revoked"}
	case !now.Before(gr.codeExpires):
		return nil, &oauthError{"invalid_grant", "the code has expired"}
	case redirectURI != gr.redirectURI:
		return nil, &oauthError{"invalid_grant", "redirect_uri is another one than at authorization"}
	case gr.challenge != "" && !verifies(verifier, gr.challenge):
		return nil, &oauthError{"invalid_grant", "code_verifier does not match"}
	}
	return gr, nil
}

// findRefresh returns a refresh token that may be used now, and a refusal. It does not spend it.
func (g *grants) findRefresh(token string, sw *Switches, now time.Time) (*refreshToken, *oauthError) {
	t := g.refresh[token]
	switch {
	case t == nil, t.grant.displaced:
		return nil, &oauthError{"invalid_grant", "unknown refresh token"}
	case t.grant.revoked:
		return nil, &oauthError{"invalid_grant", "the grant was revoked"}
	case t.spent && !now.Before(t.spentAt.Add(sw.GraceWindow)):
		if sw.ReuseRevokes {
			t.grant.revoked = true
		}
		return nil, &oauthError{"invalid_grant", "the refresh token was used before"}
	}
	return t, nil
}

// rotate spends a refresh token and returns the next one of its chain.
func (g *grants) rotate(t *refreshToken, now time.Time) string {
	if !t.spent {
		t.spent, t.spentAt = true, now
	}
	return g.issueRefresh(t.grant)
}

// liveAccess returns the login that an access token stands for.
func (g *grants) liveAccess(token string, now time.Time) (string, bool) {
	t := g.access[token]
	if t == nil || t.revoked || t.grant.revoked || !now.Before(t.expires) {
		return "", false
	}
	return t.grant.login, true
}

// revokeToken ends an access token, or the grant of a refresh token; with everything set, all grants of its account.
// An unknown token is nothing to do (RFC 7009 §2.2).
func (g *grants) revokeToken(token string, everything bool) {
	var gr *grant
	if t := g.access[token]; t != nil {
		t.revoked = true
		gr = t.grant
	}
	if t := g.refresh[token]; t != nil {
		t.grant.revoked = true
		gr = t.grant
	}
	if everything && gr != nil {
		g.revokeAccount(gr.login)
	}
}

// revokeAccount ends all grants of an account. Every grant has a code, spent or not.
func (g *grants) revokeAccount(login string) {
	for _, gr := range g.codes {
		if gr.login == login {
			gr.revoked = true
		}
	}
}

// has reports whether the scope contains the word.
func (gr *grant) has(scope string) bool { return slices.Contains(strings.Fields(gr.scope), scope) }

// verifies reports whether a verifier is that of a challenge (RFC 7636 §4.6).
func verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 { // RFC 7636 §4.1
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
