package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// bodyTime is how long a client may take to send a body, but for the Proxy API's.
const bodyTime = 30 * time.Second

// answerTime is how long a client may take to read an answer, beside what a poll is held; streams of the Proxy API have a
// limit of their own.
const answerTime = time.Minute

// timedBody is a body that has to arrive in time: the deadline is set before anybody reads it. Where the server cannot set
// deadlines it may take longer.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) { // a request that goes on after its body must not end with the deadline
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readJSON reads the body of a request, an object, into v. Fields that v does not have are passed over: later clients have
// more. An empty body is an empty object.
func readJSON(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(v)
	if err == nil {
		_, err = d.Token()
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return err
	}
	return errBody
}

// clip makes what came from outside fit for an answer: short, on one line, in valid UTF-8.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	s = strings.ToValidUTF8(s, "")
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s = strconv.Quote(s)
	}
	return s
}
