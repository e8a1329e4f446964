package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// relay passes an answer on: as it is where the client asked for that or it is no JSON, else wrapped. Its error is that of an
// answer that broke off before any of it was passed on.
func (p *proxy) relay(w http.ResponseWriter, r *http.Request, resp *http.Response, raw bool, watch *watch) error {
	h, body := w.Header(), &download{from: resp.Body, watch: watch}
	if raw || r.Method == http.MethodHead || !wrappable(resp) {
		answerHeader(h, resp)
		w.WriteHeader(resp.StatusCode)
		p.stream(w, resp.ContentLength, nil, body, nil)
		return nil
	}
	pooled := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(pooled)
	start, whole, err := readStart(append((*pooled)[:0], prefix...), body, int(p.a.opts.ProxyWrap))
	if err != nil {
		return err
	}
	answerHeader(h, resp)
	content := start[len(prefix):]
	switch good := resp.StatusCode < 400; {
	case !good && whole && p.refused(w, r, resp, content):
	case good && isJSON(resp.Header) && whole && closed(content):
		wrapped(h)
		start = append(start, '}')
		h["Content-Length"] = []string{strconv.Itoa(len(start))}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.a.opts.ProxyIdle))
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(start)
	case good && isJSON(resp.Header) && !whole && looksJSON(content): // too large to look at all of it
		wrapped(h)
		if resp.ContentLength >= 0 {
			h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength+int64(len(prefix))+1, 10)}
		}
		w.WriteHeader(resp.StatusCode)
		p.stream(w, -1, start, body, []byte{'}'})
	default: // as it is, then: what was read, and the rest
		w.WriteHeader(resp.StatusCode)
		p.stream(w, resp.ContentLength, content, body, nil)
	}
	return nil
}

// prefix and a closing brace are around a wrapped answer.
const prefix = `{"output":`

// wrappable reports whether an answer is looked at, to be wrapped: JSON that is complete and not encoded, or text that says
// why the provider refuses.
func wrappable(resp *http.Response) bool {
	switch {
	case resp.Header.Get("Content-Encoding") != "":
		return false
	case resp.StatusCode < 300:
		return isJSON(resp.Header) && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusPartialContent
	}
	return resp.StatusCode >= 400
}

func isJSON(h http.Header) bool {
	value := h.Get("Content-Type")
	if value == "application/json" {
		return true
	}
	kind, _, _ := mime.ParseMediaType(value)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// checkedTo is how much JSON is checked whole. Of more it is only looked at whether it ends as it begins: the client has to
// parse it anyway, and going through it twice would cost a good part of what the whole proxy costs. What a provider puts
// beside "output" in that way is the provider's all the same.
const checkedTo = 64 << 10

// closed reports whether a document is whole.
func closed(content []byte) bool {
	text := bytes.Trim(content, " \t\r\n")
	if len(text) <= checkedTo || text[0] != '{' && text[0] != '[' {
		return json.Valid(text)
	}
	return text[len(text)-1] == text[0]+2 // in ASCII each bracket is two before its partner
}

// looksJSON reports whether a document begins like JSON.
func looksJSON(content []byte) bool {
	text := bytes.TrimLeft(content, " \t\r\n")
	return len(text) > 0 && strings.IndexByte(`{["-0123456789tfn`, text[0]) >= 0
}

// wrapped takes away what is not so of the answer that is in a wrapped one.
func wrapped(h http.Header) {
	for _, name := range []string{"Content-Length", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges"} {
		delete(h, name)
	}
	h["Content-Type"] = headerJSON
}

// readStart appends to start what a body holds, but at most one byte more than most, and leaves room for the brace; whole says
// that this was all.
func readStart(start []byte, body io.Reader, most int) (all []byte, whole bool, err error) {
	limit := len(start) + most + 1
	for {
		if len(start) >= cap(start)-1 {
			start = slices.Grow(start, min(len(start)+2, limit-len(start)+1))
		}
		n, err := body.Read(start[len(start):min(cap(start)-1, limit)])
		start = start[:len(start)+n]
		switch {
		case errors.Is(err, io.EOF):
			return start, len(start) < limit, nil
		case err != nil:
			return start, false, err
		case len(start) >= limit:
			return start, false, nil
		}
	}
}

// refused passes on that the provider refused a request: its status and its answer, in the form of our errors, marked as the
// provider's own so that the SDK does not log its user out. It does not where the answer is neither JSON nor text.
func (p *proxy) refused(w http.ResponseWriter, r *http.Request, resp *http.Response, content []byte) bool {
	var output any
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case len(content) == 0:
	case isJSON(resp.Header) && json.Valid(content):
		output = json.RawMessage(content)
	case (kind == "" || isJSON(resp.Header) || strings.HasPrefix(kind, "text/")) && utf8.Valid(content):
		output = string(content)
	default:
		return false
	}
	noteFailure(r, "upstream")
	wrapped(w.Header())
	message := providersMessage(content)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.a.opts.ProxyIdle))
	p.a.write(w, resp.StatusCode, map[string]any{
		"message": message, "code": "upstream", "status": resp.StatusCode, "output": output,
		"meta": map[string]any{ // all that the SDK makes the text of its Error of, where it is marked like this
			"requestId": requestID(r), "isIntegrationError": true, "status": resp.StatusCode, "message": message,
		},
	})
	return true
}

// maxMessage is how much of a provider's message is repeated as ours.
const maxMessage = 1000

// providersMessage finds what a provider says to people, where that has one of the usual names: {"message": …},
// {"error": {"message": …}}, {"error": …} or {"error_description": …}.
func providersMessage(content []byte) string {
	var known struct {
		Message     any `json:"message"`
		Error       any `json:"error"`
		Description any `json:"error_description"`
	}
	_ = json.Unmarshal(content, &known)
	nested, _ := known.Error.(map[string]any)
	for _, value := range []any{known.Message, nested["message"], known.Description, known.Error} {
		if text, ok := value.(string); ok && text != "" {
			if len(text) > maxMessage {
				text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
			}
			return text
		}
	}
	return "The provider refused the request."
}

// download is the body of a provider's answer, which has to go on.
type download struct {
	from  io.Reader
	watch *watch
}

func (d *download) Read(buf []byte) (int, error) {
	d.watch.moved()
	n, err := d.from.Read(buf)
	d.watch.pause() // it is the client's turn
	return n, err
}

// stream writes a body, between what goes before and behind it. One of unknown length is passed on as it comes. A client that
// takes nothing for ProxyIdle is given up, whatever the server's WriteTimeout is.
func (p *proxy) stream(w http.ResponseWriter, length int64, before []byte, body *download, behind []byte) {
	pooled := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(pooled)
	control := http.NewResponseController(w)
	long := length < 0 || length > bufferSize
	write := func(part []byte) bool {
		if len(part) == 0 {
			return true
		}
		if long {
			_ = control.SetWriteDeadline(time.Now().Add(body.watch.idle))
		}
		_, err := w.Write(part)
		if err == nil && length < 0 {
			err = control.Flush()
			if errors.Is(err, http.ErrNotSupported) {
				err = nil
			}
		}
		return err == nil
	}
	if length < 0 && len(before) == 0 {
		_ = control.SetWriteDeadline(time.Now().Add(body.watch.idle))
		_ = control.Flush() // what follows may take its time
	}
	if !write(before) {
		return
	}
	for {
		n, err := body.Read(*pooled)
		if !write((*pooled)[:n]) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			if write(behind) && long {
				_ = control.Flush()
				_ = control.SetWriteDeadline(time.Time{}) // or it would end the next request of the connection
			}
			return
		case err != nil: // the client must not take what came for all
			panic(http.ErrAbortHandler)
		}
	}
}
