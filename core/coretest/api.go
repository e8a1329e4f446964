package coretest

import (
	"cmp"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// userInfo is /userinfo (OpenID Connect Core §5.3).
func (s *OAuthServer) userInfo(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	login, ok := s.grants.liveAccess(bearer(r), s.opts.Now())
	claims := s.accounts[login].claims()
	s.mu.Unlock()
	if !ok {
		writeUnauthorized(w)
		return
	}
	writeJSON(w, http.StatusOK, claims)
}

// revoke is /revoke: POST of a form or of JSON (RFC 7009), or what RevokeRequests says.
func (s *OAuthServer) revoke(w http.ResponseWriter, r *http.Request) {
	sw := s.Switches()
	token := r.PostForm.Get("token")
	var refusal *oauthError
	switch sw.RevokeRequests {
	case RevokeRequestsBearer:
		token = bearer(r)
	case RevokeRequestsDelete:
		token, refusal = r.PostForm.Get("access_token"), s.authenticate(r)
	default:
		refusal = s.wellFormed(r)
		if refusal == nil && !sw.RevokeWithoutClient {
			refusal = s.authenticate(r)
		}
		if refusal == nil && token == "" {
			refusal = &oauthError{"invalid_request", "token is missing"}
		}
	}
	if refusal != nil {
		writeJSON(w, refusal.status(), refusal)
		return
	}
	s.mu.Lock()
	_, live := s.grants.liveAccess(token, s.opts.Now())
	if sw.RevokeRequests.form() || live {
		s.grants.revokeToken(token, sw.RevokeGrant)
	}
	s.mu.Unlock()
	switch {
	case sw.RevokeRequests.form():
		w.WriteHeader(http.StatusOK)
	case !live && sw.RevokeRequests == RevokeRequestsBearer:
		writeUnauthorized(w)
	case !live:
		writeJSON(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
	case sw.RevokeRequests == RevokeRequestsBearer:
		writeJSON(w, http.StatusOK, map[string]any{"ok": true, "revoked": true})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// api is everything below /api, as described at [OAuthServer.APIURL].
func (s *OAuthServer) api(w http.ResponseWriter, r *http.Request) {
	account, live, refused := s.caller(r)
	if refused {
		writeUnauthorized(w)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/api")
	switch {
	case path == "/me" && !live:
		writeUnauthorized(w)
	case path == "/me":
		writeJSON(w, http.StatusOK, map[string]any{
			"account": account.Name, "subject": account.Subject, "tenant": account.Tenant,
		})
	case path == "/echo" || strings.HasPrefix(path, "/echo/"):
		echo(w, r)
	case path == "/redirect":
		redirect(w, r)
	case strings.HasPrefix(path, "/status/"):
		status(w, strings.TrimPrefix(path, "/status/"))
	default:
		writeJSON(w, http.StatusNotFound, map[string]any{"error": "not_found"})
	}
}

// caller tells whose live token or API key a request shows, and whether the switches refuse it all the same.
func (s *OAuthServer) caller(r *http.Request) (a Account, live, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := bearer(r)
	login, live := s.grants.liveAccess(token, s.opts.Now())
	for _, key := range []string{token, r.Header.Get("X-API-Key"), r.URL.Query().Get("api_key")} {
		if !live {
			login, live = s.keys[key]
		}
	}
	if !live {
		return Account{}, false, false
	}
	if s.switches.Unauthorized != 0 {
		if s.switches.Unauthorized > 0 {
			s.switches.Unauthorized--
		}
		return Account{}, true, true
	}
	return s.accounts[login], true, false
}

// echo answers with the request as it arrived. It hides nothing: it is there to show what a client sends.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	writeJSON(w, http.StatusOK, map[string]any{
		"method": r.Method, "host": r.Host, "path": path, "query": query, "header": r.Header, "body": string(body),
	})
}

func redirect(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	code, err := strconv.Atoi(cmp.Or(q.Get("status"), "302"))
	if err != nil || code < 300 || code > 399 || q.Get("to") == "" {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "bad_redirect"})
		return
	}
	w.Header().Set("Location", q.Get("to"))
	w.WriteHeader(code)
}

func status(w http.ResponseWriter, text string) {
	code, err := strconv.Atoi(text)
	switch {
	case err != nil || code < 200 || code > 599:
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "bad_status"})
	case code == http.StatusNoContent || code == http.StatusNotModified:
		w.WriteHeader(code)
	default:
		writeJSON(w, code, map[string]any{"status": code})
	}
}

// bearer is the token in the Authorization header; empty if there is none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func writeUnauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`) // RFC 6750 §3
	writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
}
