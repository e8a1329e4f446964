package coretest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
)

func TestClock(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(time.Time{})
	start := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	if got := c.Now(); !got.Equal(start) {
		t.Errorf("Now() = %v, want %v", got, start)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { c.Advance(time.Minute) })
	}
	wg.Wait()
	if got, want := c.Now(), start.Add(10*time.Minute); !got.Equal(want) {
		t.Errorf("Now() after Advance = %v, want %v", got, want)
	}
	c.Advance(-time.Hour)
	c.Set(start)
	if got := c.Now(); got != start {
		t.Errorf("Now() after Set = %v, want %v", got, start)
	}
	if now := time.Now(); coretest.NewClock(now).Now() != now.Round(0) {
		t.Error("NewClock kept the monotonic reading")
	}
}
