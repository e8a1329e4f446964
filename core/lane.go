package core

import (
	"context"
	"sync"
	"time"

	"github.com/polycred/polycred/core/internal/due"
)

// laneLength is how many entries of one integration wait for their turn.
const laneLength = 4096

// lanes work on due entries, those of each integration by themselves: a provider that hangs or limits us holds up no
// other. Workers are there while there is work.
type lanes struct {
	limit int // of workers in a lane
	work  func(context.Context, due.Entry)

	mu      sync.Mutex // guards all below
	byName  map[string]*lane
	workers int
	idle    chan struct{} // closed when the last worker ends
	lost    bool          // entries that were in work or waiting when their context ended
}

type lane struct {
	waiting []due.Entry
	workers int
	paused  time.Time // the provider asked for a pause until then
}

// enqueue adds an entry to the lane of an integration, and reports whether there was room.
func (l *lanes) enqueue(ctx context.Context, integration string, entry due.Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.byName[integration]
	if in == nil {
		in = &lane{}
		l.byName[integration] = in
	}
	if len(in.waiting) >= laneLength {
		return false
	}
	in.waiting = append(in.waiting, entry)
	if in.workers < l.limit {
		if in.workers++; l.workers == 0 {
			l.idle = make(chan struct{})
		}
		l.workers++
		go l.drain(ctx, in)
	}
	return true
}

// drain works until the lane is empty.
func (l *lanes) drain(ctx context.Context, in *lane) {
	for {
		l.mu.Lock()
		if ctx.Err() != nil && len(in.waiting) > 0 {
			in.waiting, l.lost = nil, true
		}
		if len(in.waiting) == 0 {
			in.workers--
			if l.workers--; l.workers == 0 {
				close(l.idle)
			}
			l.mu.Unlock()
			return
		}
		entry := in.waiting[0]
		in.waiting = in.waiting[1:]
		l.mu.Unlock()
		l.work(ctx, entry)
	}
}

// settle waits until the lanes are empty.
func (l *lanes) settle(ctx context.Context) error {
	for {
		l.mu.Lock()
		workers, idle := l.workers, l.idle
		l.mu.Unlock()
		if workers == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lose notes that an entry was not worked on to its end.
func (l *lanes) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = true
}

// dropped reports whether entries were lost since it was last asked.
func (l *lanes) dropped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := l.lost
	l.lost = false
	return lost
}

// pause keeps an integration from being asked until then.
func (l *lanes) pause(integration string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.byName[integration]; in != nil && until.After(in.paused) {
		in.paused = until
	}
}

// pausedUntil returns until when an integration is not to be asked, zero if it may be.
func (l *lanes) pausedUntil(integration string, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.byName[integration]; in != nil && now.Before(in.paused) {
		return in.paused
	}
	return time.Time{}
}
