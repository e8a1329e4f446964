package badger_test

import (
	"fmt"
	"os"
	"syscall"
	"strconv"
	"testing"
	"errors"
	"time"
	"context"
	"sync"
	"math/rand/v2"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

func TestExpKill(t *testing.T) {
	dir := os.Getenv("EXPK_DIR")
	if dir == "" { return }
	val, _ := strconv.Atoi(os.Getenv("EXP_VAL"))
	dur, _ := time.ParseDuration(os.Getenv("EXP_DUR"))
	s := openIn(t, dir+"/db", nil)
	ctx := context.Background()
	var wg sync.WaitGroup
	go func() { time.Sleep(dur); syscall.Kill(os.Getpid(), syscall.SIGKILL) }()
	for g := range 8 {
		wg.Go(func() {
			v := make([]byte, val)
			r := rand.New(rand.NewPCG(uint64(g), rand.Uint64()))
			for i := range v { v[i] = byte(r.Uint32()) }
			for {
				var b storage.Batch
				for range 4 { b.Puts = append(b.Puts, storage.Put{Key: fmt.Appendf(nil, "%d-%016x", g, r.Uint64()), Value: v, Rev: 1}) }
				if err := s.Apply(ctx, b); errors.Is(err, storage.ErrFull) { time.Sleep(dur/20); syscall.Kill(os.Getpid(), syscall.SIGKILL) }
			}
		})
	}
	wg.Wait()
}

func TestExpOpen(t *testing.T) {
	dir := os.Getenv("EXPO_DIR")
	if dir == "" { return }
	var need, left uint64
	need, left, err := badger.Pending(dir + "/db")
	f := bfree(dir)
	fmt.Printf("pending need %d leftover %d free %d MiB ", need>>20, left>>20, f>>20)
	if f+left > need { // fill up
		bal, err := os.Create(dir + "/ballast")
		if err != nil { t.Fatal(err) }
		if e := syscall.Fallocate(int(bal.Fd()), 0, 0, int64(f+left-need-8192)); e != nil { fmt.Println("falloc", e) }
		bal.Close()
	}
	start := bfree(dir)
	s, err := badger.Open(dir+"/db", nil)
	if err != nil { fmt.Println("open:", err); return }
	low := uint64(1<<60)
	for end := time.Now().Add(4*time.Second); time.Now().Before(end); {
		low = min(low, bfree(dir))
	}
	fmt.Printf("start free %d lowest %d end %d ", start>>20, low>>20, bfree(dir)>>20)
	err = s.Apply(context.Background(), storage.Batch{Deletes: []storage.Delete{{Key: []byte("a"), If: storage.Any}}})
	fmt.Println(err, s.Close())
}
