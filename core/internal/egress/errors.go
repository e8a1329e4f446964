package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

// ErrBodyTooLarge: the body of an answer is longer than Options.MaxBody.
var ErrBodyTooLarge = errors.New("the answer is larger than allowed")

// Kind says in which way a call failed.
type Kind int

const (
	// Blocked: refused here, before anything was sent. Repeating the call does not help.
	Blocked Kind = iota + 1
	// Timeout: a time limit or the deadline of the context passed.
	Timeout
	// Canceled: the caller gave up.
	Canceled
	// Unreachable: no connection was made: the name was not found, nobody listened, or TLS failed.
	Unreachable
	// TooLarge: the body is over the limit; errors.Is(err, ErrBodyTooLarge).
	TooLarge
	// Protocol: a connection was made, and it broke or what came over it was not a usable answer.
	Protocol
)

var kinds = [...]string{Blocked: "blocked", Timeout: "timed out", Canceled: "canceled", Unreachable: "unreachable", TooLarge: "too large", Protocol: "broken answer"}

func (k Kind) String() string {
	if k < Blocked || int(k) >= len(kinds) {
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kinds[k]
}

// Error is a failed call. It holds nothing of the request but the host, and nothing of the answer, so it may be logged.
type Error struct {
	// Host is the canonical host:port of the URL; empty when the URL was malformed.
	Host string
	Kind Kind
	// Sent is false only when the request surely never left: it can be repeated whatever it does. True means that it
	// may have been received.
	Sent bool
	// Err is a cause that is safe to show; errors.Is finds context errors, syscall.Errno, io.ErrUnexpectedEOF,
	// *http.MaxBytesError (of the request's own body), *endpoint.Error and ErrBodyTooLarge.
	Err error
}

func (e *Error) Error() string {
	host := e.Host
	if host == "" {
		host = "a malformed URL"
	}
	text := "call " + host + ": " + e.Kind.String()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errPlain      = errors.New("plain http is refused; use https, or list this host and port in Options.PrivateHosts")
	errHostHeader = errors.New("the Host of the request differs from its URL")
	errConnect    = errors.New("CONNECT is refused")
	errUpgrade    = errors.New("a protocol upgrade is refused")
	errStatus     = errors.New("the server answered with a status that there is not")
	errUpgraded   = errors.New("the server switched protocols without being asked")
	errHeaderName = errors.New("the name of a header is malformed")
)

// failure makes an Error of what net/http returned. Its texts are not repeated: they hold URLs, the first line of a
// malformed answer, the names of a certificate, the debug data of a GOAWAY, or a cancel cause of the caller.
func failure(ctx context.Context, host string, sent bool, err error) *Error {
	e := &Error{Host: host, Sent: sent}
	var (
		blocked *blockedError
		timeout net.Error
		tooLong *http.MaxBytesError
	)
	switch {
	case errors.As(err, &blocked):
		e.Kind, e.Err = Blocked, blocked
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind, e.Err = Canceled, context.Canceled
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Kind, e.Err = Timeout, context.DeadlineExceeded
	case errors.As(err, &tooLong):
		e.Kind, e.Err = Protocol, tooLong
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Kind = Timeout
	case sent:
		e.Kind, e.Err = Protocol, lostCause(err)
	default:
		e.Kind, e.Err = Unreachable, dialCause(err)
	}
	return e
}

// lostCause says why a connection that was made brought no answer.
func lostCause(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.As(err, &errno):
		return errno
	}
	return errors.New("the server did not send a valid HTTP answer")
}

// dialCause says why no connection was made.
func dialCause(err error) error {
	var (
		errno     syscall.Errno
		notFound  *net.DNSError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		operation *net.OpError
	)
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &notFound):
		return errors.New("the host name could not be resolved")
	case errors.As(err, &hostname):
		return errors.New("the certificate is for another host")
	case errors.As(err, &authority):
		return errors.New("the certificate is signed by an unknown authority")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errors.New("the certificate has expired or is not yet valid")
	case errors.As(err, &verify):
		return errors.New("the certificate is not valid")
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return errors.New("the server does not speak TLS on this port")
	case errors.As(err, &alert),
		errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error"): // alerts of crypto/tls
		return errors.New("the TLS handshake failed")
	}
	return errors.New("no connection could be made")
}
