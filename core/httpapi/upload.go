package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// smallBody is how much of a request's body is kept to be sent once more, after a 401 or a redirect.
const smallBody = 64 << 10

// sniffed is how much of a body is looked at to find out what it is.
const sniffed = 512

var (
	errSlow  = &Error{http.StatusRequestTimeout, "timeout", "The request took too long to arrive. Send it again."}
	errShort = &Error{http.StatusBadRequest, "invalid", "The request ended too early. Send it again."}
)

// upload is the body of a proxied request, on its way to the provider. A nil one is empty, or small and read already.
type upload struct {
	from    io.Reader // what was looked at, and the rest
	control *http.ResponseController
	watch   *watch
	wait    time.Duration // for the answer, when all is sent

	mu    sync.Mutex // held while it is read; guards what follows
	ended error      // what Read answers from now on
}

// upload gives out the body of a request: one of known, small size as a whole, which can be sent again; any other as it comes.
func (p *proxy) upload(w http.ResponseWriter, r, out *http.Request, watch *watch) (*upload, error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		if out.Header.Get("Content-Type") == "auto" {
			out.Header.Del("Content-Type")
		}
		return nil, nil //nolint:nilnil // as its comment says
	}
	b := &upload{
		from: http.MaxBytesReader(w, r.Body, p.a.opts.ProxyMaxBody), control: http.NewResponseController(w), watch: watch, wait: p.a.opts.ProxyTimeout,
	}
	out.ContentLength = r.ContentLength
	auto := out.Header.Get("Content-Type") == "auto" // the SDK leaves it to us
	if r.ContentLength > 0 && r.ContentLength <= smallBody {
		kept := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(b, kept); err != nil {
			return nil, b.failure()
		}
		b.done()
		_ = b.control.SetReadDeadline(time.Time{})
		if auto {
			out.Header.Set("Content-Type", contentType(kept, json.Valid(kept)))
		}
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }
		out.Body, _ = out.GetBody()
		return nil, nil //nolint:nilnil // as its comment says
	}
	if auto {
		start := make([]byte, sniffed)
		n, _ := io.ReadFull(b, start)
		if failed := b.failure(); failed != nil {
			return nil, failed
		}
		start = start[:n]
		text := bytes.TrimLeft(start, " \t\r\n")
		out.Header.Set("Content-Type", contentType(start, len(text) > 0 && (text[0] == '{' || text[0] == '[')))
		b.mu.Lock()
		b.from = io.MultiReader(bytes.NewReader(start), b.from)
		if errors.Is(b.ended, io.EOF) {
			b.from, b.ended = bytes.NewReader(start), nil
		}
		b.mu.Unlock()
	}
	out.Body = b
	return b, nil
}

// contentType is what a body is, by how it begins.
func contentType(start []byte, isJSON bool) string {
	if isJSON {
		return "application/json"
	}
	return http.DetectContentType(start)
}

// Read reads from the client, who has to send something within ProxyIdle; as long the provider has to take it.
func (b *upload) Read(buf []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return 0, b.ended
	}
	if b.control.SetReadDeadline(time.Now().Add(b.watch.idle)) == nil { // past the server's own ReadTimeout
		b.watch.within(2 * b.watch.idle)
	} else {
		b.watch.moved()
	}
	n, err := b.from.Read(buf)
	if b.watch.moved(); err != nil {
		b.ended = err
		if errors.Is(err, io.EOF) {
			b.watch.within(b.wait)
			_ = b.control.SetReadDeadline(time.Time{}) // net/http goes on to read, to see whether the client is there
		}
	}
	return n, err
}

// Close is for net/http, which may call it while it reads.
func (b *upload) Close() error { return nil }

// failure is the error of a body that could not be read, by the client's fault; nil where it could.
func (b *upload) failure() error {
	if b == nil || !b.mu.TryLock() { // somebody still waits for it
		return nil
	}
	defer b.mu.Unlock()
	var tooLarge *http.MaxBytesError
	switch {
	case b.ended == nil, errors.Is(b.ended, io.EOF), errors.Is(b.ended, errDone):
		return nil
	case errors.As(b.ended, &tooLarge):
		return errTooLarge
	case errors.Is(b.ended, os.ErrDeadlineExceeded):
		return errSlow
	}
	return errShort
}

// overtaken is called when the provider has answered. If it did so before it had everything, the answer must not wait for the
// rest, as it does by default in HTTP/1.
func (b *upload) overtaken() {
	if b == nil {
		return
	}
	if b.mu.TryLock() {
		ended := b.ended
		b.mu.Unlock()
		if ended != nil {
			return
		}
	}
	_ = b.control.EnableFullDuplex()
}

// answering lets the answer be written, although sending the body may have taken longer than the server's WriteTimeout. What
// it returns is called when that is done.
func (b *upload) answering() func() {
	if b == nil || b.control.SetWriteDeadline(time.Now().Add(b.watch.idle)) != nil {
		return func() {}
	}
	return func() {
		_ = b.control.Flush()
		_ = b.control.SetWriteDeadline(time.Time{}) // or it would end the next request of the connection
	}
}

var errDone = errors.New("the request is over")

// done makes sure that nobody reads the body any more: after the handler it is not ours.
func (b *upload) done() {
	if b == nil {
		return
	}
	if !b.mu.TryLock() { // somebody waits for the client
		_ = b.control.SetReadDeadline(time.Now())
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = errDone
	}
}
