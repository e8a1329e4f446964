package core

import (
	"context"
	"fmt"
)

// Meta returns what is stored of the connected user: JSON values under keys of the application's choice, such as "Name" and
// "Email". A user's browser can write it, so it must never decide what anybody may do (security 14). A user of whom nothing
// is stored has none.
//
// Every handle of the user gets it, whatever its token may do: it says nothing about accounts, and front ends show it to each
// person of that user. Keep nothing in it that one of them must not see. Errors: InputError, ErrPermission for one that acts
// as another person than its token says.
func (u *User) Meta(ctx context.Context) (map[string]any, error) {
	meta, err := u.meta(ctx)
	if err != nil {
		return nil, fmt.Errorf("metadata of user %s: %w", clip(u.id), err)
	}
	return meta, nil
}

func (u *User) meta(ctx context.Context) (map[string]any, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	record, _, err := u.e.user(ctx, u.id)
	return shownMeta(record.Meta), err
}

func shownMeta(meta map[string]any) map[string]any {
	if len(meta) == 0 {
		return map[string]any{}
	}
	return cloneJSON(meta)
}

// UpdateMeta changes what is stored of the connected user, and returns all of it. Changes merge: nil takes a value away, what
// is not named stays; the limits are those of ConfigurationInput.Meta. A user who was not known before is from then on.
// Errors: InputError, ErrPermission, ErrDeleting for a user who is about to go.
func (u *User) UpdateMeta(ctx context.Context, change map[string]any) (map[string]any, error) {
	meta, err := u.updateMeta(ctx, change)
	if err != nil {
		return nil, fmt.Errorf("update metadata of user %s: %w", clip(u.id), err)
	}
	return meta, nil
}

func (u *User) updateMeta(ctx context.Context, change map[string]any) (map[string]any, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	if u.authority != nil && !u.authority.user {
		return nil, ErrPermission
	}
	for try := 0; ; try++ {
		record, rev, err := u.e.user(ctx, u.id)
		switch {
		case err != nil:
			return nil, err
		case record.Deleting:
			return nil, ErrDeleting
		}
		merged, err := mergeMeta(record.Meta, change)
		if err != nil || len(change) == 0 {
			return shownMeta(merged), err
		}
		if record.Meta = merged; rev == 0 {
			record.Created = toMillis(u.e.now())
		}
		tx := u.e.db.Begin(ctx)
		u.e.tables.users.Put(tx, &record, rev, u.id)
		u.e.kernel.Emit(tx, u.event(EventUserUpdated, "request", "", "", map[string]string{"meta": names(change)}))
		if err = u.e.kernel.Commit(ctx, tx); !conflicted(err) {
			return shownMeta(merged), err
		}
		if err := again(ctx, try); err != nil {
			return nil, err
		}
	}
}
