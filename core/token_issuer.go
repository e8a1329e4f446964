package core

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// TokenIssuer is an identity provider, such as Firebase or Auth0, whose tokens are accepted as user tokens: their sub is the
// connected user. Several issuers that know different users under the same ids would let one's users act as the other's.
type TokenIssuer struct {
	Issuer string `json:"issuer"` // what iss says, byte by byte
	// Audiences are what aud may say; one is needed, because it is what keeps the issuer's other customers out.
	Audiences  []string  `json:"audiences"`
	KeysURL    string    `json:"keysUrl"`              // of its JWK set: https, or http for Options.PrivateHosts
	Algorithms []string  `json:"algorithms,omitempty"` // of RS256, ES256, EdDSA; empty means all three
	Created    time.Time `json:"dateCreated,omitzero"` // set by polycred, as are the next two
	Updated    time.Time `json:"dateUpdated,omitzero"`
	Revision   uint64    `json:"revision,omitempty"`
}

// SetTokenIssuer declares an issuer, or replaces the declaration of which Revision is the stored one, and returns it as it is
// stored. Other processes follow within 5 seconds. Errors: InputError, ErrConflict (Revision 0: it is there already),
// ErrTooMany for more than 20.
func (e *Engine) SetTokenIssuer(ctx context.Context, in TokenIssuer) (TokenIssuer, error) {
	out, err := e.setTokenIssuer(ctx, in)
	if err != nil {
		return TokenIssuer{}, fmt.Errorf("set token issuer %s: %w", clip(in.Issuer), err)
	}
	return out, nil
}

func (e *Engine) setTokenIssuer(ctx context.Context, in TokenIssuer) (TokenIssuer, error) {
	if e.ending.Load() {
		return TokenIssuer{}, ErrClosed
	}
	record := access.Issuer{
		Issuer: in.Issuer, Audiences: slices.Clone(in.Audiences), KeysURL: in.KeysURL, Algorithms: slices.Clone(in.Algorithms),
	}
	if err := e.checkIssuer(&record); err != nil {
		return TokenIssuer{}, err
	}
	record.Created, record.Updated = int64(toMillis(e.now())), int64(toMillis(e.now()))
	if in.Revision != 0 {
		old, rev, err := e.door.Issuers.Get(ctx, in.Issuer)
		if errors.Is(err, storage.ErrNotFound) || err == nil && uint64(rev) != in.Revision {
			err = ErrConflict
		}
		if err != nil {
			return TokenIssuer{}, err
		}
		record.Created = old.Created
	}
	rev, err := e.door.Issuers.Put(ctx, in.Issuer, &record, storage.Rev(in.Revision),
		e.operator(EventTokenIssuerSet, map[string]string{"issuer": in.Issuer}))
	e.door.Forget()
	return publicIssuer(&record, rev), declaring(err)
}

// checkIssuer refuses what could not be used, before it is stored.
func (e *Engine) checkIssuer(record *access.Issuer) error {
	u, err := url.Parse(record.KeysURL)
	if err == nil && u.Scheme == "http" && !slices.Contains(e.opts.PrivateHosts, u.Host) {
		return invalid("keysUrl", "must be https; plain http needs its host and port in Options.PrivateHosts")
	}
	verifies := usertoken.Issuer{
		Issuer: record.Issuer, Audiences: record.Audiences, KeysURL: record.KeysURL, Algorithms: record.Algorithms,
	}
	sets, err := usertoken.NewKeySets(e.out, &usertoken.KeySetsOptions{PlainHTTP: e.opts.PrivateHosts})
	if err == nil {
		_, err = usertoken.New(usertoken.Options{Project: e.Project(), Issuers: []usertoken.Issuer{verifies}, KeySets: sets})
	}
	if err != nil {
		return invalid("issuer", "cannot be declared: "+strings.TrimPrefix(err.Error(), "issuers.0: "))
	}
	return nil
}

func publicIssuer(r *access.Issuer, rev storage.Rev) TokenIssuer {
	return TokenIssuer{
		Issuer: r.Issuer, Audiences: r.Audiences, KeysURL: r.KeysURL, Algorithms: r.Algorithms,
		Created: millis(r.Created).time(), Updated: millis(r.Updated).time(), Revision: uint64(rev),
	}
}

// TokenIssuers returns those that are declared, ordered by name.
func (e *Engine) TokenIssuers(ctx context.Context) ([]TokenIssuer, error) {
	if e.ending.Load() {
		return nil, ErrClosed
	}
	rows, err := e.door.Issuers.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("list token issuers: %w", err)
	}
	issuers := make([]TokenIssuer, len(rows))
	for i := range rows {
		issuers[i] = publicIssuer(&rows[i].Value, rows[i].Rev)
	}
	return issuers, nil
}

// DeleteTokenIssuer ends that an issuer's tokens are accepted, in this process at once, in others within 5 seconds. Errors:
// ErrNotFound.
func (e *Engine) DeleteTokenIssuer(ctx context.Context, issuer string) error {
	err := e.undeclare(ctx, func(ctx context.Context) error {
		rev, err := e.door.Issuers.Rev(ctx, issuer)
		if err != nil {
			return err
		}
		return e.door.Issuers.Delete(ctx, issuer, rev, e.operator(EventTokenIssuerDeleted, map[string]string{"issuer": issuer}))
	})
	if err != nil {
		return fmt.Errorf("delete token issuer %s: %w", clip(issuer), err)
	}
	return nil
}
