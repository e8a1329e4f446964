package core

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/core/internal/recall"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/core/internal/usage"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/singleflight"
)

// Engine is one project of a store: its integrations, and the credentials of its users. Open makes one, Close ends it.
// All its methods, and those of the User handles it gives out, may be called concurrently.
//
// Beside the errors that a method lists, every method may return ErrClosed, the context's error, *sealed.CorruptError and
// *sealed.FormatError for what lies in the store, and those of the store; the methods of User also ErrNoTokens.
type Engine struct {
	opts   Options
	store  storage.Store
	db     *sealed.DB
	log    *slog.Logger
	out    *egress.Transport
	boot   string // this run of the program
	by     uint64 // the same in few bytes
	tables tables
	kernel *kernel.Kernel
	leases *lease.Table
	jobs   *job.Jobs[reportRecord]
	// watched is how long pauses and tokens of other processes have been seen, whose clocks may differ from ours.
	watched  *lease.Watch
	uses     *usage.Counter[useKey]
	revoker  *revocation.Revoker
	disabled disabled
	ahead    *scheduler
	health   vitals

	quarantined bool
	exclusive   bool // no other process has the store open
	door        *access.Door
	// authorities reads what a connect session keeps of an authority, for a person: decodeAuthority, but for tests.
	authorities func(raw []byte, person string) (*authority, error)

	telemetry *telemetry.Instruments
	unobserve func() // ends that metrics ask for unsaved tokens

	last *recall.Memory[Selector, tokenRecord] // by user; what was given out, for when the store cannot be reached

	providers sync.Map           // integration name → *provider, for cacheTTL
	refreshes singleflight.Group // by user and credential
	behind    sync.Map           // those of them that run behind a call
	unsaved   sync.Map           // by the same → unsaved

	mu     sync.Mutex      // guards ending against adding to work
	work   sync.WaitGroup  // refreshes, callbacks and key tests in flight
	ending atomic.Bool     // Close was called
	closed context.Context // done once Close was called
	end    context.CancelFunc
}

// boot is this run of the program: a lease of another one, on a store that only one process can have open, is over.
var boot = newID()

// cacheTTL is how long an integration is used as it was read.
const cacheTTL = 5 * time.Second

// Open opens a project of store; o may be nil. keks.Policy is needed; without keks.Tokens the engine can declare
// integrations and nothing else. The store stays the caller's: close the engine first, then the store.
//
// Any number of engines may be open on a store and project, in as many processes as the store allows: they refresh each
// token once between them. One for each process is what most programs need.
//
// A key-encryption key in a file inside the store's directory is refused with ErrKEKInStore. A store that was copied or
// moved is opened in quarantine, see Options.TakeOver and Engine.Quarantined.
//
// Errors: InputError for options, crypto.ErrWrongKEK, *sealed.FormatError for a store of a newer program,
// *sealed.CorruptError, *sealed.ProjectsError when several projects exist and none is named, and those of the store.
func Open(ctx context.Context, store storage.Store, keks crypto.KEKs, o *Options) (*Engine, error) {
	opts, err := o.prepare()
	if err == nil {
		err = checkParts(store, keks)
	}
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	measured := telemetry.New(opts.MeterProvider, opts.TracerProvider)
	db, err := sealed.Open(ctx, measured.Store(store), keks, opts.Project, &sealed.Options{Now: opts.Now})
	if errors.Is(err, crypto.ErrWrongKEK) {
		err = fmt.Errorf("%w%s", err, whichKEK(keks))
	}
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	out, err := egress.New(egress.Options{
		Allow: opts.PrivateHosts, EnvironmentProxy: opts.EnvironmentProxy, Timeout: opts.ProviderTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", invalid("privateHosts", err.Error()))
	}
	e := &Engine{opts: opts, store: store, db: db, log: opts.Logger, out: out, boot: cmp.Or(opts.boot, boot), tables: newTables(db, opts.Now)}
	e.by = binary.BigEndian.Uint64(digest("boot", e.boot))
	e.telemetry, e.unobserve = measured, func() {}
	e.kernel, e.authorities = kernel.New(db, e.now, e.log), decodeAuthority
	e.kernel.Measure(measured)
	if e.door, err = access.New(e.kernel, e.tables.access, access.Options{
		Transport: out, PlainHTTP: opts.PrivateHosts, MaxLifetime: opts.TokenLifetime, TTL: cacheTTL,
	}); err != nil {
		out.Close()
		return nil, fmt.Errorf("open engine: %w", invalid("privateHosts", err.Error()))
	}
	exclusive, ok := store.(storage.Exclusive)
	e.exclusive = ok && exclusive.Exclusive()
	if !e.exclusive { // one that no other process can have open lies in this one: it does not go away
		e.last = recall.New[Selector, tokenRecord](recall.Options{TTL: opts.OutageTTL, Size: lastTokens, Now: opts.Now})
		e.kernel.OnEvent(e.forgetTokens)
	}
	e.leases = lease.New(db, lease.Options{Boot: e.boot, Exclusive: e.exclusive, TTL: opts.LeaseTTL, Now: opts.Now})
	e.watched = lease.NewWatch(mostSkew, 0)
	e.closed, e.end = context.WithCancel(context.Background())
	e.jobs = job.New(e.kernel, e.leases, e.tables.jobs, job.Options[reportRecord]{Kind: e.kindOf, Begin: e.begin, TTL: opts.LeaseTTL})
	e.uses = newUses()
	e.ahead = newScheduler(e)
	e.revoker = e.newRevoker()
	e.background()
	if err := e.bootUp(ctx); err != nil {
		out.Close()
		return nil, err
	}
	e.unobserve = measured.Unsaved(e.countUnsaved)
	return e, nil
}

// checkParts checks what an engine is made of.
func checkParts(store storage.Store, keks crypto.KEKs) error {
	if v := reflect.ValueOf(store); store == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return invalid("store", "is nil: open one with storage/badger, or storage/memory for tests")
	}
	if keks.Policy == nil {
		return invalid("keks.policy", "is nil: pass a key-encryption key; one may serve as Tokens and Policy")
	}
	for field, kek := range map[string]any{"keks.tokens": keks.Tokens, "keks.policy": keks.Policy} {
		if local, ok := kek.(*crypto.LocalKEK); ok && local == nil {
			return invalid(field, "is a nil *crypto.LocalKEK: look at the error of OpenKEK or CreateKEK")
		}
		if err := checkKEKPlace(store, kek); err != nil {
			return err
		}
	}
	return nil
}

// whichKEK names the files that the keys came from, for an error that says they are the wrong ones.
func whichKEK(keks crypto.KEKs) string {
	var files []string
	for _, kek := range []any{keks.Tokens, keks.Policy} {
		if file, ok := kek.(interface{ Path() string }); ok && file.Path() != "" && !slices.Contains(files, file.Path()) {
			files = append(files, file.Path())
		}
	}
	if len(files) == 0 {
		return ""
	}
	return "; the keys came from " + strings.Join(files, " and ")
}

// checkKEKPlace keeps key and ciphertext apart: whoever copies the directory must not get both.
func checkKEKPlace(store storage.Store, kek any) error {
	dir, isDir := store.(interface{ Dir() string })
	file, isFile := kek.(interface{ Path() string })
	if !isDir || !isFile || file.Path() == "" || dir.Dir() == "" {
		return nil
	}
	inside, err := within(dir.Dir(), file.Path())
	if err != nil {
		return fmt.Errorf("find out where the key-encryption key lies: %w", err)
	}
	if inside {
		return fmt.Errorf("%w: move %s out of %s, so that no backup of the store contains its key", ErrKEKInStore, file.Path(), dir.Dir())
	}
	return nil
}

func within(dir, file string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	if file, err = filepath.EvalSymlinks(file); err != nil {
		return false, err
	}
	rel, err := filepath.Rel(dir, file)
	if err != nil {
		return false, nil // on another volume
	}
	return rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// Project returns the UUID of the engine's project.
func (e *Engine) Project() string { return e.db.Project() }

// Quarantined reports whether the store was copied or moved since it was last opened to act. Valid tokens are still
// given out, but nothing is refreshed, revoked or carried on: a second copy that refreshes would kill the rotating tokens
// of the first. It lasts as long as the engine; Options.TakeOver lifts it for the next.
func (e *Engine) Quarantined() bool { return e.quarantined }

// Kernel is for polycred's own packages that build on an engine; its type cannot be named elsewhere.
func (e *Engine) Kernel() *kernel.Kernel { return e.kernel }

// User returns the handle of a connected user, with all rights. It does no I/O: a malformed id comes out of its methods
// as an InputError.
func (e *Engine) User(id string) *User { return &User{e: e, id: id} }

// Close ends the engine and waits for what must not be cut off: refreshes, callbacks and keys that are being tried.
// Each ends by itself within a few times Options.ProviderTimeout. It does not close the store. Later calls give
// ErrClosed; closing twice is no error.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.ending.Store(true)
	e.end()
	e.mu.Unlock()
	e.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.tellUses(ctx); err != nil {
		e.log.WarnContext(ctx, "who used which account in the last minute could not be written down", "error", err)
	}
	e.out.Close()
	e.unobserve()
	return nil
}

// begin registers work that Close waits for.
func (e *Engine) begin() (done func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending.Load() {
		return nil, ErrClosed
	}
	e.work.Add(1)
	return e.work.Done, nil
}

// usable reports why the engine cannot act as a user, if so.
func (e *Engine) usable() error {
	switch {
	case e.ending.Load():
		return ErrClosed
	case !e.db.HasTokens():
		return ErrNoTokens
	}
	return nil
}

func (e *Engine) now() time.Time { return e.opts.Now() }

// conflicted reports whether err says that somebody else changed a record first.
func conflicted(err error) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict)
}

// CallbackURL is Options.CallbackURL: where providers send browsers back to.
func (e *Engine) CallbackURL() string { return e.opts.CallbackURL }

// Unselected is Options.Unselected.
func (e *Engine) Unselected() Unselected { return e.opts.Unselected }
