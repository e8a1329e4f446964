package egress_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/egress"
	"golang.org/x/net/dns/dnsmessage"
)

// canary stands in every part of every test request that must not reach an error, and in what test servers answer.
const canary = "s3cr3t-canary"

func newTransport(t *testing.T, o egress.Options) *egress.Transport {
	t.Helper()
	transport, err := egress.New(o)
	if err != nil {
		t.Fatalf("New(%+v) = %v", o, err)
	}
	t.Cleanup(transport.Close)
	return transport
}

// newRequest returns a POST whose path, query, header and body hold the canary.
func newRequest(t *testing.T, base string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/"+canary+"?key="+canary, strings.NewReader("secret="+canary))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+canary)
	return req
}

// checkError checks kind and Sent, and that no form in which err may be written down holds the canary (security 27).
func checkError(t *testing.T, err error, kind egress.Kind, sent bool) {
	t.Helper()
	var typed *egress.Error
	if !errors.As(err, &typed) {
		t.Fatalf("error = %T %v, want *egress.Error", err, err)
	}
	if typed.Kind != kind || typed.Sent != sent {
		t.Errorf("error = %v (kind %v, sent %t), want kind %v, sent %t", err, typed.Kind, typed.Sent, kind, sent)
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
			if text := fmt.Sprintf(format, cause); strings.Contains(text, canary) {
				t.Errorf("error %s = %s, which holds the canary", format, text)
			}
		}
	}
}

// newServer starts a plain server that counts nothing and answers with h.
func newServer(t *testing.T, h http.HandlerFunc) (base, hostPort string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL, server.Listener.Addr().String()
}

// newTLSServer starts a server with TLS and HTTP/2; its certificate is for 127.0.0.1 and example.com.
func newTLSServer(t *testing.T, h http.HandlerFunc) (hostPort string, roots *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.Listener.Addr().String(), roots
}

// serveRaw accepts connections and hands each to serve, which owns it.
func serveRaw(t *testing.T, serve func(net.Conn)) (hostPort string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// resolver answers every question for a name with the addresses that answer returns for it, over real DNS messages.
func resolver(answer func(name string) []string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serveDNS(server, answer)
		return client, nil
	}}
}

func serveDNS(conn net.Conn, answer func(name string) []string) {
	defer func() { _ = conn.Close() }()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		var message dnsmessage.Message
		if err := message.Unpack(query); err != nil || len(message.Questions) != 1 {
			return
		}
		question := message.Questions[0]
		message.Response, message.RecursionAvailable = true, true
		message.Additionals = nil
		for _, text := range answer(strings.TrimSuffix(question.Name.String(), ".")) {
			ip := netip.MustParseAddr(text)
			header := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class}
			switch {
			case ip.Is4() && question.Type == dnsmessage.TypeA:
				message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}})
			case ip.Is6() && question.Type == dnsmessage.TypeAAAA:
				message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
			}
		}
		reply, err := message.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
