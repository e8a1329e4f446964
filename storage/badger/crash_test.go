package badger_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// write opens the store and writes until it is killed. Each key is printed when its Apply was acknowledged. The keys
// begin with the number of the process, so that those of earlier rounds stay.
func write(dir string) {
	s, err := badger.Open(dir, nil)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return
	}
	var mu sync.Mutex // guards standard output
	var wg sync.WaitGroup
	value := strings.Repeat("v", 10_000) // large enough to have memtables flushed in between
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%d/%d/%d", os.Getpid(), i, n)
				b := put(key, value, 0, 1)
				b.Puts = append(b.Puts, put(key+"/twin", value, 0, 1).Puts...)
				if err := s.Apply(context.Background(), b); err != nil {
					panic(err)
				}
				mu.Lock()
				_, _ = fmt.Fprintln(os.Stdout, key)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills a process that writes, again and again, and looks for everything that it acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round, acks := range []int{1, 10, 100, 1000} {
		child := start(t, "write", dir)
		for range acks {
			line, ok := child.line()
			if !ok || !strings.Contains(line, "/") {
				t.Fatalf("round %d: the child said %q, want a key", round, line)
			}
			acknowledged[line] = true
		}
		for _, line := range child.kill(t) {
			acknowledged[line] = true
		}
		s := openIn(t, dir, nil)
		held := map[string]bool{}
		for r := (storage.Range{KeysOnly: true}); ; {
			page, err := s.Scan(t.Context(), r)
			if err != nil {
				t.Fatalf("Scan() = %v, want nil", err)
			}
			for _, item := range page.Items {
				held[string(item.Key)] = true
			}
			if page.Next == nil {
				break
			}
			r.After = page.Next
		}
		mustClose(t, s)
		for key := range acknowledged {
			if !held[key] || !held[key+"/twin"] {
				t.Errorf("round %d: %s was acknowledged and is lost", round, key)
			}
		}
		for key := range held {
			if whole := strings.TrimSuffix(key, "/twin"); !held[whole] || !held[whole+"/twin"] {
				t.Errorf("round %d: half of the batch of %s is there", round, whole)
			}
		}
	}
	t.Logf("%d batches were acknowledged and survived", len(acknowledged))
}
