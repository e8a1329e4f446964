package coretest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/coretest"
)

// site is a web site that sets a cookie, redirects and tells what it was sent.
func site(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/begin", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "visit", Value: "1"})
		http.Redirect(w, r, "/middle", http.StatusSeeOther)
	})
	mux.HandleFunc("/quiet", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, "/middle", http.StatusSeeOther)
	})
	mux.HandleFunc("/middle", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/end?a=b", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "cookie=%q referer=%q", r.Header.Get("Cookie"), r.Header.Get("Referer"))
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", 4<<20+1)))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestBrowserOpen(t *testing.T) {
	t.Parallel()
	base := site(t)
	b := coretest.NewBrowser()
	page, err := b.Open(t.Context(), base+"/begin")
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if page.URL != base+"/end?a=b" || page.Status != http.StatusTeapot || page.Header.Get("Date") == "" {
		t.Errorf("page = %+v, want status 418 at /end?a=b", page)
	}
	if got, want := string(page.Body), `cookie="visit=1" referer=""`; got != want {
		t.Errorf("body = %s, want %s", got, want)
	}

	other, err := coretest.NewBrowser().Open(t.Context(), base+"/end")
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if got, want := string(other.Body), `cookie="" referer=""`; got != want {
		t.Errorf("body in another browser = %s, want %s", got, want)
	}
}

func TestBrowserReferer(t *testing.T) {
	t.Parallel()
	base := site(t)
	for path, want := range map[string]string{"/middle": `"https://app.example/"`, "/quiet": `""`} {
		page := openFrom(t, coretest.NewBrowser(), base+path, "https://app.example/")
		if !strings.HasSuffix(page, "referer="+want) {
			t.Errorf("through %s: %s, want referer %s", path, page, want)
		}
	}
}

// openFrom follows a link on another page.
func openFrom(t *testing.T, b *coretest.Browser, url, referer string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Referer", referer)
	resp, err := b.Client().Do(req)
	if err != nil {
		t.Fatalf("Do: %v", err)
	}
	defer resp.Body.Close()
	body := make([]byte, 1<<10)
	n, _ := resp.Body.Read(body)
	return string(body[:n])
}

func TestBrowserOpenUntil(t *testing.T) {
	t.Parallel()
	base := site(t)
	b := coretest.NewBrowser()
	page, err := b.OpenUntil(t.Context(), base+"/begin", base+"/end")
	if err != nil || page.URL != base+"/end?a=b" || page.Status != 0 || page.Body != nil {
		t.Errorf("OpenUntil = %+v, %v, want to stop at /end?a=b", page, err)
	}
	page, err = b.OpenUntil(t.Context(), base+"/end", base+"/end") // no redirect led there
	if err != nil || page.Status != http.StatusTeapot || !strings.Contains(string(page.Body), "visit=1") {
		t.Errorf("OpenUntil of the page itself = %+v, %v, want status 418 and the cookie", page, err)
	}
}

func TestBrowserFailures(t *testing.T) {
	t.Parallel()
	base := site(t)
	b := coretest.NewBrowser()
	for _, url := range []string{base + "/loop", base + "/huge", "http://127.0.0.1:1/", ":"} {
		if page, err := b.Open(t.Context(), url); err == nil {
			t.Errorf("Open(%q) = %d, want an error", url, page.Status)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Open(ctx, base+"/end"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, want context canceled", err)
	}
}
