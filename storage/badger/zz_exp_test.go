package badger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sync/atomic"
	"sync"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

func bfree(dir string) uint64 {
	var st unix.Statfs_t
	unix.Statfs(dir, &st)
	return st.Bavail * uint64(st.Bsize)
}

// EXP_DIR mounted tmpfs; EXP_MIN minfree MiB; EXP_VAL value size; EXP_OVER 1: overwrite existing keys.
func TestExp(t *testing.T) {
	dir := os.Getenv("EXP_DIR")
	if dir == "" {
		return
	}
	min, _ := strconv.Atoi(os.Getenv("EXP_MIN"))
	val, _ := strconv.Atoi(os.Getenv("EXP_VAL"))
	nkeys, _ := strconv.Atoi(os.Getenv("EXP_KEYS"))
	dur, _ := time.ParseDuration(os.Getenv("EXP_DUR"))
	s := openIn(t, dir+"/db", &badger.Options{MinFree: uint64(min) << 20})
	var lowest atomic.Uint64
	lowest.Store(1 << 60)
	stop := make(chan bool)
	var wg sync.WaitGroup
	var atFull atomic.Uint64
	wg.Go(func() {
		var peakL0 int64
		for {
			select {
			case <-stop:
				fmt.Println("peak L0 MiB", peakL0>>20)
				return
			default:
			}
			if f := bfree(dir); f < lowest.Load() {
				lowest.Store(f)
			}
			for _, l := range s.DB().Levels()[:1] { if l.Size > peakL0 { peakL0 = l.Size } }
		}
	})
	ctx := context.Background()
	end := time.Now().Add(dur)
	var full, ok atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			v := make([]byte, val)
			r := rand.New(rand.NewPCG(uint64(g), 2))
			for i := range v { v[i] = byte(r.Uint32()) }
			for n := 0; time.Now().Before(end); n++ {
				var b storage.Batch
				for range 4 {
					k := fmt.Appendf(nil, "%d-%016x", g, r.IntN(nkeys)*7919)
					if len(b.Puts) > 0 && string(b.Puts[0].Key) == string(k) { continue }
					it, _ := s.Get(ctx, k)
					b.Puts = append(b.Puts, storage.Put{Key: k, Value: v, If: it.Rev, Rev: it.Rev + 1})
				}
				err := s.Apply(ctx, b)
				switch {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, storage.ErrFull):
					if full.Add(1) == 1 {
						atFull.Store(bfree(dir))
						fmt.Println("first full:", err, "after", ok.Load(), "applies, MiB", ok.Load()*int64(val)*4>>20)
						for _, l := range s.DB().Levels() { if l.Size > 0 { fmt.Println("  level", l.Level, l.NumTables, l.Size>>20, "MiB base", l.IsBaseLevel, "file", l.TargetFileSize>>20) } }
					}
					time.Sleep(time.Millisecond)
				default:
					if ok.Load() > 0 && !errors.Is(err, storage.ErrInvalid) && n < 5 { fmt.Println("err", err) }
				}
			}
		})
	}
	time.Sleep(dur + 100*time.Millisecond)
	close(stop)
	wg.Wait()
	fmt.Printf("min=%d MiB: ok %d full %d lowest free %d MiB, free now %d MiB\n", min, ok.Load(), full.Load(), lowest.Load()>>20, bfree(dir)>>20)
	for _, l := range s.DB().Levels() { if l.Size > 0 { fmt.Println("  level", l.Level, l.NumTables, l.Size>>20, "MiB base", l.IsBaseLevel, "file", l.TargetFileSize>>20) } }
	t0 := time.Now()
	fmt.Println("close", s.Close(), time.Since(t0), "free", bfree(dir)>>20)
	s2, err := badger.Open(dir+"/db", &badger.Options{MinFree: uint64(min) << 20})
	fmt.Println("reopen", err, "free", bfree(dir)>>20)
	if err == nil { time.Sleep(2*time.Second); fmt.Println("free after 2s", bfree(dir)>>20); fmt.Println(s2.Close()) }
}
