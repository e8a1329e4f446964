package coretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"
)

// Browser does what the browser of one person does: it keeps cookies and follows redirects. It runs no scripts and
// uses no proxy. Two browsers share nothing.
//
// Cookies expire by real time, also where a server goes by a [Clock].
//
// All methods may be called concurrently.
type Browser struct {
	client http.Client
}

// Page is what a browser shows.
type Page struct {
	URL    string // where the browser stands, after all redirects
	Status int
	Header http.Header
	Body   []byte
}

const (
	maxPage      = 4 << 20 // bytes of a page
	maxRedirects = 20      // as browsers do
)

// NewBrowser returns a browser without cookies. It need not be closed.
func NewBrowser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // never: New has no error to return
	}
	b := &Browser{}
	b.client = http.Client{
		Jar:           jar,
		CheckRedirect: follow,
		Transport: &http.Transport{
			DisableKeepAlives:     true, // no connection outlives a page, so there is nothing to close
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
	}
	return b
}

// Open goes to an address, as when it is typed, and returns the page at the end of all redirects, whatever its
// status. It fails when the address cannot be reached, after 20 redirects, when the page is larger than 4 MiB, and
// when ctx ends.
func (b *Browser) Open(ctx context.Context, url string) (*Page, error) {
	return b.open(ctx, url, func(string) bool { return false })
}

// OpenUntil is Open, but does not follow a redirect to an address that begins with prefix: the page it returns then
// has that address as its URL, and nothing else. So a test gets the parameters of a callback that nobody serves.
func (b *Browser) OpenUntil(ctx context.Context, url, prefix string) (*Page, error) {
	return b.open(ctx, url, func(next string) bool { return strings.HasPrefix(next, prefix) })
}

func (b *Browser) open(ctx context.Context, url string, stop func(next string) bool) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("open page: %w", err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")

	var stopped string
	client := b.client
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if next := req.URL.String(); stop(next) {
			stopped = next
			return http.ErrUseLastResponse
		}
		return follow(req, via)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("open page: %w", err)
	}
	defer resp.Body.Close()
	if stopped != "" {
		return &Page{URL: stopped}, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	if len(body) > maxPage {
		return nil, fmt.Errorf("read page: it is larger than %d bytes", maxPage)
	}
	return &Page{URL: resp.Request.URL.String(), Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// Client is the HTTP client behind the browser, with its cookies, for what Open does not do.
func (b *Browser) Client() *http.Client { return &b.client }

// follow decides about a redirect. It also corrects the Referer, where net/http names the page that redirected: a
// browser still names the page where the navigation began, unless a page on the way forbids it.
func follow(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("too many redirects")
	}
	req.Header.Del("Referer")
	first := via[0].Header.Get("Referer")
	last := via[len(via)-1].Header.Get("Referer")
	if first != "" && last != "" && req.Response.Header.Get("Referrer-Policy") != "no-referrer" {
		req.Header.Set("Referer", first)
	}
	return nil
}
