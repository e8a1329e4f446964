package httpapi

import (
	"net/http"
	"strings"
)

// exposed are the headers of answers that scripts may read.
const exposed = "ETag, Retry-After, " + headerUsed + ", " + headerUpstream + ", " + headerRequestID

// These are shared by all answers: nobody changes a value in place.
var anyOrigin, exposedHeader = []string{"*"}, []string{exposed}

// setCORS lets scripts of any origin read the answer, errors included: what counts is the user token, which no browser adds
// by itself. Routes that read a cookie take it away again.
func setCORS(h http.Header) {
	h["Access-Control-Allow-Origin"], h["Access-Control-Expose-Headers"] = anyOrigin, exposedHeader
}

func dropCORS(h http.Header) {
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Expose-Headers")
}

// preflight answers OPTIONS (Fetch standard, "CORS-preflight request"). A "*" for headers would not cover Authorization, so
// those that are asked for are named. Routes that read a cookie are for no script (security 29).
func (a *api) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	asked := r.Header.Get("Access-Control-Request-Method")
	if asked != "" {
		meant := r.Clone(r.Context())
		meant.Method = asked
		if _, pattern := a.mux.Handler(meant); a.isPage[pattern] {
			dropCORS(h)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	methods := "GET, HEAD, POST, PUT, PATCH, DELETE"
	if isToken(asked) && len(asked) <= 64 && !strings.Contains(methods, asked) { // providers know more
		methods += ", " + asked
	}
	h.Set("Access-Control-Allow-Methods", methods)
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && len(asked) <= 4<<10 {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), as a method is.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}
