package core_test

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// Keys are listed as they were added; adding one twice is adding it once.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, e := t.Context(), w.engine
	begun := w.clock.Now()
	var want []core.SigningKey
	for i, label := range []string{"first", "second", ""} {
		key, err := e.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: publicPEM(testKey(i)), Label: " " + label + " "})
		if err != nil {
			t.Fatal(err)
		}
		id, err := usertoken.KeyID(testKey(i).Public())
		if err != nil {
			t.Fatal(err)
		}
		if key.ID != id || key.Label != label || !key.Created.Equal(begun) || key.Revision == 0 || key.PublicKey != publicPEM(testKey(i)) {
			t.Errorf("AddSigningKey(%d) = %+v, want key %s of now", i, key, id)
		}
		want = append(want, key)
	}
	again, err := e.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: strings.ReplaceAll(publicPEM(testKey(0)), "\n", `\n`), Label: "again"})
	if err != nil || again != want[0] {
		t.Errorf("AddSigningKey(the first again) = %+v, %v, want %+v", again, err, want[0])
	}
	slices.SortFunc(want, func(a, b core.SigningKey) int { return cmp.Compare(a.ID, b.ID) })
	if got, err := w.open().SigningKeys(ctx); err != nil || !slices.Equal(got, want) {
		t.Errorf("SigningKeys() = %v, %v, want %v", got, err, want)
	}
	w.wantErr("RevokeSigningKey(unknown)", e.RevokeSigningKey(ctx, "unknown"), core.ErrNotFound)
	if err := e.RevokeSigningKey(ctx, want[1].ID); err != nil {
		t.Fatal(err)
	}
	w.wantErr("RevokeSigningKey(twice)", e.RevokeSigningKey(ctx, want[1].ID), core.ErrNotFound)
	if got, err := e.SigningKeys(ctx); err != nil || !slices.Equal(got, []core.SigningKey{want[0], want[2]}) {
		t.Errorf("SigningKeys() = %v, %v, want all but %s", got, err, want[1].ID)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantErr("AddSigningKey(closed)", ignore(e.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: publicPEM(testKey(1))})), core.ErrClosed)
	w.wantErr("SigningKeys(closed)", ignore(e.SigningKeys(ctx)), core.ErrClosed)
	w.wantErr("RevokeSigningKey(closed)", e.RevokeSigningKey(ctx, want[0].ID), core.ErrClosed)
}

// Whatever was pasted by mistake, also the private half, is refused and never repeated.
func TestSecurity17_SigningKeyInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	der, err := x509.MarshalPKCS8PrivateKey(testKey(0))
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for name, text := range map[string]string{
		"nothing": "", "a word": "canary", "private": private, "private, called public": strings.ReplaceAll(private, "PRIVATE", "PUBLIC"),
		"both": publicPEM(testKey(0)) + private, "cut": publicPEM(testKey(0))[:80],
	} {
		_, err := w.engine.AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: text})
		w.wantInput("AddSigningKey("+name+")", err, "publicKey")
		if err != nil && (strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(der)[40:]) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("AddSigningKey(%s) = %v, which repeats what was given", name, err)
		}
	}
	for _, label := range []string{"two\nlines", strings.Repeat("x", 256), "\xff"} {
		_, err := w.engine.AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(0)), Label: label})
		w.wantInput("AddSigningKey(with a label)", err, "label")
	}
	if keys, err := w.engine.SigningKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("SigningKeys() = %v, %v, want none", keys, err)
	}
}

// No more than 20 live at a time, however they come.
func TestSigningKeysRace(t *testing.T) {
	t.Parallel()
	t.Run("different ones", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		var mu sync.Mutex
		added := 0
		together(crowd, func(i int) {
			_, err := w.engine.AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(i))})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				added++
			} else if !errors.Is(err, core.ErrTooMany) {
				t.Errorf("AddSigningKey(%d) = %v, want nil or %v", i, err, core.ErrTooMany)
			}
		})
		keys, err := w.engine.SigningKeys(t.Context())
		if err != nil || added != 20 || len(keys) != 20 {
			t.Errorf("%d were added, SigningKeys() = %d, %v, want 20", added, len(keys), err)
		}
		if err := w.engine.RevokeSigningKey(t.Context(), keys[0].ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.engine.AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(crowd))}); err != nil {
			t.Errorf("AddSigningKey in the place of one that was revoked = %v", err)
		}
	})
	t.Run("the same", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		engines := []*core.Engine{w.engine, w.open()}
		before := len(w.events(0))
		revisions := make([]uint64, crowd)
		together(crowd, func(i int) {
			key, err := engines[i%2].AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(0))})
			if revisions[i] = key.Revision; err != nil {
				t.Errorf("AddSigningKey() = %v", err)
			}
		})
		if slices.Sort(revisions); revisions[0] == 0 || len(slices.Compact(revisions)) != 1 {
			t.Errorf("revisions = %v, want one", revisions)
		}
		if events := w.events(uint64(before)); len(events) != 1 || events[0].Kind != core.EventSigningKeyAdded {
			t.Errorf("events = %v, want that one key was added", events)
		}
	})
}

// Where two processes add the 21st key at once, none that was in use is given up for it.
func TestSigningKeysOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	engines := make([]*core.Engine, 16)
	for i := range engines {
		engines[i] = d.open()
	}
	for i := 1; i < 19; i++ {
		d.addKeyOf(d.engine, i)
	}
	d.clock.Advance(time.Millisecond)
	together(len(engines), func(i int) {
		_, err := engines[i].AddSigningKey(t.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(19 + i))})
		if err != nil && !errors.Is(err, core.ErrTooMany) {
			t.Errorf("AddSigningKey() = %v", err)
		}
	})
	for i := range 19 {
		d.refused("a key from before", d.engine, d.mintWith(i, usertoken.MintInput{}), nil)
	}
	lets := 0
	for i := range engines {
		if _, err := d.try(d.engine, d.mintWith(19+i, usertoken.MintInput{})); err == nil {
			lets++
		}
	}
	if lets != 1 {
		t.Errorf("%d of the last keys are used, want 1", lets)
	}
}
