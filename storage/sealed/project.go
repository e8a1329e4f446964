package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage"
)

// storeFormat is the format of the store as a whole: its key layout and envelope.
const storeFormat = 1

// storeRecord is the one readable record: what a program must know before it holds any key.
type storeRecord struct {
	Format int    `cbor:"1,keyasint"`
	ID     []byte `cbor:"2,keyasint"`
}

// openProject finds or makes the store record and the project.
func openProject(ctx context.Context, store storage.Store, name string) (id, project uuid.UUID, err error) {
	if name != "" {
		if project, err = uuid.Parse(name); err != nil || project == uuid.Nil {
			return id, project, fmt.Errorf("project %q is not a UUID: leave it empty for the store's only project", name)
		}
	}
	for {
		id, chosen, err := tryProject(ctx, store, project)
		var conflict *storage.ConflictError
		if errors.As(err, &conflict) { // another opener was first
			continue
		}
		return id, chosen, err
	}
}

// tryProject makes what is missing in one batch. Every new project also replaces the store record, so that two first
// openers cannot each make one.
func tryProject(ctx context.Context, store storage.Store, want uuid.UUID) (id, project uuid.UUID, err error) {
	key := []byte{tagStore}
	item, err := store.Get(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if id, err = uuid.NewRandom(); err != nil {
			return id, project, err
		}
		body, err := encoder.Marshal(storeRecord{Format: storeFormat, ID: id[:]})
		if err != nil {
			return id, project, err
		}
		item = storage.Item{Value: append([]byte{envelopeVersion}, body...)}
	case err != nil:
		return id, project, fmt.Errorf("open store: %w", err)
	default:
		if id, err = readStore(item.Value); err != nil {
			return id, project, err
		}
	}

	projects, err := projects(ctx, store)
	if err != nil {
		return id, project, err
	}
	switch {
	case want == uuid.Nil && len(projects) == 1:
		return id, projects[0], nil
	case want == uuid.Nil && len(projects) > 1:
		several := &ProjectsError{}
		for _, p := range projects {
			several.Projects = append(several.Projects, p.String())
		}
		return id, project, several
	}
	for _, p := range projects {
		if p == want {
			return id, want, nil
		}
	}
	if project = want; want == uuid.Nil {
		if project, err = uuid.NewV7(); err != nil {
			return id, project, err
		}
	}
	rev := item.Rev + 1
	if item.Rev == 0 {
		rev = creationRev()
	}
	return id, project, store.Apply(ctx, storage.Batch{Puts: []storage.Put{
		{Key: key, Value: item.Value, If: item.Rev, Rev: rev},
		{Key: appendPart([]byte{tagProject}, string(project[:])), If: storage.Any, Rev: 1},
	}})
}

func readStore(value []byte) (uuid.UUID, error) {
	body, err := ciphertext(value)
	if err != nil {
		return uuid.Nil, &CorruptError{Table: "store", Err: err}
	}
	var record storeRecord
	err = decoder.Unmarshal(body, &record) // reads on behind a field whose type does not fit
	if record.Format > storeFormat {
		return uuid.Nil, &FormatError{Table: "store", Format: record.Format, Known: storeFormat}
	}
	if err != nil {
		return uuid.Nil, &CorruptError{Table: "store", Err: err}
	}
	id, err := uuid.FromBytes(record.ID)
	if err != nil {
		return uuid.Nil, &CorruptError{Table: "store", Err: err}
	}
	return id, nil
}

func projects(ctx context.Context, store storage.Store) ([]uuid.UUID, error) {
	prefix := []byte{tagProject}
	page, err := store.Scan(ctx, storage.Range{Start: prefix, End: storage.PrefixEnd(prefix), KeysOnly: true})
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	var ids []uuid.UUID
	for _, item := range page.Items {
		parts, err := splitParts(item.Key[1:])
		if err != nil || len(parts) != 1 || len(parts[0]) != len(uuid.Nil) {
			return nil, &CorruptError{Table: "project", Err: errKeyForm}
		}
		ids = append(ids, uuid.UUID([]byte(parts[0])))
	}
	return ids, nil
}
