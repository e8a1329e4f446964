package httpapi

import (
	"net"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
)

// limits keep one client from taking what belongs to all (security 28). They may be used concurrently.
type limits struct {
	address func(*http.Request) string
	failed  *buckets // by address: tokens that were refused
	tokens  *buckets // by user and token
}

func newLimits(o *Options) *limits {
	l := &limits{address: o.ClientAddress, failed: newBuckets(o.FailureRate, 10), tokens: newBuckets(o.Rate, 5)}
	if l.address == nil {
		l.address = func(r *http.Request) string {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				return r.RemoteAddr
			}
			return host
		}
	}
	return l
}

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

// take reports whether there was one left.
func (b *buckets) take(key string) bool { return b == nil || b.of(key).Allow() }

// empty reports whether there is none left, and takes none.
func (b *buckets) empty(key string) bool { return b != nil && b.of(key).Tokens() < 1 }
