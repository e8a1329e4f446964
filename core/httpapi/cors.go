package httpapi

import "net/http"

// exposed are the headers of answers that scripts may read.
const exposed = "ETag, Retry-After, " + headerUsed + ", " + headerRequestID

// setCORS lets scripts of any origin read the answer, errors included: what counts is the user token, which no browser adds
// by itself. Routes that read a cookie take it away again.
func setCORS(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", exposed)
}

func dropCORS(h http.Header) {
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Expose-Headers")
}

// preflight answers OPTIONS (Fetch standard, "CORS-preflight request"). A "*" for headers would not cover Authorization, so
// those that are asked for are named. Routes that read a cookie are for no script (security 29).
func (a *api) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if asked := r.Header.Get("Access-Control-Request-Method"); asked != "" {
		meant := r.Clone(r.Context())
		meant.Method = asked
		if _, pattern := a.mux.Handler(meant); a.isPage[pattern] {
			dropCORS(h)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && len(asked) <= 4<<10 {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}
