package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits keep one client from taking what belongs to all (security 28). They may be used concurrently.
type limits struct {
	from   func(*http.Request) string
	failed *buckets // by address: tokens that were refused
	links  *buckets // by address: links of connect sessions that were refused
	tokens *buckets // by user and token

	polls, proxied *counters // of what goes on, by user
}

func newLimits(o *Options) *limits {
	l := &limits{from: o.ClientAddress, failed: newBuckets(o.FailureRate, 10), links: newBuckets(o.FailureRate, 10), tokens: newBuckets(o.Rate, 5),
		polls: newCounters(mostPolls), proxied: newCounters(o.ProxyConcurrent),
	}
	if l.from == nil {
		l.from = func(r *http.Request) string {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				return r.RemoteAddr
			}
			return host
		}
	}
	return l
}

// address is whom a request counts for: one host, or the network that one host has, since IPv6 gives each 2^64 addresses.
func (l *limits) address(r *http.Request) string {
	text := l.from(r)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		network, _ := addr.Prefix(64) // fits any of them
		return network.String()
	}
	return addr.String()
}

// mostPolls is how many requests of one user may be held back at a time; a browser has six connections.
const mostPolls = 64

// counters count what goes on, by key, up to a limit. They may be used concurrently.
type counters struct {
	most int

	mu    sync.Mutex // guards going
	going map[string]int
}

func newCounters(most int) *counters { return &counters{most: most, going: map[string]int{}} }

// enter reports whether one more may go on; leave is to be called when it has ended, then.
func (c *counters) enter(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.going[key] >= c.most {
		return false
	}
	c.going[key]++
	return true
}

func (c *counters) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.going[key]--; c.going[key] <= 0 {
		delete(c.going, key)
	}
}

// limitedError says that a client has taken its share.
type limitedError struct{ wait time.Duration }

func (e *limitedError) Error() string { return "There are too many requests. Wait a moment." }

// mostBuckets is how many clients are told apart at a time; those that were seen longest ago start anew.
const mostBuckets = 50_000

// buckets are limits by key. A nil one limits nothing.
type buckets struct {
	limit rate.Limit
	burst int

	mu             sync.Mutex // guards what follows
	recent, before map[string]*rate.Limiter
}

func newBuckets(perSecond, burst float64) *buckets {
	if perSecond < 0 {
		return nil
	}
	return &buckets{limit: rate.Limit(perSecond), burst: max(int(perSecond*burst), 1), recent: map[string]*rate.Limiter{}}
}

func (b *buckets) of(key string) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.recent[key]
	if !ok {
		if l, ok = b.before[key]; !ok {
			l = rate.NewLimiter(b.limit, b.burst)
		}
		if len(b.recent) >= mostBuckets {
			b.before, b.recent = b.recent, map[string]*rate.Limiter{}
		}
		b.recent[key] = l
	}
	return l
}

// take takes one, if there is one left; else it is a limitedError.
func (b *buckets) take(key string) error {
	if b == nil || b.of(key).Allow() {
		return nil
	}
	return b.refuse(key)
}

// peek is take, but that it takes none.
func (b *buckets) peek(key string) error {
	if b == nil || b.of(key).Tokens() >= 1 {
		return nil
	}
	return b.refuse(key)
}

func (b *buckets) refuse(key string) error {
	missing := max(1-b.of(key).Tokens(), 0)
	return &limitedError{time.Duration(missing / float64(b.limit) * float64(time.Second))}
}
