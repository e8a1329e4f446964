package coretest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
)

// oauthError is an error of RFC 6749 §4.1.2.1 or §5.2. It is an answer of the server, not a Go error.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// status is the one that an error has at the token endpoint.
func (e *oauthError) status() int {
	if e.Code == "invalid_client" {
		return http.StatusUnauthorized
	}
	return http.StatusBadRequest
}

// writeTokenError answers at the token endpoint, in the form that the switches ask for.
func (s *OAuthServer) writeTokenError(w http.ResponseWriter, r *http.Request, e *oauthError) {
	sw := s.Switches()
	if g, ok := sw.TokenErrors[e.Code]; ok {
		g.write(w)
		return
	}
	status := e.status()
	if sw.OKWithError {
		status = http.StatusOK
	}
	if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`) // RFC 6749 §5.2
	}
	fields := map[string]any{"error": e.Code, "error_description": e.Description}
	writeFields(w, status, fields, sw.FormEncoded)
}

// writeFields answers with an object, as JSON or as a form.
func writeFields(w http.ResponseWriter, status int, fields map[string]any, form bool) {
	if !form {
		writeJSON(w, status, fields)
		return
	}
	v := make(url.Values, len(fields))
	for k, f := range fields {
		if text, ok := f.(string); ok {
			v.Set(k, text)
			continue
		}
		b, err := json.Marshal(f)
		if err != nil {
			writeUnencodable(w, err)
			return
		}
		var text string
		if json.Unmarshal(b, &text) != nil {
			text = string(b)
		}
		v.Set(k, text)
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(v.Encode()))
}

// writeJSON answers with a value as JSON. Nothing the server says may be cached.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeUnencodable(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// writeUnencodable answers when the switches hold what JSON cannot carry: a mistake of the test.
func writeUnencodable(w http.ResponseWriter, err error) {
	http.Error(w, "coretest: the switches ask for what cannot be encoded: "+err.Error(), http.StatusInternalServerError)
}

// keptAnswer is a ResponseWriter that keeps the answer instead of sending it.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newKeptAnswer() *keptAnswer { return &keptAnswer{header: make(http.Header)} }

func (a *keptAnswer) Header() http.Header         { return a.header }
func (a *keptAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *keptAnswer) WriteHeader(status int)      { a.status = cmp.Or(a.status, status) }

// write sends what was kept.
func (a *keptAnswer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(cmp.Or(a.status, http.StatusOK))
	_, _ = w.Write(a.body.Bytes())
}
