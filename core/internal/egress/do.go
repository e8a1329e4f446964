package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// Response is the complete answer to a credential call.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends req once and reads the whole answer; it is for calls that carry credentials (token, userinfo, test, revoke).
// The context is ctx, not the request's. No redirect is followed: a 3xx is returned as it came, because its target
// would receive the credentials (RFC 9700 §4.11). The call ends after Options.Timeout; a body over Options.MaxBody is
// Error.Kind TooLarge, and the connection is given up.
//
// A status of any number is not an error. Errors are *[Error]; the refusals are those of [Transport.RoundTrip].
func (t *Transport) Do(ctx context.Context, req *http.Request) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	res, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := t.read(res)
	if err != nil {
		cancel() // before Close, which may drain what is left to keep the connection
		return nil, err
	}
	return &Response{Status: res.StatusCode, Header: res.Header, Body: data}, nil
}

func (t *Transport) read(res *http.Response) ([]byte, error) {
	tooLarge := func() error {
		return &Error{Host: res.Body.(*body).host, Kind: TooLarge, Sent: true, Err: ErrBodyTooLarge}
	}
	if res.ContentLength > t.maxBody {
		return nil, tooLarge()
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, t.maxBody+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > t.maxBody {
		return nil, tooLarge()
	}
	return data, nil
}

// body is the body of an answer, with clean errors.
type body struct {
	io.ReadCloser
	ctx  context.Context // the request's, which lives as long as its body
	host string
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = failure(b.ctx, b.host, true, err)
	}
	return n, err
}
