package httpapi

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mostHolds is how many requests are held back at a time. Beyond that the provider refuses them itself.
const mostHolds = 4096

// holds keep back what a provider has asked not to send for a while (429 or 503 with Retry-After, RFC 9110 §10.2.3): the same
// method and path as the same account, and nothing else, because most limits are those of one method. They are this process's,
// and may be used concurrently.
type holds struct {
	longest time.Duration // 0 or less: nothing is held
	seed    maphash.Seed
	some    atomic.Bool // whether there is one

	mu    sync.Mutex // guards until
	until map[uint64]time.Time
}

func newHolds(longest time.Duration) holds {
	return holds{longest: longest, seed: maphash.MakeSeed(), until: map[uint64]time.Time{}}
}

// key stands for one kind of request as one account.
func (k *holds) key(credential, method string, to *url.URL) uint64 {
	if k.longest <= 0 {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(k.seed)
	for _, part := range []string{credential, method, to.Scheme, to.Host, to.Path} {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// left is for how long a request is held back yet.
func (k *holds) left(key uint64, now time.Time) time.Duration {
	if !k.some.Load() {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.until[key].Sub(now)
	if left > k.longest { // the clock went back
		return 0
	}
	return left
}

// note remembers what an answer asks for.
func (k *holds) note(key uint64, resp *http.Response, now time.Time) {
	if k.longest <= 0 || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	wait := retryAfter(resp.Header, now)
	if wait <= 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.until) >= mostHolds {
		for other, until := range k.until {
			if !until.After(now) {
				delete(k.until, other)
			}
		}
	}
	if len(k.until) < mostHolds {
		k.until[key] = now.Add(min(wait, k.longest))
		k.some.Store(true)
	}
}

// retryAfter is how long an answer asks to wait, as seconds or as a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return at.Sub(now)
	}
	return 0
}
