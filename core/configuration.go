package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// maxConfigurations is how many configurations an account has at most, beside its default one: all of them go with it,
// in one batch.
const maxConfigurations = 32

// Configuration is a set of settings of one account. Each account has a default one, which has the account's id and goes
// only with it, and may have more: one for each folder that is watched, say.
type Configuration struct {
	ID          string `json:"id"` // a UUID; ids sort by the time they were made
	Credential  string `json:"credential"`
	Integration string `json:"integration"`
	Default     bool   `json:"isDefault"`
	// ExternalID is the application's own name for it, unique within the account; may be empty.
	ExternalID string `json:"externalId,omitempty"`

	// Settings are the values of Integration.Settings, with defaults where none was given. Those of type password are not
	// among them: Passwords names those that are set, User.Password reads one. Missing names the required ones without value.
	Settings  map[string]any `json:"settings"`
	Passwords []string       `json:"passwords,omitempty"`
	Missing   []string       `json:"missing,omitempty"`
	// Meta is the application's own: JSON values under keys of its choice; see ConfigurationInput.
	Meta map[string]any `json:"meta"`

	Created time.Time `json:"dateCreated"`
	Updated time.Time `json:"dateUpdated"`
	// Revision is the state that was read; see ConfigurationUpdate.
	Revision uint64 `json:"revision"`
}

// configurationRecord is a configuration as it is stored. That of the default one is changed by everything that comes and
// goes beside it, so that a disconnect takes all.
type configurationRecord struct {
	ID         string         `cbor:"1,keyasint"`
	ExternalID string         `cbor:"2,keyasint,omitempty"`
	Settings   map[string]any `cbor:"3,keyasint,omitempty"`
	Passwords  []string       `cbor:"4,keyasint,omitempty"` // ids of those that are set: see passwordRecord
	Meta       map[string]any `cbor:"5,keyasint,omitempty"`
	Created    millis         `cbor:"6,keyasint"`
	Updated    millis         `cbor:"7,keyasint"`
	Others     int            `cbor:"8,keyasint,omitempty"` // of the default one: how many there are beside it
}

// configurationIDRecord says which configuration of a credential an external id means.
type configurationIDRecord struct {
	Configuration string `cbor:"1,keyasint"`
}

// ConfigurationInput describes a configuration to be created. All of it may be empty.
type ConfigurationInput struct {
	ExternalID string         // unique within the account; otherwise as in ConnectInput
	Settings   map[string]any // by the inputs' ids; package core/input says what each may be
	// Meta has at most 16 KiB as JSON. One change names at most 100 keys, of 1 to 255 bytes; a value has at most 8 levels
	// of maps and lists.
	Meta map[string]any
}

// ConfigurationUpdate says what changes. What it does not name stays as it is, so that nobody's change is lost.
type ConfigurationUpdate struct {
	Settings map[string]any // by the inputs' ids; nil takes a value away, so that the default counts again
	Meta     map[string]any // by key; nil takes a value away; the limits are those of ConfigurationInput
	// ExternalID is the new one, empty for none; nil leaves it. The default configuration has none.
	ExternalID *string
	// Revision is the state that the change is meant for: ErrConflict when there is another. 0: whatever there is.
	Revision uint64
}

// Configurations lists those of the account that sel names, whatever its status, when sel names none of the only one
// there is: the default one first, then the others, oldest first.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError.
func (u *User) Configurations(ctx context.Context, sel Selector) ([]Configuration, error) {
	found, err := u.configurations(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("configurations of %s: %w", sel, err)
	}
	return found, nil
}

func (u *User) configurations(ctx context.Context, sel Selector) ([]Configuration, error) {
	id, err := u.pick(ctx, Selector{Integration: sel.Integration, Credential: sel.Credential, Configuration: sel.Configuration})
	if err != nil {
		return nil, err
	}
	record, _, err := u.record(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := u.e.provider(ctx, record.Integration)
	if err != nil {
		return nil, err
	}
	rows, err := u.e.configurationRows(ctx, u.id, &record)
	if err != nil {
		return nil, err
	}
	var found []Configuration
	for i := range rows {
		if u.mayConfigure(actReadConfiguration, &record, &rows[i].Value) {
			found = append(found, rows[i].Value.public(p, record.ID, rows[i].Rev))
		}
	}
	return found, nil
}

// configurationRows reads all configurations of an account, the default one first, also where it has no record yet.
func (e *Engine) configurationRows(ctx context.Context, user string, record *credentialRecord) ([]sealed.Row[configurationRecord], error) {
	rows, _, err := e.tables.configurations.List(ctx, []string{user, record.ID}, nil, maxConfigurations+1)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(row sealed.Row[configurationRecord]) bool { return row.Value.ID == record.ID })
	var first sealed.Row[configurationRecord]
	if i >= 0 {
		first = rows[i] // on a line of its own: Delete moves what lies there
		rows = slices.Delete(rows, i, i+1)
	} else {
		first.Value = record.defaultConfiguration()
	}
	return slices.Insert(rows, 0, first), nil
}

// defaultConfiguration is what an account has before anything was set, and one that was connected before there were
// configurations.
func (r *credentialRecord) defaultConfiguration() configurationRecord {
	return configurationRecord{ID: r.ID, Created: r.Created, Updated: r.Created}
}

func (e *Engine) putDefaultConfiguration(tx *sealed.Tx, user string, record *credentialRecord) {
	first := record.defaultConfiguration()
	e.tables.configurations.Put(tx, &first, 0, user, record.ID, record.ID)
}

// Configuration returns the configuration that sel names, without Configuration in it the default one of the account that
// it names, and when it names none of the only one there is, whatever its status.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError.
func (u *User) Configuration(ctx context.Context, sel Selector) (Configuration, error) {
	c, err := u.configured(ctx, sel, actReadConfiguration)
	if err != nil {
		return Configuration{}, fmt.Errorf("configuration of %s: %w", sel, err)
	}
	return c.record.public(c.p, c.credential.ID, c.rev), nil
}

// configured is a configuration that was read, with what it hangs on.
type configured struct {
	p             *provider
	credential    credentialRecord
	credentialRev storage.Rev
	record        configurationRecord
	rev           storage.Rev // 0: a default one without record
}

// configured reads the configuration that sel names and checks that the handle may do that to it.
func (u *User) configured(ctx context.Context, sel Selector, a action) (c configured, err error) {
	var id, configuration string
	if sel.Configuration == "" {
		id, err = u.pick(ctx, sel)
	} else {
		id, configuration, err = u.locate(ctx, sel)
	}
	if err == nil {
		c, err = u.readConfiguration(ctx, id, configuration, a)
	}
	if err == nil {
		err = sel.fits(id, c.credential.Integration)
	}
	return c, err
}

// readConfiguration reads a configuration, "" for the default one, of a credential, and checks that the handle may do that
// to it; actNone where it only counts those beside it.
func (u *User) readConfiguration(ctx context.Context, credential, id string, a action) (c configured, err error) {
	if c.credential, c.credentialRev, err = u.record(ctx, credential); err != nil {
		return c, err
	}
	if c.p, err = u.e.freshProvider(ctx, c.credential.Integration); err != nil {
		return c, err
	}
	if id == "" {
		id = credential
	}
	c.record, c.rev, err = u.e.tables.configurations.Get(ctx, u.id, credential, id)
	switch {
	case errors.Is(err, storage.ErrNotFound) && id == credential:
		c.record = c.credential.defaultConfiguration()
	case errors.Is(err, storage.ErrNotFound):
		return c, fmt.Errorf("configuration %s: %w", id, ErrNotFound)
	case err != nil:
		return c, err
	}
	switch {
	case a == actNone || u.mayConfigure(a, &c.credential, &c.record):
		return c, nil
	case u.mayConfigure(actReadConfiguration, &c.credential, &c.record):
		return c, fmt.Errorf("configuration %s: %w", id, ErrPermission)
	}
	return c, fmt.Errorf("configuration %s: %w", id, ErrNotFound)
}

func (u *User) mayConfigure(a action, credential *credentialRecord, record *configurationRecord) bool {
	s := credential.subject()
	s.configuration = record.ExternalID
	return u.may(a, s)
}

// CreateConfiguration adds a configuration to the account that sel names, whatever its status, when sel names none to the
// only one there is, and returns it. An account has at most 32 beside its default one.
//
// Errors: InputError, also when sel names a configuration, ErrNotFound, ErrNotConnected, AmbiguousError, ErrExternalID when
// the account has one of that external id, ErrHiddenConflict when that is one which the handle may not see, ErrTooMany,
// ErrPermission.
func (u *User) CreateConfiguration(ctx context.Context, sel Selector, in ConfigurationInput) (Configuration, error) {
	c, err := u.createConfiguration(ctx, sel, in)
	if err != nil {
		return Configuration{}, fmt.Errorf("create configuration of %s: %w", sel, err)
	}
	return c, nil
}

func (u *User) createConfiguration(ctx context.Context, sel Selector, in ConfigurationInput) (Configuration, error) {
	var none Configuration
	if sel.Configuration != "" {
		return none, invalid("configuration", "is given: a new one is named by its external id, in the input")
	}
	id, err := u.pick(ctx, sel)
	if err != nil {
		return none, err
	}
	record := configurationRecord{ID: newID()}
	if in.ExternalID != "" {
		if record.ExternalID, err = cleanExternalID(in.ExternalID); err != nil {
			return none, err
		}
	}
	for try := 0; ; try++ {
		first, err := u.readConfiguration(ctx, id, "", actNone)
		if err != nil {
			return none, err
		}
		if try > 0 { // the store's answer may have been lost, and the batch have landed late
			made, rev, err := u.e.tables.configurations.Get(ctx, u.id, id, record.ID)
			if err == nil {
				return made.public(first.p, id, rev), nil
			} else if !errors.Is(err, storage.ErrNotFound) {
				return none, err
			}
		}
		if !u.mayConfigure(actWriteConfiguration, &first.credential, &record) {
			return none, fmt.Errorf("a new configuration of credential %s: %w", id, ErrPermission)
		}
		if first.record.Others >= maxConfigurations {
			return none, fmt.Errorf("%w: an account has at most %d configurations beside its default one", ErrTooMany, maxConfigurations)
		}
		merged, err := input.Merge("settings", first.p.Settings, input.Values{}, in.Settings)
		if err != nil {
			return none, wrongInput(err)
		}
		record.Settings = merged.Open
		if record.Meta, err = mergeMeta(nil, in.Meta); err != nil {
			return none, err
		}
		record.Created = toMillis(u.e.now())
		record.Updated = record.Created
		tx := u.e.db.Begin(ctx)
		first.record.Others++
		u.e.tables.configurations.Put(tx, &first.record, first.rev, u.id, id, id)
		u.e.putPasswords(tx, u.id, id, &record, merged.Secrets, 0)
		rev := u.e.tables.configurations.Put(tx, &record, 0, u.id, id, record.ID)
		u.e.tables.byConfig.Mark(tx, u.id, record.ID, id)
		if err := u.claimConfiguration(ctx, tx, &first.credential, &record); err != nil {
			return none, err
		}
		u.tellConfiguration(tx, EventConfigurationCreated, &first.credential, &record, rev, map[string]string{"externalId": record.ExternalID})
		if err := u.commitConfiguration(ctx, tx, &first); !conflicted(err) {
			return record.public(first.p, id, rev), err
		}
		if err := again(ctx, try); err != nil {
			return none, err
		}
	}
}

// UpdateConfiguration changes the configuration that sel names, and returns it; which one that is when sel names none,
// User.Configuration says. Changes merge: of two at the same time none is lost.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrConflict for another Revision, ErrExternalID,
// ErrHiddenConflict, ErrPermission.
func (u *User) UpdateConfiguration(ctx context.Context, sel Selector, in ConfigurationUpdate) (Configuration, error) {
	c, err := u.updateConfiguration(ctx, sel, in)
	if err != nil {
		return Configuration{}, fmt.Errorf("update configuration of %s: %w", sel, err)
	}
	return c, nil
}

func (u *User) updateConfiguration(ctx context.Context, sel Selector, in ConfigurationUpdate) (Configuration, error) {
	var none Configuration
	c, err := u.configured(ctx, sel, actWriteConfiguration)
	for try := 0; ; try++ {
		if try > 0 {
			c, err = u.readConfiguration(ctx, c.credential.ID, c.record.ID, actWriteConfiguration)
		}
		switch {
		case err != nil:
			return none, err
		case in.Revision != 0 && in.Revision != uint64(c.rev):
			return none, ErrConflict
		}
		secrets, secretsRev, err := u.e.passwords(ctx, u.id, c.credential.ID, &c.record)
		if err != nil {
			return none, err
		}
		if len(in.Settings) == 0 && len(in.Meta) == 0 && in.ExternalID == nil {
			return c.record.public(c.p, c.credential.ID, c.rev), nil
		}
		merged, err := input.Merge("settings", c.p.Settings, input.Values{Open: c.record.Settings, Secrets: secrets}, in.Settings)
		if err != nil {
			return none, wrongInput(err)
		}
		next := c.record
		next.Settings, next.Updated = merged.Open, toMillis(u.e.now())
		if next.Meta, err = mergeMeta(c.record.Meta, in.Meta); err != nil {
			return none, err
		}
		details := map[string]string{"settings": names(in.Settings), "meta": names(in.Meta)}
		tx := u.e.db.Begin(ctx)
		if in.ExternalID != nil {
			if err := u.renameConfiguration(ctx, tx, &c, &next, *in.ExternalID); err != nil {
				return none, err
			}
			if next.ExternalID != c.record.ExternalID {
				details["changed"], details["externalId"] = "externalId", next.ExternalID
			}
		}
		u.e.putPasswords(tx, u.id, c.credential.ID, &next, merged.Secrets, secretsRev)
		rev := u.e.tables.configurations.Put(tx, &next, c.rev, u.id, c.credential.ID, next.ID)
		u.tellConfiguration(tx, EventConfigurationUpdated, &c.credential, &next, rev, details)
		if err := u.commitConfiguration(ctx, tx, &c); !conflicted(err) {
			return next.public(c.p, c.credential.ID, rev), err
		}
		if err := again(ctx, try); err != nil {
			return none, err
		}
	}
}

// DeleteConfiguration removes the configuration that sel names, which is not a default one.
// Errors: InputError, also when sel names no configuration, or a default one; ErrNotFound, AmbiguousError, ErrPermission.
func (u *User) DeleteConfiguration(ctx context.Context, sel Selector) error {
	if err := u.deleteConfiguration(ctx, sel); err != nil {
		return fmt.Errorf("delete configuration of %s: %w", sel, err)
	}
	return nil
}

func (u *User) deleteConfiguration(ctx context.Context, sel Selector) error {
	if sel.Configuration == "" {
		return invalid("configuration", "is empty: name the one to delete; the default one goes with its account")
	}
	c, err := u.configured(ctx, sel, actWriteConfiguration)
	if err == nil && c.record.ID == c.credential.ID {
		err = invalid("configuration", "is the account's default one, which goes with its account")
	}
	for try := 0; ; try++ {
		if try > 0 {
			c, err = u.readConfiguration(ctx, c.credential.ID, c.record.ID, actWriteConfiguration)
		}
		if err != nil {
			return err
		}
		first, err := u.readConfiguration(ctx, c.credential.ID, "", actNone)
		if err != nil {
			return err
		}
		tx := u.e.db.Begin(ctx)
		first.record.Others--
		u.e.tables.configurations.Put(tx, &first.record, first.rev, u.id, c.credential.ID, c.credential.ID)
		going := sealed.Row[configurationRecord]{Value: c.record, Rev: c.rev}
		if err := u.e.dropConfigurations(ctx, tx, u.id, &c.credential, going); err != nil {
			return err
		}
		u.tellConfiguration(tx, EventConfigurationDeleted, &c.credential, &c.record, c.rev+1, map[string]string{"externalId": c.record.ExternalID})
		if err := u.commitConfiguration(ctx, tx, &first); !conflicted(err) {
			return err
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

func (u *User) tellConfiguration(tx *sealed.Tx, kind EventKind, credential *credentialRecord, record *configurationRecord, rev storage.Rev, details map[string]string) {
	ev := u.event(kind, "request", credential.Integration, credential.ID, details)
	ev.Configuration, ev.Revision = record.ID, uint64(rev)
	u.e.kernel.Emit(tx, ev)
}

func (r *configurationRecord) public(p *provider, credential string, rev storage.Rev) Configuration {
	c := Configuration{
		ID: r.ID, Credential: credential, Integration: p.Name, Default: r.ID == credential, ExternalID: r.ExternalID,
		Meta: cloneJSON(r.Meta), Created: r.Created.time(), Updated: r.Updated.time(), Revision: uint64(rev),
	}
	if c.Meta == nil {
		c.Meta = map[string]any{}
	}
	c.Settings, c.Passwords, c.Missing = input.Shown(p.Settings, input.Values{Open: r.Settings, Secrets: r.marks()})
	if c.Settings == nil {
		c.Settings = map[string]any{}
	}
	return c
}

// names are the keys of a change, sorted, with commas between; never their values.
func names(change map[string]any) string {
	keys := slices.Sorted(maps.Keys(change))
	for i := range keys {
		keys[i] = short(keys[i]) // as they are: whoever shows an event escapes them
	}
	return strings.Join(keys, ",")
}

// dropConfigurations adds to tx that these configurations of an account go, with their passwords and external ids: what
// it reads does not grow with their number.
func (e *Engine) dropConfigurations(ctx context.Context, tx *sealed.Tx, user string, credential *credentialRecord, rows ...sealed.Row[configurationRecord]) error {
	going := make(map[string]string, len(rows)) // id → external id
	secret := false
	for i := range rows {
		r := &rows[i].Value
		if going[r.ID] = r.ExternalID; rows[i].Rev == 0 { // a default one that has no record yet
			continue
		}
		e.tables.configurations.Delete(tx, rows[i].Rev, user, credential.ID, r.ID)
		if r.ID != credential.ID {
			e.tables.byConfig.Unmark(tx, user, r.ID, credential.ID)
		}
		secret = secret || len(r.Passwords) > 0
	}
	if secret {
		stored, _, err := e.tables.passwords.Keys(ctx, []string{user, credential.ID}, nil, maxConfigurations+1)
		if err != nil {
			return err
		}
		for _, row := range stored {
			if _, goes := going[row.Key[len(row.Key)-1]]; goes {
				e.tables.passwords.Delete(tx, row.Rev, row.Key...)
			}
		}
	}
	return e.dropConfigurationIDs(ctx, tx, user, credential, going)
}
