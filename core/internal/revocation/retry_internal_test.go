package revocation

import (
	"testing"
	"time"
)

func TestRetryIn(t *testing.T) {
	t.Parallel()
	for attempts, least := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 12: 20480 * time.Second,
		13: 6 * time.Hour, 16: 6 * time.Hour, 1000: 6 * time.Hour,
	} {
		for range 100 {
			if got := retryIn(attempts); got < least || got >= least+least/4 {
				t.Fatalf("retryIn(%d) = %v, want %v to a quarter more", attempts, got, least)
			}
		}
	}
}
