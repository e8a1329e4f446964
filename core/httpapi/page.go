package httpapi

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"

	"github.com/polycred/polycred/core"
)

//go:embed pages/*.html
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// The pages of the window of an OAuth flow.
const (
	noncePage  = "nonce.html"
	askPage    = "ask.html"
	donePage   = "done.html"
	failedPage = "failed.html"
)

// render writes a page. It may run the script that it holds itself, and be framed by nobody.
func (a *api) render(w http.ResponseWriter, status int, name string, data map[string]any) error {
	nonce := newSecret()[:22]
	data["Nonce"] = nonce
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", referrerPolicy(name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; style-src 'nonce-"+nonce+
		"'; form-action "+formAction(name)+"; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w)
	return nil
}

// formAction is where the form of a page may lead: browsers hold redirects that follow it to this as well.
func formAction(name string) string {
	if name == askPage {
		return "*" // by way of us, to whichever provider
	}
	return "'none'"
}

// referrerPolicy keeps the URL of a page, which may hold a user token, from everybody else. The form of the ask page needs its
// Origin, which browsers send as "null" under no-referrer (Fetch standard, "append a request Origin header").
func referrerPolicy(name string) string {
	if name == askPage {
		return "same-origin"
	}
	return "no-referrer"
}

func displayName(in *core.Integration) string { return cmp.Or(in.DisplayName, in.Name) }

// secure sets what answers that others wrote are served with: nothing in them runs here (security 20).
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
}

// icon answers with a picture of ours: rows 27 and 28 ask for those of integrations, which belong to others.
func (a *api) icon(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Cache-Control", "public, max-age=86400")
	secure(h)
	_, _ = w.Write([]byte(iconSVG))
	return nil
}

// picture is icon for those who ask for a PNG.
func (a *api) picture(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("Cache-Control", "public, max-age=86400")
	secure(h)
	_, _ = w.Write(iconPNG)
	return nil
}

func (a *api) iconURL(name string) string { return a.opts.PublicURL + "/integrations/" + name + ".svg" }

// iconSVG is a neutral icon: two things that are connected.
const iconSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" width="48" height="48">` +
	`<rect width="48" height="48" rx="10" fill="#eef0f3"/><g fill="none" stroke="#4b5563" stroke-width="3" stroke-linecap="round">` +
	`<circle cx="16" cy="24" r="6"/><circle cx="32" cy="24" r="6"/><path d="M22 24h4"/></g></svg>`

// iconPNG is a picture of one grey point, which any page can scale.
var iconPNG = func() []byte {
	png, err := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP4/+dPLQAJrgOJmqFRAwAAAABJRU5ErkJggg==")
	if err != nil {
		panic(err)
	}
	return png
}()
