package core

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

// benchDirEnv names a directory in which stores that take long to fill stay from one run to the next: internal/benchtable
// sets it, and removes the directory at its end.
const benchDirEnv = "POLYCRED_BENCH_DIR"

// listUsers is how many users have ten accounts, one behind the other, so that no page is read twice in a row.
const listUsers = 64

// listUser is whose the i-th account is: one user's thousand, then those of the users with ten, then everybody else's.
func listUser(i int) string {
	switch {
	case i < 1000:
		return "thousand"
	case i < 1000+10*listUsers:
		return tenUser((i - 1000) / 10)
	}
	return benchUser(i)
}

func tenUser(i int) string { return fmt.Sprintf("ten-%d", i%listUsers) }

// listStore returns the directory of a store with n credentials, and its key.
func listStore(b *testing.B, n int) (dir string, kek *crypto.LocalKEK) {
	b.Helper()
	root := os.Getenv(benchDirEnv)
	if root == "" {
		root = b.TempDir()
	}
	dir = filepath.Join(root, fmt.Sprintf("list-%d", n))
	kek, err := crypto.OpenKEK(dir + ".kek")
	if errors.Is(err, os.ErrNotExist) { // it gets that name when all else is done
		if err = fillList(dir, n); err == nil {
			kek, err = crypto.OpenKEK(dir + ".kek")
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return dir, kek
}

func fillList(dir string, n int) error {
	making := dir + ".making"
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(making)); err != nil { // of a run that was cut short
		return err
	}
	kek, err := crypto.CreateKEK(making)
	if err != nil {
		return err
	}
	if _, err := seed(dir, kek, n, listUser); err != nil {
		return err
	}
	if err := flatten(dir); err != nil {
		return err
	}
	return os.Rename(making, dir+".kek")
}

// BenchmarkList lists all accounts of one user, 10 or 1,000 of them, in a small store and in a large one.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			dir, kek := listStore(b, n)
			store, err := badger.Open(dir, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			ctx := context.Background()
			e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = e.Close() }()
			b.Run("accounts=10", func(b *testing.B) { benchmarkList(b, e, 10, tenUser) })
			b.Run("accounts=1000", func(b *testing.B) { benchmarkList(b, e, 1000, func(int) string { return "thousand" }) })
		})
	}
}

func benchmarkList(b *testing.B, e *Engine, accounts int, user func(i int) string) {
	ctx := context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		page, err := e.User(user(i)).Credentials(ctx, ListInput{Integration: "googleCalendar", Limit: 1000})
		if err != nil || len(page.Credentials) != accounts || page.Next != "" {
			b.Fatalf("Credentials() = %d accounts, next %q, %v, want %d", len(page.Credentials), page.Next, err, accounts)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*accounts), "ns/account")
}
