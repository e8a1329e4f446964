package core

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// applyCounter counts what is written.
type applyCounter struct {
	storage.Store
	applies atomic.Int64
}

func (c *applyCounter) Apply(ctx context.Context, b storage.Batch) error {
	c.applies.Add(1)
	return c.Store.Apply(ctx, b)
}

// benchConnect is an engine with the integrations oauth and keys, and what it writes.
func benchConnect(b *testing.B) (*Engine, *applyCounter) {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(answerCrowd))
	b.Cleanup(server.Close)
	kek, err := crypto.NewKEK()
	if err != nil {
		b.Fatal(err)
	}
	store, ctx := &applyCounter{Store: memory.New()}, context.Background()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &Options{
		CallbackURL: "http://127.0.0.1:1/callback", PrivateHosts: []string{strings.TrimPrefix(server.URL, "http://")},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	for _, in := range crowdIntegrations(server.URL) {
		if _, err := e.CreateIntegration(ctx, in); err != nil {
			b.Fatal(err)
		}
	}
	return e, store
}

// BenchmarkAddKey connects accounts with a key, each by a user who has one already, and tells what that writes.
func BenchmarkAddKey(b *testing.B) {
	e, store := benchConnect(b)
	ctx := context.Background()
	var before, connects int64
	for b.Loop() {
		if connects == 0 {
			before = store.applies.Load()
		}
		_, err := e.User(fmt.Sprint("user-", connects/2)).AddKey(ctx, KeyInput{
			Integration: "keys", Key: crypto.NewSecret(fmt.Sprint("key-", connects)), AllowMultiple: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		connects++
	}
	b.ReportMetric(float64(store.applies.Load()-before)/float64(connects), "applies/connect")
}

// BenchmarkCallback finishes connect sessions, and tells what that writes: that the session is claimed, before the code is
// spent, and the account.
func BenchmarkCallback(b *testing.B) {
	e, store := benchConnect(b)
	ctx := context.Background()
	var applies, connects int64
	for b.Loop() {
		session, err := e.User(fmt.Sprint("user-", connects/2)).Connect(ctx, ConnectInput{
			Integration: "oauth", AllowMultiple: true, Browser: "b",
		})
		if err != nil {
			b.Fatal(err)
		}
		at, err := url.Parse(session.URL)
		if err != nil {
			b.Fatal(err)
		}
		before := store.applies.Load()
		_, err = e.Callback(ctx, CallbackInput{
			Integration: "oauth", Browser: "b", Values: url.Values{"state": {at.Query().Get("state")}, "code": {fmt.Sprint(connects)}},
		})
		if err != nil {
			b.Fatal(err)
		}
		applies += store.applies.Load() - before
		connects++
	}
	b.ReportMetric(float64(applies)/float64(connects), "applies/callback")
}
