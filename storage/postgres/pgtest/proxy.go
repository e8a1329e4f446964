package pgtest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Fault is what a [Proxy] does when a statement comes by.
type Fault int

// The faults. Each concerns the connection that sends the statement.
const (
	CutBefore Fault = iota + 1 // end the connection; the server never gets the statement
	CutAfter                   // end the connection when the server has answered; the client never gets the answer
	Silence                    // the server gets the statement, and the client never an answer, on an open connection
	Crash                      // like CutAfter, with the fatal error in place of the answer that PgBouncer gives then
)

// Proxy stands between clients and a server, on a port of the loopback interface, and breaks connections when it is
// told to. It reads the protocol, so it knows which statement a client executes, prepared or not.
type Proxy struct {
	listener net.Listener
	network  string // of the server
	address  string
	dsn      string

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	faults []*fault
	down   bool
	hits   int
	trips  int

	running sync.WaitGroup
}

type fault struct {
	kind Fault
	sql  *regexp.Regexp
	left int
}

// StartProxy starts a proxy to the database of dsn. It ends with the test.
func StartProxy(t testing.TB, dsn string) *Proxy {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{conns: make(map[net.Conn]bool)}
	p.network, p.address = "tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if strings.HasPrefix(config.Host, "/") {
		p.network, p.address = "unix", filepath.Join(config.Host, ".s.PGSQL."+strconv.Itoa(int(config.Port)))
	}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Path: "/" + config.Database,
		Host: p.listener.Addr().String(), RawQuery: "sslmode=disable"}
	p.dsn = u.String()
	p.running.Go(p.serve)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.SetDown(true)
		p.running.Wait()
	})
	return p
}

// DSN leads to the database through the proxy.
func (p *Proxy) DSN() string { return p.dsn }

// Break lets the fault strike the next n executions of statements that match a regular expression, whatever their case.
// "^commit" is the end of a batch of several operations; a batch of one is its statement alone.
func (p *Proxy) Break(kind Fault, pattern string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &fault{kind, regexp.MustCompile("(?i)" + pattern), n})
}

// Hits returns how many faults have struck so far.
func (p *Proxy) Hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// RoundTrips returns how often a server has said so far that it is ready for more: the round trips of all connections,
// those of connecting among them.
func (p *Proxy) RoundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips
}

func (p *Proxy) countTrip() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trips++
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// SetDown ends all connections and refuses new ones, until it is called with false.
func (p *Proxy) SetDown(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Cut()
	}
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(client) })
	}
}

// connect serves one connection until either side or a fault ends it.
func (p *Proxy) connect(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(context.Background(), p.network, p.address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.add(client, server) {
		return
	}
	defer p.remove(client, server)
	l := &link{proxy: p, client: client, server: server, texts: map[string]string{}, portals: map[string]string{}}
	var answers sync.WaitGroup
	answers.Go(func() {
		l.answers()
		_ = errors.Join(client.Close(), server.Close())
	})
	l.requests()
	_ = errors.Join(client.Close(), server.Close())
	answers.Wait()
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return !p.down
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
	}
}

// strikes returns the fault that befalls a statement, or zero.
func (p *Proxy) strikes(sql string) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.left > 0 && f.sql.MatchString(sql) {
			f.left--
			p.hits++
			return f.kind
		}
	}
	return 0
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn

	// Only requests uses these: the texts of prepared statements, and of what was bound to portals.
	texts, portals map[string]string

	mu     sync.Mutex // guards struck
	struck Fault      // what happens to the answers from now on
}

// requests passes on what the client sends.
func (l *link) requests() {
	if !l.greeting() {
		return
	}
	for {
		message, err := readMessage(l.client)
		if err != nil {
			return
		}
		switch fault := l.fault(message); fault {
		case 0:
		case CutBefore:
			return
		default:
			l.mu.Lock()
			l.struck = fault
			l.mu.Unlock()
		}
		if _, err := l.server.Write(message); err != nil {
			return
		}
	}
}

// greeting passes on the first message of a client, which has no type. A request to cancel is all that its client
// sends.
func (l *link) greeting() bool {
	head := make([]byte, 4)
	if _, err := io.ReadFull(l.client, head); err != nil {
		return false
	}
	message, err := readRest(l.client, head)
	if err != nil {
		return false
	}
	_, err = l.server.Write(message)
	return err == nil
}

// fault returns what befalls the statement that a message executes, if it executes one.
func (l *link) fault(message []byte) Fault {
	body := message[5:]
	switch message[0] {
	case 'Q':
		var m pgproto3.Query
		if m.Decode(body) == nil {
			return l.proxy.strikes(m.String)
		}
	case 'P':
		var m pgproto3.Parse
		if m.Decode(body) == nil {
			l.texts[m.Name] = m.Query
		}
	case 'B':
		var m pgproto3.Bind
		if m.Decode(body) == nil {
			l.portals[m.DestinationPortal] = l.texts[m.PreparedStatement]
		}
	case 'E':
		var m pgproto3.Execute
		if m.Decode(body) == nil {
			return l.proxy.strikes(l.portals[m.Portal])
		}
	}
	return 0
}

// answers passes on what the server sends, until a fault holds it back.
func (l *link) answers() {
	for {
		message, err := readMessage(l.server)
		if err != nil {
			return
		}
		ready := message[0] == 'Z' // the answer is complete
		if ready {
			l.proxy.countTrip()
		}
		l.mu.Lock()
		struck := l.struck
		l.mu.Unlock()
		switch {
		case struck == CutAfter && ready:
			return
		case struck == Crash && ready:
			crashed := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "server conn crashed?"}
			if message, err := crashed.Encode(nil); err == nil {
				_, _ = l.client.Write(message)
			}
			return
		case struck != 0:
			continue
		}
		if _, err := l.client.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads one message with its type and length.
func readMessage(from io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	return readRest(from, head)
}

// readRest reads the rest of a message whose head ends with its length, which counts itself.
func readRest(from io.Reader, head []byte) ([]byte, error) {
	size := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if size < 0 || size > 1<<30 {
		return nil, errors.New("a message of impossible length")
	}
	message := append(head, make([]byte, size)...)
	_, err := io.ReadFull(from, message[len(head):])
	return message, err
}
