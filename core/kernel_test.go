package core_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// mailboxes is what a package above the kernel looks like: it keeps a record of its own beside each account.
type mailboxes struct {
	table *sealed.Table[mailboxRecord] // user, credential
	kern  *kernel.Kernel

	mu    sync.Mutex // guards deny
	deny  error      // what hooks return
	steps int        // how often the task ran
}

type mailboxRecord struct {
	Integration string `cbor:"1,keyasint"`
	Connects    int    `cbor:"2,keyasint"`
}

func newMailboxes(e *core.Engine) *mailboxes {
	k := e.Kernel()
	m := &mailboxes{kern: k, table: sealed.NewTable[mailboxRecord](k.DB(), sealed.Spec{Tag: 'M', Name: "mailbox", Plane: sealed.Policy, Format: 1})}
	k.OnConnect(m.connected)
	k.OnReconnect(m.connected)
	k.OnDisconnect(m.disconnected)
	k.Background(time.Minute, func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.steps++
		return nil
	})
	return m
}

func (m *mailboxes) denied() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deny
}

func (m *mailboxes) connected(ctx context.Context, tx *sealed.Tx, c kernel.Credential) error {
	record, rev, err := m.table.Get(ctx, c.User, c.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	record.Integration = c.Integration
	record.Connects++
	m.table.Put(tx, &record, rev, c.User, c.ID)
	m.kern.Emit(tx, kernel.Event{Kind: "mailbox.connected", Actor: "engine", User: c.User, Credential: c.ID, Result: "ok"})
	return m.denied()
}

func (m *mailboxes) disconnected(ctx context.Context, tx *sealed.Tx, c kernel.Credential) error {
	_, rev, err := m.table.Get(ctx, c.User, c.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return m.denied()
	} else if err != nil {
		return err
	}
	m.table.Delete(tx, rev, c.User, c.ID)
	return m.denied()
}

func (m *mailboxes) of(t *testing.T, user string) map[string]mailboxRecord {
	t.Helper()
	rows, _, err := m.table.List(t.Context(), []string{user}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]mailboxRecord{}
	for _, row := range rows {
		got[row.Key[1]] = row.Value
	}
	return got
}

// A package above the kernel changes its own records together with an account, over OAuth.
func TestKernelHooks(t *testing.T) {
	t.Parallel()
	counted := newCounter(nil)
	w := newWorld(t, counted, nil)
	m := newMailboxes(w.engine)

	work := w.mustConnect("ada", "ada", core.ConnectInput{ExternalID: "work"})
	home := w.mustConnect("ada", "bob", core.ConnectInput{AllowMultiple: true})
	want := map[string]mailboxRecord{work.ID: {calendar, 1}, home.ID: {calendar, 1}}
	if diff := cmp.Diff(want, m.of(t, "ada")); diff != "" {
		t.Errorf("after two connects (-want +got):\n%s", diff)
	}
	w.mustConnect("ada", "ada", core.ConnectInput{Into: work.ID})
	want[work.ID] = mailboxRecord{calendar, 2}
	if diff := cmp.Diff(want, m.of(t, "ada")); diff != "" {
		t.Errorf("after a reconnect (-want +got):\n%s", diff)
	}

	m.deny = errors.New("the mailbox is locked")
	if _, err := w.connect("ada", "cyd", core.ConnectInput{AllowMultiple: true}); !errors.Is(err, m.deny) {
		t.Errorf("connect with a hook that fails: %v, want its error", err)
	}
	if err := w.engine.User("ada").Disconnect(t.Context(), core.Selector{Credential: home.ID}); !errors.Is(err, m.deny) {
		t.Errorf("disconnect with a hook that fails: %v, want its error", err)
	}
	if got := len(w.list("ada")); got != 2 {
		t.Errorf("%d accounts after hooks stopped a connect and a disconnect, want 2", got)
	}
	if diff := cmp.Diff(want, m.of(t, "ada")); diff != "" {
		t.Errorf("after changes that a hook stopped (-want +got):\n%s", diff)
	}

	m.deny = nil
	before := counted.applies.Load()
	if err := w.engine.User("ada").Disconnect(t.Context(), core.Selector{Credential: home.ID}); err != nil {
		t.Fatal(err)
	}
	if got := counted.applies.Load() - before; got != 1 {
		t.Errorf("a disconnect with a hook = %d Applies, want 1", got)
	}
	delete(want, home.ID)
	if diff := cmp.Diff(want, m.of(t, "ada")); diff != "" {
		t.Errorf("after a disconnect (-want +got):\n%s", diff)
	}

	if err := coretest.Step(w.engine); err != nil {
		t.Fatal(err)
	}
	if m.steps != 1 {
		t.Errorf("the task ran %d times in one Step, want once", m.steps)
	}
	kinds := map[core.EventKind]int{}
	for _, ev := range w.events(0) {
		kinds[ev.Kind]++
	}
	if kinds["mailbox.connected"] != 3 {
		t.Errorf("events of the package above = %d, want 3: one for each change that was applied", kinds["mailbox.connected"])
	}
}

// Each change of an account is one Apply, with what a hook adds to it: the hook's record is there afterwards, and where the
// hook refuses nothing is written at all.
func TestKernelHooksInOneApply(t *testing.T) {
	t.Parallel()
	counted := newCounter(nil)
	g := newGate(t, counted, nil)
	m := newMailboxes(g.engine)
	ctx, u := t.Context(), g.acme("")
	declare := func(name string, required bool) {
		in, err := g.engine.Integration(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		in.Setup[0].Required = required
		if _, err := g.engine.UpdateIntegration(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]mailboxRecord{}
	applies := func(what string, n int64, do func() error, refused error) {
		t.Helper()
		before := counted.applies.Load()
		g.wantErr(what, do(), refused)
		if got := counted.applies.Load() - before; got != n {
			t.Errorf("%s = %d Applies, want %d", what, got, n)
		}
	}
	// change is refused by the hook first, and then let.
	change := func(what string, do func() error, becomes func()) {
		t.Helper()
		m.deny = errors.New("the mailbox is locked")
		applies(what+" that a hook refuses", 0, do, m.deny)
		if diff := cmp.Diff(want, m.of(t, "acme")); diff != "" {
			t.Errorf("after %s that a hook refused (-want +got):\n%s", what, diff)
		}
		m.deny = nil
		applies(what, 1, do, nil)
		becomes()
		if diff := cmp.Diff(want, m.of(t, "acme")); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", what, diff)
		}
	}
	var account core.Credential
	add := func(in core.KeyInput) func() error {
		return func() (err error) {
			account, err = g.tryMail(u, "ada", in)
			return err
		}
	}
	change("a connect", add(core.KeyInput{ExternalID: "work"}), func() { want[account.ID] = mailboxRecord{"mail", 1} })
	change("a reconnect", add(core.KeyInput{Into: "work"}), func() { want[account.ID] = mailboxRecord{"mail", 2} })
	change("the same account again", add(core.KeyInput{}), func() { want[account.ID] = mailboxRecord{"mail", 3} })
	change("a disconnect", func() error { return u.Disconnect(ctx, core.Selector{Credential: account.ID}) }, func() { delete(want, account.ID) })

	declare("mail", true)
	m.deny = errors.New("no hook hears of a pending account")
	applies("a connect that leaves it pending", 1, add(core.KeyInput{}), nil)
	change("completing the setup", func() error {
		_, err := u.CompleteSetup(ctx, core.Selector{Credential: account.ID}, map[string]any{"site": "north"})
		return err
	}, func() { want[account.ID] = mailboxRecord{"mail", 1} })

	// Over OAuth the session is closed in the same Apply; one that came before spends it.
	declare(calendar, false)
	session, err := g.start(u, core.ConnectInput{})
	if err != nil {
		t.Fatal(err)
	}
	callback := g.consent(session, "ada", calendar, "the browser")
	applies("a callback", callbackApplies, func() error {
		result, err := g.engine.Callback(ctx, callback)
		if err == nil {
			want[result.Credential.ID] = mailboxRecord{calendar, 1}
		}
		return err
	}, nil)
	if diff := cmp.Diff(want, m.of(t, "acme")); diff != "" {
		t.Errorf("after a callback (-want +got):\n%s", diff)
	}
}

// callbackApplies are those of a callback: one that spends the session, and one that is the account and the session's end.
const callbackApplies = 2

// What a hook adds is all or nothing with an account also when 64 connects of the same account race.
func TestKernelHooksRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	m := newMailboxes(w.engine)
	w.race(64, func(int) (core.Credential, error) {
		return w.connect("ada", "ada", core.ConnectInput{AllowMultiple: true})
	})
	got := m.of(t, "ada")
	if len(got) != 1 {
		t.Fatalf("%d mailboxes of one account, want 1", len(got))
	}
	for id, record := range got {
		if record.Connects != 64 {
			t.Errorf("mailbox %s saw %d connects, want 64", id, record.Connects)
		}
	}
}

// Hooks hear of an account only once it is usable.
func TestKernelHooksPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	m := newMailboxes(w.engine)
	w.change(func(in *core.Integration) {
		in.Setup = []input.Input{{ID: "site", Type: input.Text, Required: true}}
	})
	account := w.mustConnect("ada", "ada", core.ConnectInput{})
	if got := m.of(t, "ada"); len(got) != 0 {
		t.Errorf("mailboxes while the account is pending = %v, want none", got)
	}
	if _, err := w.engine.User("ada").CompleteSetup(t.Context(), core.Selector{Credential: account.ID}, map[string]any{"site": "north"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]mailboxRecord{account.ID: {calendar, 1}}, m.of(t, "ada")); diff != "" {
		t.Errorf("after the setup was completed (-want +got):\n%s", diff)
	}
	if err := w.engine.User("ada").Disconnect(t.Context(), core.Selector{Credential: account.ID}); err != nil {
		t.Fatal(err)
	}
	if got := m.of(t, "ada"); len(got) != 0 {
		t.Errorf("mailboxes after the disconnect = %v, want none", got)
	}
}
