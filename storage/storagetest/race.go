package storagetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/storage"
)

var raceTests = map[string]func(t *testing.T, h Harness){
	"Counter":      testCounter,
	"Claim":        testClaim,
	"Transfer":     testTransfer,
	"Cancel":       testCancelledApply,
	"CancelRace":   testCancelRace,
	"CloseInApply": testCloseInApply,
	"CloseInRead":  testCloseInRead,
}

const racers = 64

// race runs do on all racers at once and waits for them.
func race(do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// testCounter lets every racer add one to the same counter, again and again until it succeeds.
func testCounter(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	first := create(t, s, "counter", "0")
	race(func(int) {
		for {
			item, err := s.Get(ctx, []byte("counter"))
			if err != nil {
				t.Errorf("Get(counter) = %v, want nil", err)
				return
			}
			n, _ := strconv.Atoi(string(item.Value))
			b := put("counter", strconv.Itoa(n+1), item.Rev, item.Rev+1)
			err = s.Apply(ctx, b)
			if err == nil {
				return
			}
			if !isConflict(err, b) {
				t.Errorf("Apply(%s) = %v, want nil or a conflict", text(b), err)
				return
			}
		}
	})
	holds(t, s, "counter", strconv.Itoa(racers), first+racers)
}

// testClaim lets all racers claim the same name, each together with a record of its own.
func testClaim(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	var winners, winner atomic.Int64
	race(func(i int) {
		b := join(put(fmt.Sprintf("record %d", i), "x", 0, newRev()), put("name", strconv.Itoa(i), 0, newRev()))
		switch err := s.Apply(ctx, b); {
		case err == nil:
			winners.Add(1)
			winner.Store(int64(i))
		case !isConflict(err, b):
			t.Errorf("Apply(%s) = %v, want nil or a conflict", text(b), err)
		}
	})
	if got := winners.Load(); got != 1 {
		t.Errorf("%d racers claimed the name, want 1", got)
	}
	item, err := s.Get(ctx, []byte("name"))
	if want := strconv.FormatInt(winner.Load(), 10); err != nil || string(item.Value) != want {
		t.Errorf("Get(name) = %q, %v, want %q", item.Value, err, want)
	}
	if got := len(contents(t, s, 0)); got != 2 {
		t.Errorf("the store holds %d items, want the name and the winner's record", got)
	}
}

// testTransfer moves amounts between accounts: the sum stays, in the end and on every page in between.
func testTransfer(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	const accounts, each = 8, 1000
	amount := func(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
	for i := range accounts {
		create(t, s, fmt.Sprint(i), amount(each))
	}
	race(func(i int) {
		from, to := fmt.Sprint(i%accounts), fmt.Sprint((i/accounts+i+1)%accounts)
		if from == to {
			return
		}
		for {
			page, err := s.Scan(ctx, storage.Range{})
			if err != nil {
				t.Errorf("Scan() = %v, want nil", err)
				return
			}
			sum, now := uint64(0), map[string]storage.Item{}
			for _, item := range page.Items {
				sum += binary.BigEndian.Uint64(item.Value)
				now[string(item.Key)] = item
			}
			if sum != accounts*each {
				t.Errorf("the accounts hold %d on one page, want %d", sum, accounts*each)
			}
			a, b := now[from], now[to]
			batch := join(
				put(from, amount(binary.BigEndian.Uint64(a.Value)-1), a.Rev, a.Rev+1),
				put(to, amount(binary.BigEndian.Uint64(b.Value)+1), b.Rev, b.Rev+1),
			)
			err = s.Apply(ctx, batch)
			if err == nil {
				return
			}
			if !isConflict(err, batch) {
				t.Errorf("Apply(%s) = %v, want nil or a conflict", text(batch), err)
				return
			}
		}
	})
}

func testCancelledApply(t *testing.T, h Harness) {
	s := h.open(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("not the context's error"))
	if err := s.Apply(ctx, put("a", "x", 0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply with a cancelled context = %v, want context.Canceled", err)
	}
	lacks(t, s, "a")
}

// testCancelRace cancels while Apply runs. Whatever it answers must be true, unless it says that it does not know.
func testCancelRace(t *testing.T, h Harness) {
	s := h.open(t)
	race(func(i int) {
		for n := range 4 {
			key := fmt.Sprintf("%d %d", i, n)
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(cancel)
			err := s.Apply(ctx, put(key, "x", 0, 1))
			wg.Wait()
			_, missing := s.Get(context.Background(), []byte(key))
			switch {
			case err == nil && missing != nil:
				t.Errorf("Apply(%s) = nil, but Get = %v", key, missing)
			case errors.Is(err, storage.ErrUnknownOutcome):
			case err != nil && !errors.Is(err, context.Canceled):
				t.Errorf("Apply(%s) = %v, want nil or context.Canceled", key, err)
			case err != nil && !errors.Is(missing, storage.ErrNotFound):
				t.Errorf("Apply(%s) = %v, but Get = %v, want ErrNotFound", key, err, missing)
			}
		}
	})
}

// testCloseInApply closes the store while all racers write.
func testCloseInApply(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	var acknowledged sync.Map
	var once sync.Once
	var closer sync.WaitGroup
	race(func(i int) {
		for n := 0; ; n++ {
			key := fmt.Sprintf("%d %d", i, n)
			err := s.Apply(ctx, put(key, "x", 0, 1))
			if errors.Is(err, storage.ErrClosed) {
				return
			}
			if err != nil {
				t.Errorf("Apply(%s) = %v, want nil or ErrClosed", key, err)
				return
			}
			acknowledged.Store(key, true)
			if n == 2 {
				once.Do(func() {
					closer.Go(func() {
						if err := s.Close(); err != nil {
							t.Errorf("Close() = %v, want nil", err)
						}
					})
				})
			}
		}
	})
	closer.Wait()
	if h.Reopen == nil {
		return
	}
	s = h.reopen(t, s)
	acknowledged.Range(func(key, _ any) bool {
		holds(t, s, key.(string), "x", 1)
		return true
	})
}

// testCloseInRead closes the store while all racers read.
func testCloseInRead(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	for i := range 10 {
		create(t, s, fmt.Sprint(i), "x")
	}
	var once sync.Once
	var closer sync.WaitGroup
	race(func(i int) {
		for n := 0; ; n++ {
			_, get := s.Get(ctx, []byte("5"))
			_, many := s.GetMany(ctx, [][]byte{[]byte("1"), []byte("2")})
			_, scan := s.Scan(ctx, storage.Range{})
			for _, err := range []error{get, many, scan} {
				if err != nil && !errors.Is(err, storage.ErrClosed) {
					t.Errorf("a read beside Close = %v, want nil or ErrClosed", err)
				}
			}
			if scan != nil {
				return
			}
			if n == 3 {
				once.Do(func() {
					closer.Go(func() {
						if err := s.Close(); err != nil {
							t.Errorf("Close() = %v, want nil", err)
						}
					})
				})
			}
		}
	})
	closer.Wait()
}
